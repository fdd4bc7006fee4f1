//! The assignment of rows to optimizer steps: a function of the config, the number of rows and of processes and, with
//! `group_by_length`, the lengths of the rows. The passes of a step go to the processes in turn.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::config::Config;
use crate::random::Stream;
use crate::world::environment::Ranks;

/// Maximum number of steps whose rows are sorted together, with `group_by_length`.
const GROUP: usize = 50;

/// Assigns rows to the steps of a run.
#[derive(Clone, Debug)]
pub struct Sampler {
    rows: usize,
    /// Number of rows that an epoch uses.
    used: usize,
    batch: usize,
    /// Forward passes of one step, of all processes together.
    passes: usize,
    ranks: Ranks,
    seed: u64,
    shuffle: bool,
    /// Length of every row, with `group_by_length`.
    lengths: Option<Arc<[u32]>>,
    /// Optimizer steps of one epoch; a partial last step counts.
    pub(crate) steps_per_epoch: usize,
    /// Optimizer steps of the run.
    pub total_steps: usize,
}

impl Sampler {
    /// A sampler of `rows` rows for `max_steps` steps, if set, or for `num_train_epochs` epochs, of a process that trains
    /// alone.
    ///
    /// # Errors
    /// Incomplete batches are skipped (`dataloader_drop_last`) and there is no complete one.
    pub fn new(config: &Config, rows: usize) -> Result<Self> {
        Self::among(Ranks::default(), config, rows)
    }

    /// The same, of one of several processes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn among(ranks: Ranks, config: &Config, rows: usize) -> Result<Self> {
        let batch = config.per_device_train_batch_size;
        let incomplete = if config.dataloader_drop_last {
            rows % batch
        } else {
            0
        };
        ensure!(
            incomplete == 0 || incomplete < rows,
            "dataloader_drop_last: {rows} rows do not fill a batch of {batch}"
        );
        let used = rows - incomplete;
        let passes = config.gradient_accumulation_steps * ranks.size;
        let steps_per_epoch = used.div_ceil(batch * passes).max(1);
        let by_epochs = (config.num_train_epochs * steps_per_epoch as f64).ceil() as usize;
        Ok(Self {
            rows,
            used,
            batch,
            passes,
            ranks,
            seed: config.data_seed.unwrap_or(config.seed) as u64,
            shuffle: config.shuffle,
            lengths: None,
            steps_per_epoch,
            total_steps: usize::try_from(config.max_steps).unwrap_or(by_epochs),
        })
    }

    /// Groups the rows of each step by their lengths.
    pub(crate) fn grouped(self, lengths: Vec<u32>) -> Self {
        Self {
            lengths: Some(lengths.into()),
            ..self
        }
    }

    /// Rows of a complete step, of all processes together.
    pub(crate) fn rows_per_step(&self) -> usize {
        self.batch * self.passes
    }

    /// The row numbers of this process's forward passes of each of these steps.
    pub fn steps(&self, steps: Range<usize>) -> Steps {
        self.of("epoch", steps)
    }

    /// The same for the warm-up steps of the text-only branch, in a separate order of the rows.
    pub(crate) fn warmup_steps(&self, steps: Range<usize>) -> Steps {
        self.of("text-only warm-up", steps)
    }

    /// Whether `step` is a multiple of `every` or the last step.
    pub(crate) fn is_due(&self, step: usize, every: usize) -> bool {
        step == self.total_steps || (every > 0 && step.is_multiple_of(every))
    }

    fn of(&self, place: &'static str, steps: Range<usize>) -> Steps {
        Steps {
            sampler: self.clone(),
            place,
            steps,
            order: None,
        }
    }

    fn order(&self, place: &str, epoch: usize) -> Vec<usize> {
        if !self.shuffle {
            return (0..self.used).collect();
        }
        let mut order = Stream::new(self.seed, place, epoch as u64).permutation(self.rows);
        order.truncate(self.used);
        match &self.lengths {
            Some(lengths) => self.group(order, lengths),
            None => order,
        }
    }

    /// Sorts the rows of each group of steps by length, longest first. The step with the longest row of the epoch comes
    /// first, so that a batch that does not fit into memory fails at once.
    fn group(&self, mut order: Vec<usize>, lengths: &[u32]) -> Vec<usize> {
        let per_step = self.rows_per_step();
        let steps = (self.rows / (4 * per_step)).clamp(1, GROUP);
        let of_group = steps * per_step;
        for group in order.chunks_mut(of_group) {
            group.sort_by_key(|&row| Reverse(lengths[row]));
        }
        let firsts = (0..order.len()).step_by(of_group);
        let longest = firsts.max_by_key(|&first| (lengths[order[first]], Reverse(first)));
        let longest = longest.unwrap_or(0);
        for row in 0..per_step.min(order.len() - longest) {
            order.swap(row, longest + row);
        }
        order
    }
}

/// An iterator over the row numbers of steps; it holds the order of one epoch.
pub struct Steps {
    sampler: Sampler,
    place: &'static str,
    steps: Range<usize>,
    order: Option<(usize, Vec<usize>)>,
}

impl Iterator for Steps {
    type Item = Vec<Vec<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.steps.next()?;
        let per_epoch = self.sampler.steps_per_epoch;
        let (epoch, within) = (step / per_epoch, step % per_epoch);
        let held = self.order.take().filter(|(held, _)| *held == epoch);
        let (_, order) = self.order.insert(match held {
            Some(held) => held,
            None => (epoch, self.sampler.order(self.place, epoch)),
        });
        let per_step = self.sampler.rows_per_step();
        let rows = order.chunks(per_step).nth(within).unwrap_or_default();
        let passes = rows.chunks(self.sampler.batch).map(<[usize]>::to_vec);
        Some(self.sampler.ranks.share(passes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(rows: usize, batch: usize, accumulation: usize, shuffle: bool) -> Sampler {
        let config = Config {
            per_device_train_batch_size: batch,
            gradient_accumulation_steps: accumulation,
            num_train_epochs: 2.0,
            shuffle,
            ..Config::default()
        };
        Sampler::new(&config, rows).unwrap()
    }

    fn step(sampler: &Sampler, step: usize) -> Vec<Vec<usize>> {
        sampler.steps(step..step + 1).next().unwrap_or_default()
    }

    fn epoch(sampler: &Sampler, epoch: usize) -> Vec<usize> {
        let first = epoch * sampler.steps_per_epoch;
        let steps = sampler.steps(first..first + sampler.steps_per_epoch);
        steps.flat_map(|step| step.concat()).collect()
    }

    #[test]
    fn a_partial_step_counts_and_epochs_follow_each_other() {
        let sampler = sampler(10, 2, 2, false);
        assert_eq!((sampler.steps_per_epoch, sampler.total_steps), (3, 6));
        assert_eq!(step(&sampler, 0), [[0, 1], [2, 3]]);
        assert_eq!(step(&sampler, 2), [[8, 9]]);
        assert_eq!(step(&sampler, 3), step(&sampler, 0));
        let all: Vec<_> = sampler.steps(0..6).collect();
        for (index, rows) in all.into_iter().enumerate() {
            assert_eq!(rows, step(&sampler, index));
        }
    }

    #[test]
    fn the_passes_of_a_step_go_to_the_processes_in_turn() {
        let alone = sampler(22, 2, 4, true);
        for (size, accumulation) in [(2, 2), (4, 1)] {
            let config = Config {
                per_device_train_batch_size: 2,
                gradient_accumulation_steps: accumulation,
                ..Config::default()
            };
            let share = |rank| Sampler::among(Ranks { rank, size }, &config, 22).unwrap();
            for number in 0..alone.steps_per_epoch {
                let shares: Vec<_> = (0..size).map(|rank| step(&share(rank), number)).collect();
                for (pass, rows) in step(&alone, number).iter().enumerate() {
                    assert_eq!(shares[pass % size].get(pass / size), Some(rows));
                }
                let passes: usize = shares.iter().map(Vec::len).sum();
                assert_eq!(passes, step(&alone, number).len());
            }
        }
    }

    #[test]
    fn every_epoch_visits_every_row_once_in_its_own_order() {
        let sampler = sampler(10, 3, 1, true);
        assert_ne!(epoch(&sampler, 0), epoch(&sampler, 1));
        for mut rows in [epoch(&sampler, 0), epoch(&sampler, 1)] {
            rows.sort();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
        let warmup = sampler.warmup_steps(0..1).next();
        assert_ne!(step(&sampler, 0), warmup.unwrap_or_default());
    }

    #[test]
    fn incomplete_batches_may_be_skipped() {
        let sampler = |rows, batch, accumulation| {
            let config = Config {
                per_device_train_batch_size: batch,
                gradient_accumulation_steps: accumulation,
                dataloader_drop_last: true,
                ..Config::default()
            };
            Sampler::new(&config, rows)
        };
        // Three batches of three: the last step accumulates one only.
        let kept = sampler(11, 3, 2).unwrap();
        assert_eq!(kept.steps_per_epoch, 2);
        let lengths = |step| step_lengths(&kept, step);
        assert_eq!((lengths(0), lengths(1)), (vec![3, 3], vec![3]));
        let mut rows = [epoch(&kept, 0), epoch(&kept, 1)].concat();
        rows.sort();
        rows.dedup();
        assert!(rows.len() > 9, "every epoch skips other rows: {rows:?}");
        assert_eq!(sampler(9, 3, 1).unwrap().steps_per_epoch, 3);
        let refused = sampler(2, 3, 1).unwrap_err().to_string();
        assert_eq!(
            refused,
            "dataloader_drop_last: 2 rows do not fill a batch of 3"
        );
    }

    fn step_lengths(sampler: &Sampler, index: usize) -> Vec<usize> {
        step(sampler, index).iter().map(Vec::len).collect()
    }

    #[test]
    fn the_order_has_its_own_seed() {
        let of = |seed, data_seed| {
            let config = Config {
                seed,
                data_seed,
                ..Config::default()
            };
            epoch(&Sampler::new(&config, 20).unwrap(), 0)
        };
        assert_eq!(of(1, Some(7)), of(2, Some(7)));
        assert_eq!(of(1, Some(7)), of(7, None));
        assert_ne!(of(1, Some(7)), of(1, None));
    }

    #[test]
    fn rows_of_a_step_are_of_similar_length() {
        let lengths: Vec<u32> = (0..1000).map(|row| row * 7919 % 1009).collect();
        let plain = sampler(1000, 5, 2, true);
        let grouped = plain.clone().grouped(lengths.clone());
        let spread = |sampler: &Sampler| -> u32 {
            let of_step = |rows: Vec<Vec<usize>>| {
                let rows = rows.concat();
                let of_rows = || rows.iter().map(|&row| lengths[row]);
                of_rows().max().unwrap_or(0) - of_rows().min().unwrap_or(0)
            };
            sampler.steps(0..sampler.steps_per_epoch).map(of_step).sum()
        };
        // 25 steps share a group of 250 rows: a step spans a twenty-fifth of the lengths.
        assert!(spread(&grouped) * 10 < spread(&plain));
        let mut rows = epoch(&grouped, 0);
        let longest = (0..1000).max_by_key(|&row| lengths[row]);
        assert_eq!(Some(rows[0]), longest);
        rows.sort();
        assert_eq!(rows, (0..1000).collect::<Vec<_>>());
        assert_ne!(epoch(&grouped, 0), epoch(&grouped, 1));
    }

    #[test]
    fn every_number_of_rows_can_be_grouped() {
        for rows in [7, 39, 41, 103] {
            let lengths = (0..rows as u32).map(|row| row * 31 % 97).collect();
            let sampler = sampler(rows, 2, 2, true).grouped(lengths);
            let mut seen = epoch(&sampler, 0);
            seen.sort();
            assert_eq!(seen, (0..rows).collect::<Vec<_>>());
        }
    }
}
