//! Reads, tiles and tokenises the batches of the next steps on separate threads while the model computes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Scope};

use anyhow::{Context, Result};

use crate::data::preprocess::{Inputs, Preprocessor};
use crate::data::rows::{Rows, Samples};

/// Threads that prepare at most; each is a step or two ahead.
const THREADS: usize = 4;

/// Which branches an optimizer step trains.
#[derive(Clone, Copy)]
pub struct Preprocessors<'a> {
    /// How the main branch sees rows, if it trains.
    pub main: Option<&'a Preprocessor>,
    /// How the text-only branch sees rows, if it trains.
    pub text: Option<&'a Preprocessor>,
}

/// One forward pass, seen by each branch that trains.
pub struct Batch {
    /// Where its rows stand: `file:line`.
    pub(crate) places: Vec<String>,
    /// The margin that each row asks for; `None` where none does.
    pub margins: Option<Vec<f64>>,
    /// What the main branch reads.
    pub main: Option<Inputs>,
    /// What the text-only branch reads.
    pub text: Option<Inputs>,
    /// Rows that it lacks.
    pub(crate) skipped: Vec<SkippedRow>,
}

/// A row that makes no tokens and tiles: an image that cannot be decoded, image tokens that are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SkippedRow {
    /// Its number.
    pub(crate) row: usize,
    /// What is wrong, beginning with `file:line`.
    pub(crate) problem: String,
}

impl Batch {
    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.places.len()
    }
}

/// Steps that are being prepared; they arrive in order.
pub(crate) struct Prepared {
    receivers: Vec<Receiver<Result<Vec<Batch>>>>,
    next: usize,
}

impl Prepared {
    /// Waits for the batches of the next step.
    ///
    /// # Errors
    /// The rows' file, or there is no next step.
    pub(crate) fn step(&mut self) -> Result<Vec<Batch>> {
        let receiver = &self.receivers[self.next % self.receivers.len()];
        self.next += 1;
        receiver.recv().context("the loader stopped")?
    }
}

/// Prepares the batches of each step, given as row numbers.
pub(crate) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    rows: &'env Rows,
    steps: impl Iterator<Item = (Preprocessors<'env>, Vec<Vec<usize>>)> + Send + 'scope,
) -> Prepared {
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS));
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (ask, asked) = sync_channel::<(Preprocessors<'env>, Vec<Vec<usize>>)>(0);
        let (give, given) = sync_channel(1);
        scope.spawn(move || {
            for (preprocessors, batches) in asked {
                let batches = batches.iter();
                let prepared = batches
                    .map(|numbers| prepare(rows, preprocessors, numbers))
                    .collect();
                // The trainer has stopped and wants no more.
                if give.send(prepared).is_err() {
                    return;
                }
            }
        });
        senders.push(ask);
        receivers.push(given);
    }
    // The steps go round the threads, and so do the trainer's questions.
    scope.spawn(move || {
        for (step, sender) in steps.zip(senders.iter().cycle()) {
            if sender.send(step).is_err() {
                return;
            }
        }
    });
    Prepared { receivers, next: 0 }
}

/// One batch of the rows with these numbers, without those that make no tokens and tiles. Whether one does depends on
/// nothing but the row and its images.
///
/// # Errors
/// The rows' file.
pub fn prepare(rows: &Rows, preprocessors: Preprocessors, numbers: &[usize]) -> Result<Batch> {
    let samples = rows.read(numbers)?;
    let all: Vec<usize> = (0..numbers.len()).collect();
    if let Ok(batch) = seen(&samples, preprocessors, &all) {
        return Ok(batch);
    }
    let (mut sound, mut skipped) = (Vec::new(), Vec::new());
    for (index, &row) in numbers.iter().enumerate() {
        match seen(&samples, preprocessors, &[index]) {
            Ok(_) => sound.push(index),
            Err(e) => skipped.push(SkippedRow {
                row,
                problem: placed(&samples.place(index), e),
            }),
        }
    }
    let batch = seen(&samples, preprocessors, &sound)?;
    Ok(Batch { skipped, ..batch })
}

/// The samples of these indices as a batch.
fn seen(
    samples: &Samples,
    preprocessors: Preprocessors,
    which: &[usize],
) -> seeward_models::Result<Batch> {
    let see = |preprocessor: Option<&Preprocessor>| {
        let preprocessor = preprocessor.filter(|_| !which.is_empty());
        preprocessor
            .map(|preprocessor| inputs(samples, preprocessor, which))
            .transpose()
    };
    Ok(Batch {
        places: which.iter().map(|&index| samples.place(index)).collect(),
        margins: margins(samples, which),
        main: see(preprocessors.main)?,
        text: see(preprocessors.text)?,
        skipped: Vec::new(),
    })
}

/// What is wrong with a row is said with its place, once.
fn placed(place: &str, error: seeward_models::Error) -> String {
    let problem = error.to_string();
    match problem.starts_with(&format!("{place}: ")) {
        true => problem,
        false => format!("{place}: {problem}"),
    }
}

fn margins(samples: &Samples, which: &[usize]) -> Option<Vec<f64>> {
    let Samples::Pairs(pairs) = samples else {
        return None;
    };
    let margins: Vec<f64> = which
        .iter()
        .map(|&index| pairs[index].sample.margin)
        .collect();
    let asked = margins.iter().any(|&margin| margin != 0.0);
    asked.then_some(margins)
}

fn inputs(
    samples: &Samples,
    preprocessor: &Preprocessor,
    which: &[usize],
) -> seeward_models::Result<Inputs> {
    match samples {
        Samples::Pairs(rows) => {
            preprocessor.pairs(&which.iter().map(|&i| &rows[i]).collect::<Vec<_>>())
        }
        Samples::Sft(rows) => {
            preprocessor.sft(&which.iter().map(|&i| &rows[i]).collect::<Vec<_>>())
        }
    }
}
