//! Reads, tiles and tokenises the next batches on a thread of its own while the model computes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use seeward_models::Result;

use crate::batch::{Inputs, View};
use crate::data::Rows;

/// Steps prepared ahead.
const AHEAD: usize = 2;

/// Which branches an optimizer step trains.
#[derive(Clone, Copy)]
pub struct Views<'a> {
    /// How the main branch sees rows, if it trains.
    pub main: Option<&'a View>,
    /// How the text-only branch sees rows, if it trains.
    pub text: Option<&'a View>,
}

/// One forward pass, seen by each branch that trains.
pub struct Batch {
    /// Where its rows stand: `file:line`.
    pub places: Vec<String>,
    /// The margin that each row asks for; `None` where none does.
    pub margins: Option<Vec<f64>>,
    /// What the main branch reads.
    pub main: Option<Inputs>,
    /// What the text-only branch reads.
    pub text: Option<Inputs>,
}

impl Batch {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.places.len()
    }
}

/// Prepares the batches of each step, given as row numbers; they arrive in order.
pub fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    rows: &'env Rows,
    steps: impl Iterator<Item = (Views<'env>, Vec<Vec<usize>>)> + Send + 'scope,
) -> Receiver<Result<Vec<Batch>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    scope.spawn(move || {
        for (views, batches) in steps {
            let prepared = batches
                .iter()
                .map(|numbers| prepare(rows, views, numbers))
                .collect();
            // The trainer has stopped and wants no more.
            if sender.send(prepared).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One batch of the rows with these numbers.
pub fn prepare(rows: &Rows, views: Views, numbers: &[usize]) -> Result<Batch> {
    let see = |view: Option<&View>| view.map(|view| inputs(rows, view, numbers)).transpose();
    Ok(Batch {
        places: numbers.iter().map(|&number| rows.place(number)).collect(),
        margins: margins(rows, numbers),
        main: see(views.main)?,
        text: see(views.text)?,
    })
}

fn margins(rows: &Rows, numbers: &[usize]) -> Option<Vec<f64>> {
    let Rows::Pairs(pairs) = rows else {
        return None;
    };
    let asked = numbers.iter().map(|&number| pairs[number].sample.margin);
    let margins: Vec<f64> = asked.collect();
    margins
        .iter()
        .any(|&margin| margin != 0.0)
        .then_some(margins)
}

fn inputs(rows: &Rows, view: &View, numbers: &[usize]) -> Result<Inputs> {
    match rows {
        Rows::Pairs(pairs) => view.pairs(&numbers.iter().map(|&n| &pairs[n]).collect::<Vec<_>>()),
        Rows::Sft(rows) => view.sft(&numbers.iter().map(|&n| &rows[n]).collect::<Vec<_>>()),
    }
}
