//! The best weights by evaluations during training, and early stopping.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::{Config, EvalStrategy};
use crate::step::measures::Measures;

/// The metrics that may decide, by their names in `metrics.jsonl`.
const METRICS: [&str; 6] = [
    "accuracy",
    "accuracy_text",
    "loss",
    "loss_main",
    "loss_text",
    "sfc_mean",
];

/// The criterion for the best weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    /// The name of the evaluation set.
    set: String,
    metric: &'static str,
    greater: bool,
    /// The number of evaluations without a better one after which training stops.
    patience: Option<usize>,
    /// Minimum improvement that resets the patience.
    threshold: f64,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// The metric's value; f32, which JSON stores exactly.
    pub(crate) value: f32,
    /// The step it was measured after.
    pub(crate) step: usize,
    /// Evaluations since the last one that was better by more than the threshold.
    pub(crate) waited: usize,
}

impl Criterion {
    /// The criterion that `config` asks for; `None` if it neither keeps the best weights nor stops early.
    ///
    /// # Errors
    /// An unknown metric or evaluation set, or no evaluations.
    pub fn of(config: &Config) -> Result<Option<Self>> {
        let Some(key) = deciding_key(config) else {
            return Ok(None);
        };
        if config.eval_data.is_empty() || config.eval_strategy == Some(EvalStrategy::No) {
            bail!("{key}: expected evaluations (eval_data), got none");
        }
        let name = config.metric_for_best_model.as_deref().unwrap_or("loss");
        let (set, metric) = named(config, name)?;
        Ok(Some(Self {
            set,
            metric,
            greater: config
                .greater_is_better
                .unwrap_or(!metric.starts_with("loss")),
            patience: config.early_stopping_patience,
            threshold: config.early_stopping_threshold,
        }))
    }

    /// The best evaluation after this one, and whether it is this one.
    ///
    /// # Errors
    /// The evaluation has no such metric.
    pub(crate) fn judge(
        &self,
        best: Option<Best>,
        step: usize,
        results: &BTreeMap<String, Measures>,
    ) -> Result<(Best, bool)> {
        let value = self.value(results)?;
        let Some(best) = best else {
            let first = Best {
                value,
                step,
                waited: 0,
            };
            return Ok((first, true));
        };
        let gain = self.gain(best.value, value);
        let better = gain > 0.0;
        let waited = match better && gain > self.threshold {
            true => 0,
            false => best.waited + 1,
        };
        let best = match better {
            true => Best {
                value,
                step,
                waited,
            },
            false => Best { waited, ..best },
        };
        Ok((best, better))
    }

    /// The improvement of a metric from `best` to `value`. Any number is better than NaN.
    fn gain(&self, best: f32, value: f32) -> f64 {
        if best.is_nan() && !value.is_nan() {
            return f64::INFINITY;
        }
        f64::from(value - best) * if self.greater { 1.0 } else { -1.0 }
    }

    /// Whether the patience is exhausted.
    pub(crate) fn gives_up(&self, best: Option<Best>) -> bool {
        let waited = best.map_or(0, |best| best.waited);
        self.patience.is_some_and(|patience| waited >= patience)
    }

    fn value(&self, results: &BTreeMap<String, Measures>) -> Result<f32> {
        let measures = serde_json::to_value(results.get(&self.set))?;
        let value = measures[self.metric].as_f64();
        // JSON has no NaN: a NaN loss is null.
        if measures
            .get(self.metric)
            .is_some_and(serde_json::Value::is_null)
        {
            return Ok(f32::NAN);
        }
        let value = value.with_context(|| {
            format!(
                "metric_for_best_model: the evaluation has no {}",
                self.metric
            )
        })?;
        Ok(value as f32)
    }
}

/// The key of `config` that needs a criterion, if there is one.
fn deciding_key(config: &Config) -> Option<&'static str> {
    let patience = config.early_stopping_patience;
    match config.load_best_model_at_end {
        true => Some("load_best_model_at_end"),
        false => patience.map(|_| "early_stopping_patience"),
    }
}

/// The evaluation set and metric of a name: `accuracy` or `eval_accuracy`, prefixed with the set's name if there are
/// several sets.
fn named(config: &Config, name: &str) -> Result<(String, &'static str)> {
    let short = name.strip_prefix("eval_").unwrap_or(name);
    let metric = |name: &str| METRICS.into_iter().find(|metric| *metric == name);
    let sets: Vec<_> = config.eval_data.keys().collect();
    if let (Some(metric), [set]) = (metric(short), &sets[..]) {
        return Ok(((*set).clone(), metric));
    }
    let of_set = |set: &&String| {
        let metric = metric(short.strip_prefix(&***set)?.strip_prefix('_')?)?;
        Some(((*set).clone(), metric))
    };
    let found = sets.iter().find_map(of_set);
    found.with_context(|| unknown_metric(&sets, name))
}

fn unknown_metric(sets: &[&String], name: &str) -> String {
    let choices: Vec<_> = sets.iter().map(|set| format!("{set}_accuracy")).collect();
    format!(
        "metric_for_best_model: expected a set of eval_data and one of {}, such as {}, got {name:?}",
        METRICS.join(", "),
        choices.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(metric: &str) -> Config {
        let sets = ["dev", "dev_hard"].map(|set| (set.to_owned(), String::new()));
        Config {
            load_best_model_at_end: true,
            metric_for_best_model: Some(metric.to_owned()),
            eval_data: BTreeMap::from(sets),
            ..Config::default()
        }
    }

    fn criterion(metric: &str) -> Criterion {
        Criterion::of(&config(metric)).unwrap().unwrap()
    }

    #[test]
    fn a_name_means_a_set_and_a_metric() {
        for (name, set, metric, greater) in [
            ("eval_dev_accuracy", "dev", "accuracy", true),
            ("dev_hard_loss", "dev_hard", "loss", false),
            ("dev_loss_main", "dev", "loss_main", false),
        ] {
            let found = criterion(name);
            assert_eq!(
                (&*found.set, found.metric, found.greater),
                (set, metric, greater)
            );
        }
        for name in ["accuracy", "eval_loss", "dev", "test_loss", "dev_acc"] {
            let said = Criterion::of(&config(name)).unwrap_err().to_string();
            assert!(said.contains("dev_accuracy or dev_hard_accuracy"), "{said}");
        }
        let mut one = config("eval_accuracy");
        one.eval_data.remove("dev_hard");
        assert_eq!(Criterion::of(&one).unwrap().unwrap().set, "dev");
        one.eval_data.clear();
        let said = Criterion::of(&one).unwrap_err().to_string();
        assert!(said.starts_with("load_best_model_at_end: "), "{said}");
        assert_eq!(Criterion::of(&Config::default()).unwrap(), None);
    }

    /// The best step and the number of evaluations since, after each value.
    fn judged(criterion: &Criterion, values: &[f64]) -> Vec<(usize, usize)> {
        let mut best = None;
        let steps = values.iter().enumerate().map(|(step, &loss)| {
            let measures = Measures {
                loss,
                ..Measures::default()
            };
            let results = BTreeMap::from([("dev".to_owned(), measures)]);
            let (now, is_it) = criterion.judge(best, step, &results).unwrap();
            assert_eq!(is_it, now.step == step);
            best = Some(now);
            (now.step, now.waited)
        });
        steps.collect()
    }

    #[test]
    fn the_best_is_strictly_better_and_patience_counts_from_a_clear_gain() {
        let mut by_loss = criterion("dev_loss");
        assert_eq!(
            judged(&by_loss, &[3.0, 3.0, 2.0, 2.5, f64::NAN, 1.9]),
            [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2), (5, 0)]
        );
        by_loss.threshold = 0.5;
        assert_eq!(
            judged(&by_loss, &[3.0, 2.75, 2.0]),
            [(0, 0), (1, 1), (2, 0)]
        );
        assert_eq!(judged(&by_loss, &[f64::NAN, 3.0]), [(0, 0), (1, 0)]);
        let after = |waited| {
            Some(Best {
                value: 0.0,
                step: 0,
                waited,
            })
        };
        assert!(!by_loss.gives_up(after(9)));
        by_loss.patience = Some(2);
        assert!(
            !by_loss.gives_up(None) && !by_loss.gives_up(after(1)) && by_loss.gives_up(after(2))
        );
    }
}
