//! What the user sees of a run: a progress bar on a terminal, lines elsewhere, `metrics.jsonl` in any case.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::trainer::Measures;

/// A run's display and its metrics file.
pub struct Report {
    bar: ProgressBar,
    metrics: File,
    rows: usize,
    since: Instant,
}

impl Report {
    /// Appends to `metrics.jsonl` in `output`.
    pub fn open(output: &Path) -> Result<Self> {
        let path = output.join("metrics.jsonl");
        let metrics = OpenOptions::new().create(true).append(true).open(&path);
        let metrics = metrics.with_context(|| path.display().to_string())?;
        Ok(Self {
            bar: ProgressBar::hidden(),
            metrics,
            rows: 0,
            since: Instant::now(),
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
        (self.rows, self.since) = (0, Instant::now());
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
        (self.rows, self.since) = (0, Instant::now());
        self.write(&line)
    }

    /// Writes one line of metrics for an evaluation.
    pub fn evaluation(&mut self, step: usize, sets: Value) -> Result<()> {
        self.write(&json!({ "step": step, "eval": sets }))
    }

    /// Says something above the bar.
    pub fn say(&self, message: &str) {
        self.bar.suspend(|| eprintln!("{message}"));
    }

    /// Ends the display.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        writeln!(self.metrics, "{line}").context("metrics.jsonl")?;
        if self.bar.is_hidden() {
            eprintln!("{line}");
        }
        Ok(())
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
