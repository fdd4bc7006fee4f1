//! `--correct-mean`: measures the mean error of a lossy bundle's rewards, and stores minus it as the bundle's reward offset.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, bail, ensure};
use seeward_models::bundle::RewardOffset;
use seeward_models::probe::{RewardErrors, RewardRow, Verdict};
use seeward_models::rows::RowStream;
use seeward_models::sample::{Lines, seen_keys};
use seeward_runtime::{RewardModel, Scale};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::arguments::PROGRAM;
use super::input::{Input, Position, WINDOW_ROWS};
use super::job::{Correction, Reference};
use super::window::{self, Reader};
use crate::bundle;
use crate::terminal::{self, Ending};

/// The rewards from which a mean error is measured.
struct Measured {
    rewards: Vec<RewardRow>,
    rows: usize,
    from: String,
}

/// A line of scores.
#[derive(Deserialize)]
struct ScoreLine {
    #[serde(flatten)]
    subject: Subject,
    score: f32,
}

/// What a line's score is of: the keys of the row by which the model saw it, and the response.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "Map<String, Value>")]
struct Subject {
    row: Vec<(&'static str, Value)>,
    response: Value,
}

/// Stores the reward offset and prints the errors without and with it.
///
/// # Errors
/// A bundle of an exact precision, rows that fail, a reference of other rows or of another model: nothing is stored.
pub(super) fn correct(correction: &Correction) -> Result<Ending> {
    let options = correction.options.clone().scale(Scale::Uncorrected);
    let model = bundle::load(PROGRAM, &correction.model, options)?;
    let (place, precision) = (bundle::place(&model), model.bundle().manifest().precision);
    ensure!(
        precision.is_lossy(),
        "{place}: expected a bundle in bf16 or int8, whose mean error is worth a correction, got {precision}"
    );
    let measured = match &correction.reference {
        None => of_probes(&model).with_context(|| place.clone())?,
        Some(reference) => of_rows(&model, reference)?,
    };
    terminal::print(&store(&model, measured)?)?;
    Ok(Ending::Complete)
}

/// Stores the offset that corrects the mean of the measured errors. Returns a message.
fn store(model: &RewardModel, measured: Measured) -> Result<String> {
    let (place, manifest) = (bundle::place(model), model.bundle().manifest());
    let Measured {
        rewards,
        rows,
        from,
    } = measured;
    let before = RewardErrors::of(&rewards, manifest.reward_std);
    let value = -before.mean as f32;
    let after = RewardErrors::of(&shifted(rewards, value), manifest.reward_std);
    let judgement = bundle::judgement(&after, manifest.tolerance());
    if after.verdict(manifest.tolerance()) != Verdict::AsTrained {
        bail!("{place}: no reward_offset is stored, because with {value:+} {judgement}");
    }
    let message = format!(
        "{place}: reward_offset {value:+}, from {rows} rows of {from}\nwithout it rewards are off by {before}\nwith it {judgement}\n"
    );
    let offset = RewardOffset { value, rows, from };
    model.bundle().set_reward_offset(offset)?;
    Ok(message)
}

fn shifted(mut rewards: Vec<RewardRow>, offset: f32) -> Vec<RewardRow> {
    let got = rewards.iter_mut().flat_map(|row| &mut row.got);
    got.for_each(|reward| *reward += offset);
    rewards
}

fn of_probes(model: &RewardModel) -> Result<Measured> {
    let rewards = model.probe_rewards()?;
    Ok(Measured {
        rows: rewards.len(),
        rewards,
        from: "probes".to_owned(),
    })
}

/// Scores the rows and reads the reference next to them.
fn of_rows(model: &RewardModel, reference: &Reference) -> Result<Measured> {
    let (path, stream) = (&reference.input, RowStream::open(&reference.input)?);
    let mut input = Input::at(path, stream, &Position::start())?;
    let mut expected = ReferenceLines::open(&reference.scores)?;
    let reader = Reader {
        images: &reference.images,
        carried: &reference.carried,
        tag_notice: Once::new(),
    };
    let mut measured = Measured {
        rewards: Vec::new(),
        rows: 0,
        from: path.display().to_string(),
    };
    loop {
        let rows = input.window(WINDOW_ROWS)?;
        if rows.is_empty() {
            break;
        }
        let window = window::score(model, window::prepare(model, &reader, rows)?)?;
        if let Some(error) = window.errors.lines().next() {
            bail!("{}: a row cannot be scored: {error}", path.display());
        }
        measured.rows += window.rows as usize;
        for line in window.output.lines() {
            expected.add(line, &mut measured.rewards)?;
        }
    }
    expected.end()?;
    Ok(measured)
}

/// The lines of the reference, read in step with those that this run computes.
struct ReferenceLines<'a> {
    path: &'a Path,
    lines: Lines<RowStream>,
    last: Option<Subject>,
}

impl<'a> ReferenceLines<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        Ok(Self {
            path,
            lines: Lines::new(RowStream::open(path)?),
            last: None,
        })
    }

    /// Adds the score of a computed line, and that of the next line of the reference, to `rewards`: to its last row if both
    /// are of the same prompt and image.
    fn add(&mut self, computed: &str, rewards: &mut Vec<RewardRow>) -> Result<()> {
        let computed: ScoreLine = serde_json::from_str(computed)?;
        let (place, expected) = self.next()?;
        let Some(expected) = expected else {
            bail!(
                "{place}: expected the score of {}, got the end of the file",
                computed.subject
            );
        };
        ensure!(
            expected.subject == computed.subject,
            "{place}: expected the score of {}, got that of {}: it must hold the scores of --input, all of them",
            computed.subject,
            expected.subject
        );
        let is_same_row = |last: &Subject| last.row == computed.subject.row;
        if !self.last.as_ref().is_some_and(is_same_row) {
            rewards.push(RewardRow {
                expected: Vec::new(),
                got: Vec::new(),
            });
        }
        if let Some(row) = rewards.last_mut() {
            row.expected.push(expected.score);
            row.got.push(computed.score);
        }
        self.last = Some(computed.subject);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (place, line) = self.next()?;
        ensure!(
            line.is_none(),
            "{place}: expected the end of the file, got more scores than --input has responses"
        );
        Ok(())
    }

    /// The next line with its place.
    fn next(&mut self) -> Result<(String, Option<ScoreLine>)> {
        let place = self.path.display().to_string();
        let Some(line) = self.lines.next() else {
            return Ok((place, None));
        };
        let (line, text) = line.with_context(|| place.clone())?;
        let place = format!("{place}:{}", line.number);
        let parsed = serde_json::from_str(&text.with_context(|| place.clone())?);
        let parsed = parsed
            .with_context(|| format!("{place}: expected a line of seeward-score's output"))?;
        Ok((place, Some(parsed)))
    }
}

impl From<Map<String, Value>> for Subject {
    fn from(mut line: Map<String, Value>) -> Self {
        let mut taken = |key| line.remove(key).filter(|value| !value.is_null());
        let response = taken("response").unwrap_or_default();
        let row = seen_keys().filter_map(|key| Some((key, taken(key)?)));
        Self {
            row: row.collect(),
            response,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (key, value) in &self.row {
            write!(f, "{key} {value}, ")?;
        }
        write!(f, "response {}", self.response)
    }
}
