//! What the user sees of a run: a progress bar on a terminal, lines elsewhere, `metrics.jsonl` in any case, and
//! TensorBoard's event files where they are wanted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tch::Device;

use crate::events::Events;
use crate::memory;
use crate::metrics::Metrics;
use crate::trainer::Measures;

/// A run's display and its metrics files.
pub struct Report {
    bar: ProgressBar,
    metrics: Metrics,
    events: Option<Events>,
    rows: usize,
    since: Instant,
    /// How long the model waited for rows since the last logged step.
    waiting: Duration,
    /// Whose memory is watched.
    device: Device,
}

impl Report {
    /// Goes on in `output` behind step `step`: what was logged of later steps is taken back.
    ///
    /// # Errors
    /// The disk.
    pub fn open(output: &Path, tensorboard: bool, step: usize, device: Device) -> Result<Self> {
        Ok(Self {
            bar: ProgressBar::hidden(),
            metrics: Metrics::open(output, step)?,
            events: tensorboard
                .then(|| Events::open(output, step))
                .transpose()?,
            rows: 0,
            since: Instant::now(),
            waiting: Duration::ZERO,
            device,
        })
    }

    /// Starts a phase of `steps` steps, `done` of which were taken before.
    pub fn phase(&mut self, name: &'static str, steps: usize, done: usize) {
        self.bar.finish_and_clear();
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        self.bar = ProgressBar::with_draw_target(Some(steps as u64), target)
            .with_style(style())
            .with_prefix(name)
            .with_position(done as u64);
        self.bar.enable_steady_tick(Duration::from_millis(250));
        self.bar.reset_eta();
        self.restart();
    }

    /// Counts time that the model waited for the loader.
    pub fn waited(&mut self, time: Duration) {
        self.waiting += time;
    }

    /// Counts from here on.
    fn restart(&mut self) {
        (self.rows, self.since, self.waiting) = (0, Instant::now(), Duration::ZERO);
    }

    /// Shows one step.
    pub fn step(&mut self, measures: &Measures, rows: usize) {
        self.rows += rows;
        let accuracy = measures.accuracy.or(measures.accuracy_text);
        let accuracy = accuracy.map_or(String::new(), |a| format!(" accuracy {a:.3}"));
        self.bar.set_message(format!(
            "loss {:.4}{accuracy} {:.1} pairs/s",
            measures.loss,
            self.rate()
        ));
        self.bar.inc(1);
    }

    /// Rows per second since the last logged step.
    fn rate(&self) -> f64 {
        self.rows as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// Writes one line of metrics for a step.
    pub fn log(
        &mut self,
        step: usize,
        epoch: f64,
        learning_rate: f64,
        measures: &Measures,
    ) -> Result<()> {
        let mut line = json!({ "step": step, "epoch": epoch, "learning_rate": learning_rate });
        let fields = serde_json::to_value(measures)?;
        fields
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(key, value)| line[key] = value.clone());
        line["pairs_per_second"] = json!(self.rate());
        line["waiting_seconds"] = json!(self.waiting.as_secs_f64());
        for (name, value) in quantiles(measures.spread_of("sfc")) {
            line[format!("sfc_{name}")] = json!(value);
        }
        if let Some(bytes) = memory::peak(self.device) {
            line["peak_memory_bytes"] = json!(bytes);
        }
        self.restart();
        self.write(step, &line, &histograms("train", measures))
    }

    /// Writes one line of metrics for the evaluations of a step, by the names of their sets.
    pub fn evaluation(&mut self, step: usize, sets: &BTreeMap<&str, Measures>) -> Result<()> {
        let line = json!({ "step": step, "eval": sets });
        let of_set = |(name, measures)| histograms(&format!("eval/{name}"), measures);
        self.write(
            step,
            &line,
            &sets.iter().flat_map(of_set).collect::<Vec<_>>(),
        )
    }

    /// Waits until everything that was logged is on the disk.
    pub fn sync(&self) -> Result<()> {
        self.metrics.sync()
    }

    /// Says something above the bar.
    pub fn say(&self, message: &str) {
        self.bar.suspend(|| tell(message));
    }

    /// Ends the display.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn write(&mut self, step: usize, line: &Value, histograms: &[Histogram]) -> Result<()> {
        self.metrics.write(line)?;
        if let Some(events) = &mut self.events {
            let mut scalars = Vec::new();
            add_scalars("train", line, &mut scalars);
            events.add(step, &scalars, histograms)?;
        }
        if self.bar.is_hidden() {
            tell(line);
        }
        Ok(())
    }
}

/// A reader of stderr who has gone away must not end the run.
pub(crate) fn tell(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// How values are spread, as a band of a plot shows it: the median and the tenth parts at both ends.
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

/// A tag and the values that are spread out under it.
type Histogram<'a> = (String, &'a [f64]);

fn histograms<'a>(group: &str, measures: &'a Measures) -> Vec<Histogram<'a>> {
    let tagged = |(name, values): &'a (&str, Vec<f64>)| (format!("{group}/{name}"), &values[..]);
    measures.distributions.iter().map(tagged).collect()
}

/// Every number of a record but its step, tagged by its keys; one that stands outside has `group` before it.
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

/// A bar that shows itself once the work takes long.
pub struct PatientBar {
    bar: ProgressBar,
    since: Instant,
}

/// How long it waits.
const PATIENCE: Duration = Duration::from_secs(2);

impl PatientBar {
    /// Of work that is done at `total`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Self {
            bar: bar.with_style(style()).with_prefix(what),
            since: Instant::now(),
        }
    }

    /// Shows that the work is at `position`.
    pub fn at(&self, position: u64) {
        if self.since.elapsed() > PATIENCE && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(position);
    }
}

impl Drop for PatientBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How a bar looks: what is done, how far, and how long it takes.
fn style() -> ProgressStyle {
    let template = "{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_step_and_rise() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(
            quantiles(&values),
            [("p10", 10.0), ("p50", 50.0), ("p90", 90.0)]
        );
        assert_eq!(quantiles(&[0.5])[2], ("p90", 0.5));
        assert_eq!(quantiles(&[]), []);
    }
}
