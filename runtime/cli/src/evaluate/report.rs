//! What an evaluation says: a table, JSON and a plot.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::arguments::Job;
use super::metrics::{Accuracy, shortcut_failure_degradation};
use super::plot::BarChart;
use super::run::Outcome;

/// The outcomes of all sets.
pub(super) struct Report {
    model: PathBuf,
    text_only_model: Option<PathBuf>,
    sets: Vec<Outcome>,
}

impl Outcome {
    fn accuracy(&self) -> Accuracy {
        Accuracy::of(&self.margins)
    }

    fn text_only_accuracy(&self) -> Option<Accuracy> {
        self.text_only.as_deref().map(Accuracy::of)
    }

    fn degradation(&self) -> Option<f64> {
        shortcut_failure_degradation(&self.margins, self.text_only.as_deref()?)
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "rows": self.rows,
            "failed_rows": self.failed_rows,
            "pairs": self.margins.len(),
            "ties": self.margins.iter().filter(|&&margin| margin == 0.0).count(),
            "accuracy": self.accuracy().share(),
            "interval": self.accuracy().interval(),
        });
        if let Some(text_only) = self.text_only_accuracy() {
            json["text_only_accuracy"] = json!(text_only.share());
            json["sfd"] = json!(self.degradation());
        }
        json
    }
}

impl Report {
    pub(super) fn new(job: &Job, sets: Vec<Outcome>) -> Self {
        Self {
            model: job.model.clone(),
            text_only_model: job.text_only_model.clone(),
            sets,
        }
    }

    pub(super) fn failed_rows(&self) -> u64 {
        self.sets.iter().map(|set| set.failed_rows).sum()
    }

    /// Fractions between 0 and 1; `null` where there is nothing to measure.
    pub(super) fn json(&self) -> Value {
        let sets = self.sets.iter().map(|set| (set.name.clone(), set.json()));
        json!({
            "model": self.model,
            "text_only_model": self.text_only_model,
            "sets": sets.collect::<Map<_, _>>(),
        })
    }

    /// In percent.
    pub(super) fn table(&self) -> String {
        let names = self.sets.iter().map(|set| set.name.chars().count());
        let width = names.chain([3]).max().unwrap_or_default();
        let header = ["pairs", "accuracy", "95 % interval", "text-only", "SFD"].map(str::to_owned);
        let mut table = line("set", width, &header);
        for set in &self.sets {
            table += &line(&set.name, width, &cells(set));
        }
        table
    }

    pub(super) fn chart(&self) -> BarChart {
        let bars = |set: &Outcome| {
            let text_only = self
                .text_only_model
                .as_ref()
                .map(|_| set.text_only_accuracy());
            [Some(Some(set.accuracy())), text_only]
                .into_iter()
                .flatten()
                .collect()
        };
        let series = [
            Some("model"),
            self.text_only_model.as_ref().map(|_| "text-only"),
        ];
        BarChart {
            title: "Pairs ordered right, with 95 % intervals".to_owned(),
            series: series.into_iter().flatten().map(str::to_owned).collect(),
            groups: self
                .sets
                .iter()
                .map(|set| (set.name.clone(), bars(set)))
                .collect(),
        }
    }
}

fn cells(set: &Outcome) -> [String; 5] {
    let interval = set.accuracy().interval();
    let text_only = set.text_only_accuracy().and_then(Accuracy::share);
    [
        set.margins.len().to_string(),
        percent(set.accuracy().share()),
        interval.map_or("-".into(), |(low, high)| {
            format!("{:.1} - {:.1}", 100.0 * low, 100.0 * high)
        }),
        percent(text_only),
        percent(set.degradation()),
    ]
}

fn line(name: &str, width: usize, cells: &[String; 5]) -> String {
    let [pairs, accuracy, interval, text_only, degradation] = cells;
    format!("{name:width$}{pairs:>9}{accuracy:>10}{interval:>15}{text_only:>11}{degradation:>8}\n")
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text_only: Option<Vec<f64>>) -> Report {
        let set = Outcome {
            name: "iid".into(),
            margins: vec![1.0, 2.0, -1.0, 0.0],
            text_only,
            rows: 5,
            failed_rows: 1,
        };
        let text_only_model = set.text_only.as_ref().map(|_| "t".into());
        Report {
            model: "b".into(),
            text_only_model,
            sets: vec![set],
        }
    }

    #[test]
    fn a_report_without_text_only_model() {
        let report = report(None);
        let set = &report.json()["sets"]["iid"];
        assert_eq!((&set["pairs"], &set["ties"]), (&json!(4), &json!(1)));
        assert_eq!((&set["accuracy"], set.get("sfd")), (&json!(0.625), None));
        assert!(
            report.table().contains("iid        4      62.5"),
            "{}",
            report.table()
        );
        assert_eq!((report.failed_rows(), report.chart().series.len()), (1, 1));
    }

    #[test]
    fn a_report_with_one_tells_the_degradation() {
        let report = report(Some(vec![1.0, 1.0, -1.0, -1.0]));
        let set = &report.json()["sets"]["iid"];
        assert_eq!(
            (&set["text_only_accuracy"], &set["sfd"]),
            (&json!(0.5), &json!(0.75))
        );
        assert!(
            report.table().trim_end().ends_with("50.0    75.0"),
            "{}",
            report.table()
        );
        assert_eq!(report.chart().series, ["model", "text-only"]);
    }
}
