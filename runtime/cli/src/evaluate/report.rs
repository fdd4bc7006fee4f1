//! What an evaluation says, all of it: `report.json` is this as it stands, the page and the table are made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use seeward_models::sample::Group;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::arguments::Job;
use super::disagreement::{self, Disagreement};
use super::metrics::best_of_n::RatedRow;
use super::metrics::groups::{Questions, macro_mean};
use super::metrics::{
    Accuracy, Agreement, BestOfN, Calibration, Groups, Length, Margins, Measured, Shortcut,
};
use super::scoring::{Rewards, Scorer};
use super::set::{Comparison, RatedPlaces, Set};
use super::training::Training;
use super::{COMPARE, LENGTH_ONLY, TEXT_ONLY};

/// The outcomes of all sets. Fractions are between 0 and 1; what there is nothing to measure on is `null`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: PathBuf,
    pub(super) text_only_model: Option<PathBuf>,
    pub(super) compare: Option<PathBuf>,
    /// By the models' parts, and of the rule of length.
    pub(super) overall: BTreeMap<&'static str, Overall>,
    #[serde(serialize_with = "by_name")]
    pub(super) sets: Vec<SetReport>,
    pub(super) disagreements: Vec<Disagreement>,
    pub(super) training: Option<Training>,
}

/// A model over all sets.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Overall {
    /// Over all pairs of all sets.
    #[serde(flatten)]
    pub(super) micro: Measured,
    /// The mean over the sets.
    pub(super) macro_mean: Option<f64>,
}

/// One set.
#[derive(Debug, Serialize)]
pub(super) struct SetReport {
    #[serde(skip)]
    pub(super) name: String,
    /// `None` where no row has a known one.
    pub(super) format: Option<String>,
    pub(super) rows: u64,
    pub(super) failed_rows: u64,
    /// Pairs of equally rated responses, which are left out.
    pub(super) equally_rated: usize,
    /// The training sets that the benchmark shares rows with.
    pub(super) overlap: Option<String>,
    #[serde(flatten)]
    pub(super) model: ModelReport,
    pub(super) text_only: Option<ModelReport>,
    pub(super) compare: Option<ModelReport>,
    pub(super) shortcut: Option<Shortcut>,
    pub(super) agreement: Option<Agreement>,
    /// Picks are those of the model, the text-only model and the compared one, as far as there are.
    pub(super) best_of_n: Option<BestOfN>,
}

/// One model on one set.
#[derive(Debug, Serialize)]
pub(super) struct ModelReport {
    #[serde(flatten)]
    pub(super) accuracy: Measured,
    /// Pairs of equal reward, each counted as half right.
    pub(super) ties: usize,
    pub(super) margins: Option<Margins>,
    pub(super) calibration: Option<Calibration>,
    pub(super) length: Length,
    pub(super) groups: Option<Groups>,
    pub(super) questions: Option<Questions>,
}

/// A set's pairs that every model has a margin of.
pub(super) struct Judged<'a> {
    pub(super) set: &'a Set,
    pub(super) comparisons: Vec<&'a Comparison>,
    /// For each model the margins of the comparisons.
    pub(super) margins: Vec<Vec<f64>>,
    rated: Vec<RatedRow>,
    failed_rows: u64,
}

impl Report {
    pub(super) fn new(
        job: &Job,
        scorers: &[Scorer],
        sets: &[Set],
        rewards: &[Vec<Rewards>],
        training: Option<Training>,
    ) -> Result<Self> {
        let judge = |(index, set)| {
            let rewards: Vec<&Rewards> = rewards.iter().map(|sets| &sets[index]).collect();
            Judged::new(set, &rewards)
        };
        let judged: Vec<Judged> = sets.iter().enumerate().map(judge).collect();
        let roles: Vec<&'static str> = scorers.iter().map(|scorer| scorer.role).collect();
        let of_model = |(at, role): (usize, &&'static str)| {
            (*role, Overall::of(&judged, |set| set.margins[at].clone()))
        };
        let overall = roles.iter().enumerate().map(of_model);
        let length = Overall::of(&judged, |set| set.length_rule());
        Ok(Self {
            model: job.model.clone(),
            text_only_model: job.text_only_model.clone(),
            compare: job.compare.clone(),
            overall: overall.chain([(LENGTH_ONLY, length)]).collect(),
            sets: judged.iter().map(|set| set.report(&roles)).collect(),
            disagreements: disagreement::largest(&judged, &roles, job)?,
            training,
        })
    }

    pub(super) fn failed_rows(&self) -> u64 {
        self.sets.iter().map(|set| set.failed_rows).sum()
    }
}

fn by_name<S: Serializer>(sets: &[SetReport], output: S) -> Result<S::Ok, S::Error> {
    let mut map = output.serialize_map(Some(sets.len()))?;
    for set in sets {
        map.serialize_entry(&set.name, set)?;
    }
    map.end()
}

impl Overall {
    fn of(sets: &[Judged], margins: impl Fn(&Judged) -> Vec<f64>) -> Self {
        let margins: Vec<Vec<f64>> = sets.iter().map(margins).collect();
        let by_set = margins.iter().map(|margins| Accuracy::of(margins));
        Self {
            macro_mean: macro_mean(by_set.map(Accuracy::measured)),
            micro: Accuracy::of(&margins.concat()).measured(),
        }
    }
}

impl<'a> Judged<'a> {
    fn new(set: &'a Set, rewards: &[&Rewards]) -> Self {
        let margins = |comparison: &Comparison| {
            let margin = |r: &&Rewards| Some(r.of(comparison.better)? - r.of(comparison.worse)?);
            rewards.iter().map(margin).collect::<Option<Vec<f64>>>()
        };
        let judged = set
            .comparisons
            .iter()
            .filter_map(|c| Some((c, margins(c)?)));
        let (comparisons, by_pair): (Vec<_>, Vec<Vec<f64>>) = judged.unzip();
        let of_model = |model: usize| by_pair.iter().map(|margins| margins[model]).collect();
        Self {
            set,
            comparisons,
            margins: (0..rewards.len()).map(of_model).collect(),
            rated: set
                .rated
                .iter()
                .filter_map(|row| rated(row, rewards))
                .collect(),
            failed_rows: set.failures(rewards.iter().copied()).len() as u64,
        }
    }

    /// The margins of the rule that the longer response is the better one.
    fn length_rule(&self) -> Vec<f64> {
        let longer = |comparison: &&Comparison| comparison.longer as f64;
        self.comparisons.iter().map(longer).collect()
    }

    fn report(&self, roles: &[&str]) -> SetReport {
        let place = |role: &str| roles.iter().position(|other| *other == role);
        let (text_only, compare) = (place(TEXT_ONLY), place(COMPARE));
        let model = &self.margins[0];
        SetReport {
            name: self.set.name.clone(),
            format: self.set.reader.format().map(|format| format.to_string()),
            rows: self.set.rows,
            failed_rows: self.failed_rows,
            equally_rated: self.set.equally_rated,
            overlap: self.set.overlap(),
            model: self.model(0),
            text_only: text_only.map(|at| self.model(at)),
            compare: compare.map(|at| self.model(at)),
            shortcut: text_only.map(|at| Shortcut::of(model, &self.margins[at])),
            agreement: compare.map(|at| Agreement::of(model, &self.margins[at])),
            best_of_n: BestOfN::of(&self.rated),
        }
    }

    fn model(&self, at: usize) -> ModelReport {
        let margins = &self.margins[at];
        let longer: Vec<i64> = self.comparisons.iter().map(|c| c.longer).collect();
        let groups: Vec<Option<Group>> = self.comparisons.iter().map(|c| c.group.clone()).collect();
        let questions: Vec<Option<String>> = self
            .comparisons
            .iter()
            .map(|c| c.question.clone())
            .collect();
        ModelReport {
            accuracy: Accuracy::of(margins).measured(),
            ties: margins.iter().filter(|margin| **margin == 0.0).count(),
            margins: Margins::of(margins),
            calibration: Calibration::of(margins),
            length: Length::of(margins, &longer),
            groups: Groups::of(margins, &groups),
            questions: Questions::of(margins, &questions),
        }
    }
}

/// `None` where a model has no reward for one of the responses.
fn rated(row: &RatedPlaces, rewards: &[&Rewards]) -> Option<RatedRow> {
    let of_model = |r: &&Rewards| row.places.iter().map(|place| r.of(*place)).collect();
    Some(RatedRow {
        ratings: row.ratings.clone(),
        rewards: rewards.iter().map(of_model).collect::<Option<_>>()?,
    })
}
