//! The report of a run: a progress bar on a terminal or lines on any other stderr, `metrics.jsonl`, and TensorBoard
//! event files if the config asks for them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use crate::config::Config;
use crate::progress;
use crate::report::events::Events;
use crate::report::metrics::Metrics;
use crate::report::notices::Notices;
use crate::step::measures::{Distribution, Measures};

/// The display and the metrics files of a run.
pub(crate) struct Report {
    bar: ProgressBar,
    /// Whether this process reports for all; the others are silent.
    leads: bool,
    metrics: Option<Metrics>,
    events: Option<Events>,
    notices: Notices,
    /// Rows since the last logged step.
    rows: usize,
    /// Tokens since the last logged step.
    tokens: usize,
    /// Time of the last logged step.
    since: Instant,
    /// Time for which the model waited for rows since the last logged step.
    waiting: Duration,
}

impl Report {
    /// Opens the metrics files in the output folder after step `step`, if this process `leads`; records of later steps are
    /// removed.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn open(config: &Config, step: usize, leads: bool) -> Result<Self> {
        let output = Path::new(&config.output_dir);
        let metrics = leads.then(|| Metrics::open(output, step));
        let events = (leads && config.tensorboard()).then(|| Events::open(output, step));
        Ok(Self {
            bar: ProgressBar::hidden(),
            leads,
            metrics: metrics.transpose()?,
            events: events.transpose()?,
            notices: Notices::default(),
            rows: 0,
            tokens: 0,
            since: Instant::now(),
            waiting: Duration::ZERO,
        })
    }

    /// Starts a phase of `steps` steps, of which `done` are complete.
    pub(crate) fn phase(&mut self, name: &'static str, steps: usize, done: usize) {
        self.bar.finish_and_clear();
        let target = if self.leads && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        self.bar = ProgressBar::with_draw_target(Some(steps as u64), target)
            .with_style(progress::style())
            .with_prefix(name)
            .with_position(done as u64);
        self.bar.enable_steady_tick(Duration::from_millis(250));
        self.bar.reset_eta();
        self.restart();
    }

    /// Adds time for which the model waited for the loader.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waiting += time;
    }

    /// Resets the counters.
    fn restart(&mut self) {
        (self.rows, self.tokens) = (0, 0);
        (self.since, self.waiting) = (Instant::now(), Duration::ZERO);
    }

    /// Displays one step.
    pub(crate) fn step(&mut self, measures: &Measures, rows: usize) {
        self.rows += rows;
        self.tokens += measures.tokens;
        let accuracy = measures.accuracy.or(measures.accuracy_text);
        let accuracy = accuracy.map_or(String::new(), |a| format!(" accuracy {a:.3}"));
        self.bar.set_message(format!(
            "loss {:.4}{accuracy} {:.1} pairs/s {:.0} tokens/s",
            measures.loss,
            self.rate(self.rows),
            self.rate(self.tokens)
        ));
        self.bar.inc(1);
    }

    /// A count since the last logged step, per second.
    fn rate(&self, count: usize) -> f64 {
        count as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// Writes the metrics record of a step; `peak` is the largest peak memory of a process in bytes, if it is known.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn log(
        &mut self,
        step: usize,
        epoch: f64,
        learning_rate: f64,
        measures: &Measures,
        peak: Option<u64>,
    ) -> Result<()> {
        let mut line = json!({ "step": step, "epoch": epoch, "learning_rate": learning_rate });
        let fields = serde_json::to_value(measures)?;
        fields
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(key, value)| line[key] = value.clone());
        line["pairs_per_second"] = json!(self.rate(self.rows));
        line["tokens_per_second"] = json!(self.rate(self.tokens));
        line["waiting_seconds"] = json!(self.waiting.as_secs_f64());
        for (name, value) in quantiles(measures.spread_of("sfc")) {
            line[format!("sfc_{name}")] = json!(value);
        }
        if let Some(bytes) = peak {
            line["peak_memory_bytes"] = json!(bytes);
        }
        self.restart();
        self.write(step, &line, &histograms("train", measures))
    }

    /// Writes the metrics record of the evaluations after a step, by set name.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn evaluation(
        &mut self,
        step: usize,
        sets: &BTreeMap<String, Measures>,
    ) -> Result<()> {
        let line = json!({ "step": step, "eval": sets });
        let of_set = |(name, measures)| histograms(&format!("eval/{name}"), measures);
        self.write(
            step,
            &line,
            &sets.iter().flat_map(of_set).collect::<Vec<_>>(),
        )
    }

    /// Waits until all metrics are on the disk.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn sync(&self) -> Result<()> {
        self.metrics.as_ref().map_or(Ok(()), Metrics::sync)
    }

    /// Logs notices above the bar, each once in a run.
    pub(crate) fn notices(&mut self, notices: impl IntoIterator<Item = String>) {
        for notice in self.notices.add(notices).into_iter().filter(|_| self.leads) {
            self.bar.suspend(|| progress::log(notice));
        }
    }

    /// Ends the display.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn write(&mut self, step: usize, line: &Value, histograms: &[Histogram]) -> Result<()> {
        let Some(metrics) = &mut self.metrics else {
            return Ok(());
        };
        metrics.write(line)?;
        if let Some(events) = &mut self.events {
            let mut scalars = Vec::new();
            add_scalars("train", line, &mut scalars);
            events.add(step, &scalars, histograms)?;
        }
        if self.bar.is_hidden() {
            progress::log(line);
        }
        Ok(())
    }
}

/// The 10th, 50th and 90th percentile, for the band of a plot.
fn quantiles(values: &[f64]) -> Vec<(&'static str, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    let at = |(name, share): (&'static str, f64)| {
        let value = sorted.get((share * last).round() as usize);
        value.map(|value| (name, *value))
    };
    let shares = [("p10", 0.1), ("p50", 0.5), ("p90", 0.9)];
    shares.into_iter().filter_map(at).collect()
}

/// A tag and the values of its histogram.
type Histogram<'a> = (String, &'a [f64]);

fn histograms<'a>(group: &str, measures: &'a Measures) -> Vec<Histogram<'a>> {
    let tagged = |of: &'a Distribution| (format!("{group}/{}", of.name), &of.values[..]);
    measures.distributions.iter().map(tagged).collect()
}

/// Collects the numbers of a record, except its step, under tags of their keys: `eval/SET/KEY` for evaluations and
/// `group/KEY` for all others.
fn add_scalars(group: &str, record: &Value, scalars: &mut Vec<(String, f64)>) {
    for (key, value) in record.as_object().into_iter().flatten() {
        match value {
            _ if key == "step" => {}
            Value::Number(number) => {
                let tag = format!("{group}/{key}");
                scalars.extend(number.as_f64().map(|value| (tag, value)));
            }
            _ if key == "eval" => add_scalars(key, value, scalars),
            _ => add_scalars(&format!("{group}/{key}"), value, scalars),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ascending_values_of_the_step() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(
            quantiles(&values),
            [("p10", 10.0), ("p50", 50.0), ("p90", 90.0)]
        );
        assert_eq!(quantiles(&[0.5])[2], ("p90", 0.5));
        assert_eq!(quantiles(&[]), []);
    }
}
