//! Counts, rates, time and memory of a run: for the progress bar, the last log line and the file of `--stats`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use seeward_models::atomic::replace_file;
use seeward_models::kinds::Precision;
use seeward_models::process::peak_memory;
use seeward_runtime::{RewardModel, Usage};
use serde::Serialize;

use super::window::Window;

/// Counts of this run, without those of the runs that it resumes.
#[derive(Default)]
pub(crate) struct Tally {
    rows: u64,
    errors: u64,
    usage: Usage,
    time: Duration,
}

impl Tally {
    /// Adds a window that was finished `time` after the start.
    pub(super) fn add(&mut self, window: &Window, time: Duration) {
        self.rows += window.rows;
        self.errors += window.failed_rows;
        self.usage += window.usage;
        self.time = time;
    }

    fn per_second(&self) -> f64 {
        per(self.usage.responses as f64, self.time)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, responses) = (self.rows, self.usage.responses);
        let (seconds, rate) = (self.time.as_secs_f64(), self.per_second());
        write!(
            f,
            "{rows} rows, {responses} responses in {seconds:.1} s, {rate:.1} responses/s"
        )
    }
}

#[derive(Serialize)]
struct Stats<'a> {
    rows: u64,
    responses: u64,
    seconds: f64,
    responses_per_second: f64,
    tokens: u64,
    tokens_without_sharing: u64,
    images_encoded: u64,
    tiles: u64,
    truncated: u64,
    errors: u64,
    engine_busy: f64,
    peak_rss_bytes: Option<u64>,
    device: String,
    provider: &'static str,
    precision: Precision,
    bundle: &'a str,
}

/// Writes the file of `--stats`.
pub(super) fn write(path: &Path, tally: &Tally, models: &[RewardModel]) -> Result<()> {
    let (usage, model) = (&tally.usage, &models[0]);
    let devices: Vec<String> = models.iter().map(|m| m.device().to_string()).collect();
    let stats = Stats {
        rows: tally.rows,
        responses: usage.responses,
        seconds: tally.time.as_secs_f64(),
        responses_per_second: tally.per_second(),
        tokens: usage.tokens,
        tokens_without_sharing: usage.tokens_without_sharing,
        images_encoded: usage.images_encoded,
        tiles: usage.tiles,
        truncated: usage.truncated,
        errors: tally.errors,
        engine_busy: per(usage.engine.as_secs_f64(), tally.time) / models.len() as f64,
        peak_rss_bytes: peak_memory(),
        device: devices.join(","),
        provider: model.device().provider(),
        precision: model.bundle().manifest().precision,
        bundle: model.bundle().hash(),
    };
    let json = serde_json::to_string_pretty(&stats)?;
    Ok(replace_file(path, (json + "\n").as_bytes())?)
}

fn per(amount: f64, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => amount / time.as_secs_f64(),
    }
}
