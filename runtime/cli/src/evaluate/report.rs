//! The report of an evaluation. `report.json` is its serialization; the page and the table are rendered from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::arguments::Job;
use super::dataset::Dataset;
use super::disagreement::{self, Disagreement};
use super::judged::Judged;
use super::metrics::groups::{Questions, macro_mean};
use super::metrics::{
    Accuracy, Agreement, BestOfN, Calibration, Groups, Length, Margins, Measured, Shortcut,
};
use super::rewards::Rewards;
use super::roles::{COMPARE, LENGTH_ONLY, TEXT_ONLY};
use super::scoring::Scorer;
use super::training::Training;

/// The results on all sets. Fractions are from 0 to 1; without data to measure on they are `null`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: PathBuf,
    pub(super) text_only_model: Option<PathBuf>,
    pub(super) compare: Option<PathBuf>,
    /// By role, and for the rule of length.
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
    /// `None` if no row has a known format.
    pub(super) format: Option<String>,
    pub(super) rows: u64,
    pub(super) failed_rows: u64,
    /// Pairs of equally rated responses, which are skipped.
    pub(super) equally_rated: usize,
    /// A warning that names the training sets with which the benchmark shares rows.
    pub(super) overlap: Option<String>,
    #[serde(flatten)]
    pub(super) model: ModelReport,
    pub(super) text_only: Option<ModelReport>,
    pub(super) compare: Option<ModelReport>,
    pub(super) shortcut: Option<Shortcut>,
    pub(super) agreement: Option<Agreement>,
    /// Picks are those of the model, and of the text-only and the compared model if they exist.
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

impl Report {
    /// Measures everything. `rewards` has for each scorer those of each set.
    ///
    /// # Errors
    /// A set has changed since it was read.
    pub(super) fn new(
        job: &Job,
        scorers: &[Scorer],
        sets: &[Dataset],
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
        let length = Overall::of(&judged, |set| set.each(|pair| pair.longer as f64));
        Ok(Self {
            model: job.model.clone(),
            text_only_model: job.text_only_model.clone(),
            compare: job.compare.clone(),
            overall: overall.chain([(LENGTH_ONLY, length)]).collect(),
            sets: judged
                .iter()
                .map(|set| SetReport::of(set, &roles))
                .collect(),
            disagreements: disagreement::largest(&judged, &roles, job)?,
            training,
        })
    }

    /// Failed rows of all sets.
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

impl SetReport {
    fn of(judged: &Judged, roles: &[&str]) -> Self {
        let set = judged.set;
        let place = |role: &str| roles.iter().position(|other| *other == role);
        let (text_only, compare) = (place(TEXT_ONLY), place(COMPARE));
        let (model, other) = (&judged.margins[0], |at: usize| &judged.margins[at]);
        Self {
            name: set.name.clone(),
            format: set.reader.format().map(|format| format.to_string()),
            rows: set.rows,
            failed_rows: judged.failed_rows,
            equally_rated: set.equally_rated,
            overlap: set.overlap(),
            model: ModelReport::of(judged, 0),
            text_only: text_only.map(|at| ModelReport::of(judged, at)),
            compare: compare.map(|at| ModelReport::of(judged, at)),
            shortcut: text_only.map(|at| Shortcut::of(model, other(at))),
            agreement: compare.map(|at| Agreement::of(model, other(at))),
            best_of_n: BestOfN::of(&judged.rated),
        }
    }
}

impl ModelReport {
    /// The model with index `at`.
    fn of(judged: &Judged, at: usize) -> Self {
        let margins = &judged.margins[at];
        let ties = margins.iter().filter(|margin| **margin == 0.0);
        Self {
            accuracy: Accuracy::of(margins).measured(),
            ties: ties.count(),
            margins: Margins::of(margins),
            calibration: Calibration::of(margins),
            length: Length::of(margins, &judged.longer()),
            groups: Groups::of(margins, &judged.each(|pair| pair.group.clone())),
            questions: Questions::of(margins, &judged.each(|pair| pair.question.clone())),
        }
    }
}
