//! Reads, tiles and tokenises the batches of the next steps on background threads while the model computes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Scope};

use anyhow::{Context, Result};
use prost::Message;

use crate::data::inputs::Inputs;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::{Rows, Samples};

/// Maximum number of background threads; each is one or two steps ahead.
const THREADS: usize = 4;

/// The preprocessors of the branches that an optimizer step trains.
#[derive(Clone, Copy)]
pub struct Preprocessors<'a> {
    /// The main branch's, if it trains.
    pub main: Option<&'a Preprocessor>,
    /// The text-only branch's, if it trains.
    pub text: Option<&'a Preprocessor>,
}

/// The rows of one forward pass, preprocessed for each branch that trains.
pub struct Batch {
    /// Places of the rows: `file:line`.
    pub(crate) places: Vec<String>,
    /// Target margin of each row; `None` if no row has one.
    pub margins: Option<Vec<f64>>,
    /// Input of the main branch.
    pub main: Option<Inputs>,
    /// Input of the text-only branch.
    pub text: Option<Inputs>,
    /// Rows that were skipped.
    pub(crate) skipped: Vec<SkippedRow>,
}

/// A row that cannot be preprocessed, because an image cannot be decoded or `max_length` cuts image tokens.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SkippedRow {
    /// Row number.
    #[prost(uint64, tag = "1")]
    pub(crate) row: u64,
    /// The problem, starting with `file:line`.
    #[prost(string, tag = "2")]
    pub(crate) problem: String,
}

impl Batch {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.places.len()
    }
}

/// The receiving end of the background threads; batches arrive in the order of the steps.
pub(crate) struct Prepared {
    receivers: Vec<Receiver<Result<Vec<Batch>>>>,
    next: usize,
}

impl Prepared {
    /// Waits for the batches of the next step.
    ///
    /// # Errors
    /// The file of the rows cannot be read, or no step is left.
    pub(crate) fn step(&mut self) -> Result<Vec<Batch>> {
        let receiver = &self.receivers[self.next % self.receivers.len()];
        self.next += 1;
        receiver.recv().context("the loader stopped")?
    }
}

/// Spawns threads that prepare the batches of each step, which are given as row numbers.
pub(crate) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    rows: &'env Rows,
    steps: impl Iterator<Item = (Preprocessors<'env>, Vec<Vec<usize>>)> + Send + 'scope,
) -> Prepared {
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS));
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (step_sender, steps) = sync_channel::<(Preprocessors<'env>, Vec<Vec<usize>>)>(0);
        let (batch_sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            for (preprocessors, batches) in steps {
                let batches = batches.iter();
                let prepared = batches
                    .map(|numbers| prepare(rows, preprocessors, numbers))
                    .collect();
                // Fails once the trainer has stopped.
                if batch_sender.send(prepared).is_err() {
                    return;
                }
            }
        });
        senders.push(step_sender);
        receivers.push(receiver);
    }
    // Steps are assigned to the threads in turn, the order in which `Prepared` receives them.
    scope.spawn(move || {
        for (step, sender) in steps.zip(senders.iter().cycle()) {
            if sender.send(step).is_err() {
                return;
            }
        }
    });
    Prepared { receivers, next: 0 }
}

/// Preprocesses the rows with these numbers as one batch. Skips rows that cannot be preprocessed, which depends only on
/// the row and its images.
///
/// # Errors
/// The file of the rows cannot be read.
pub fn prepare(rows: &Rows, preprocessors: Preprocessors, numbers: &[usize]) -> Result<Batch> {
    let samples = rows.read(numbers)?;
    let all: Vec<usize> = (0..numbers.len()).collect();
    if let Ok(batch) = batch(&samples, preprocessors, &all) {
        return Ok(batch);
    }
    let (mut good, mut skipped) = (Vec::new(), Vec::new());
    for (index, &row) in numbers.iter().enumerate() {
        match batch(&samples, preprocessors, &[index]) {
            Ok(_) => good.push(index),
            Err(e) => skipped.push(SkippedRow {
                row: row as u64,
                problem: with_place(&samples.place(index), e),
            }),
        }
    }
    let batch = batch(&samples, preprocessors, &good)?;
    Ok(Batch { skipped, ..batch })
}

/// Preprocesses the samples with these indices.
fn batch(
    samples: &Samples,
    preprocessors: Preprocessors,
    indices: &[usize],
) -> seeward_models::Result<Batch> {
    let preprocess = |preprocessor: Option<&Preprocessor>| {
        let preprocessor = preprocessor.filter(|_| !indices.is_empty());
        preprocessor
            .map(|preprocessor| inputs(samples, preprocessor, indices))
            .transpose()
    };
    Ok(Batch {
        places: indices.iter().map(|&index| samples.place(index)).collect(),
        margins: margins(samples, indices),
        main: preprocess(preprocessors.main)?,
        text: preprocess(preprocessors.text)?,
        skipped: Vec::new(),
    })
}

/// The error's message, prefixed with the row's place if it does not start with it.
fn with_place(place: &str, error: seeward_models::Error) -> String {
    let problem = error.to_string();
    match problem.starts_with(&format!("{place}: ")) {
        true => problem,
        false => format!("{place}: {problem}"),
    }
}

fn margins(samples: &Samples, indices: &[usize]) -> Option<Vec<f64>> {
    let Samples::Pairs(pairs) = samples else {
        return None;
    };
    let margins: Vec<f64> = indices
        .iter()
        .map(|&index| pairs[index].sample.margin)
        .collect();
    let any = margins.iter().any(|&margin| margin != 0.0);
    any.then_some(margins)
}

fn inputs(
    samples: &Samples,
    preprocessor: &Preprocessor,
    indices: &[usize],
) -> seeward_models::Result<Inputs> {
    match samples {
        Samples::Pairs(rows) => {
            preprocessor.pairs(&indices.iter().map(|&i| &rows[i]).collect::<Vec<_>>())
        }
        Samples::Sft(rows) => {
            preprocessor.sft(&indices.iter().map(|&i| &rows[i]).collect::<Vec<_>>())
        }
    }
}
