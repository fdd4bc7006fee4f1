//! Pairs with the margins of every model.

use super::dataset::{Comparison, Dataset, RatedPlaces};
use super::metrics::best_of_n::RatedRow;
use super::rewards::Rewards;

/// The pairs of a set that every model has scored.
pub(super) struct Judged<'a> {
    pub(super) set: &'a Dataset,
    pub(super) comparisons: Vec<&'a Comparison>,
    /// For each model the margins of the comparisons.
    pub(super) margins: Vec<Vec<f64>>,
    pub(super) rated: Vec<RatedRow>,
    pub(super) failed_rows: u64,
}

impl<'a> Judged<'a> {
    /// Joins a set with the rewards of each model.
    pub(super) fn new(set: &'a Dataset, rewards: &[&Rewards]) -> Self {
        let margins = |comparison: &Comparison| {
            let margin = |r: &&Rewards| Some(r.of(comparison.better)? - r.of(comparison.worse)?);
            rewards.iter().map(margin).collect::<Option<Vec<f64>>>()
        };
        let judged = set.comparisons.iter();
        let judged = judged.filter_map(|c| Some((c, margins(c)?)));
        let (comparisons, by_pair): (Vec<_>, Vec<Vec<f64>>) = judged.unzip();
        let of_model = |model: usize| by_pair.iter().map(|margins| margins[model]).collect();
        let rated = set.rated.iter().filter_map(|row| rated(row, rewards));
        Self {
            set,
            comparisons,
            margins: (0..rewards.len()).map(of_model).collect(),
            rated: rated.collect(),
            failed_rows: set.failures(rewards.iter().copied()).len() as u64,
        }
    }

    /// The lengths by which the better responses are longer, in characters.
    pub(super) fn longer(&self) -> Vec<i64> {
        self.each(|comparison| comparison.longer)
    }

    /// A value of each comparison.
    pub(super) fn each<T>(&self, value: impl Fn(&Comparison) -> T) -> Vec<T> {
        let comparisons = self.comparisons.iter();
        comparisons.map(|comparison| value(comparison)).collect()
    }
}

/// The rewards of a rated row; `None` if a model has no reward for one of the responses.
fn rated(row: &RatedPlaces, rewards: &[&Rewards]) -> Option<RatedRow> {
    let of_model = |r: &&Rewards| row.places.iter().map(|place| r.of(*place)).collect();
    Some(RatedRow {
        ratings: row.ratings.clone(),
        rewards: rewards.iter().map(of_model).collect::<Option<_>>()?,
    })
}
