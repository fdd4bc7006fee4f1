//! What all processes agree on before they compute a step: its rows, those that are skipped, and whether a signal asks
//! them to stop. Every decision is made from these, so every process makes the same one.

use anyhow::{Result, ensure};
use prost::Message;
use seeward_models::process::Signal;

use crate::data::loader::{Batch, SkippedRow};
use crate::world::ranks::World;

/// A step, as all processes see it.
pub(crate) struct Agreement {
    /// Rows of all processes.
    pub(crate) rows: usize,
    /// The signal of any process.
    pub(crate) signal: Option<Signal>,
    /// The skipped rows of all processes, in the order of passes.
    pub(crate) skipped: Vec<SkippedRow>,
}

/// The share of one process.
#[derive(Clone, PartialEq, Message)]
struct Proposal {
    /// Number of steps taken.
    #[prost(uint64, tag = "1")]
    taken: u64,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(int32, optional, tag = "3")]
    signal: Option<i32>,
    /// By pass.
    #[prost(message, repeated, tag = "4")]
    skipped: Vec<SkippedOfPass>,
}

/// The skipped rows of one pass.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SkippedOfPass {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<SkippedRow>,
}

impl SkippedOfPass {
    /// Those of a batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        Self {
            rows: batch.skipped.clone(),
        }
    }
}

/// The skipped rows of all processes in the order of passes, which go to the processes in turn.
pub(crate) fn in_order(processes: &[&[SkippedOfPass]]) -> Vec<SkippedRow> {
    let passes = processes.iter().map(|passes| passes.len()).max();
    let of_pass = |pass: usize| processes.iter().filter_map(move |passes| passes.get(pass));
    let all = (0..passes.unwrap_or(0)).flat_map(of_pass);
    all.flat_map(|pass| pass.rows.clone()).collect()
}

/// Exchanges the rows of the step after `taken` ones.
///
/// # Errors
/// Another process is at another step, has ended or does not answer.
pub(crate) fn agree(
    world: &World,
    taken: usize,
    batches: &[Batch],
    signal: Option<Signal>,
) -> Result<Agreement> {
    let all = world.exchange(&Proposal {
        taken: taken as u64,
        rows: batches.iter().map(Batch::rows).sum::<usize>() as u64,
        signal: signal.map(Signal::number),
        skipped: batches.iter().map(SkippedOfPass::of).collect(),
    })?;
    for (rank, other) in all.iter().enumerate() {
        let other = other.taken;
        ensure!(
            other == taken as u64,
            "rank {rank} has taken {other} steps, this process {taken}: do all run the same program?"
        );
    }
    let skipped: Vec<&[SkippedOfPass]> = all.iter().map(|of| &of.skipped[..]).collect();
    Ok(Agreement {
        rows: all.iter().map(|of| of.rows as usize).sum(),
        signal: all.iter().find_map(|of| of.signal).map(Signal::of_number),
        skipped: in_order(&skipped),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_rows_are_in_the_order_of_passes() {
        let pass = |rows: &[u64]| SkippedOfPass {
            rows: rows
                .iter()
                .map(|&row| SkippedRow {
                    row,
                    problem: String::new(),
                })
                .collect(),
        };
        let first = [pass(&[1, 2]), pass(&[]), pass(&[9])];
        let second = [pass(&[4]), pass(&[6])];
        let rows: Vec<u64> = in_order(&[&first, &second]).iter().map(|s| s.row).collect();
        assert_eq!(rows, [1, 2, 4, 6, 9]);
        assert!(in_order(&[]).is_empty());
    }
}
