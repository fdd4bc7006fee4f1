//! Which rows each optimizer step trains on: a function of the config and the number of rows alone.

use crate::config::Config;
use crate::random::Stream;

/// The steps of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    rows: usize,
    batch: usize,
    accumulation: usize,
    seed: u64,
    shuffle: bool,
    /// Optimizer steps of one pass over the rows; a last partial one counts.
    pub steps_per_epoch: usize,
    /// Optimizer steps in all.
    pub total_steps: usize,
}

impl Plan {
    /// `max_steps` if it is set, the data repeating as needed, else as many as the epochs take.
    pub fn new(config: &Config, rows: usize) -> Self {
        let per_step = config.per_device_train_batch_size * config.gradient_accumulation_steps;
        let steps_per_epoch = rows.div_ceil(per_step).max(1);
        let by_epochs = (config.num_train_epochs * steps_per_epoch as f64).ceil() as usize;
        Self {
            rows,
            batch: config.per_device_train_batch_size,
            accumulation: config.gradient_accumulation_steps,
            seed: config.seed as u64,
            shuffle: config.shuffle,
            steps_per_epoch,
            total_steps: usize::try_from(config.max_steps).unwrap_or(by_epochs),
        }
    }

    /// The row numbers of a step's forward passes.
    pub fn step(&self, step: usize) -> Vec<Vec<usize>> {
        self.of("epoch", step)
    }

    /// The same for the text-only branch's own steps before step 0, from an order of their own.
    pub fn warmup_step(&self, step: usize) -> Vec<Vec<usize>> {
        self.of("text-only warm-up", step)
    }

    fn of(&self, place: &str, step: usize) -> Vec<Vec<usize>> {
        let (epoch, within) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
        let order = self.order(place, epoch);
        let per_step = self.batch * self.accumulation;
        let rows = order
            .iter()
            .copied()
            .skip(within * per_step)
            .take(per_step)
            .collect::<Vec<_>>();
        rows.chunks(self.batch).map(<[usize]>::to_vec).collect()
    }

    fn order(&self, place: &str, epoch: usize) -> Vec<usize> {
        if self.shuffle {
            Stream::new(self.seed, place, epoch as u64).permutation(self.rows)
        } else {
            (0..self.rows).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: usize, batch: usize, accumulation: usize, shuffle: bool) -> Plan {
        let config = Config {
            per_device_train_batch_size: batch,
            gradient_accumulation_steps: accumulation,
            num_train_epochs: 2.0,
            shuffle,
            ..Config::default()
        };
        Plan::new(&config, rows)
    }

    #[test]
    fn a_partial_step_counts_and_epochs_follow_each_other() {
        let plan = plan(10, 2, 2, false);
        assert_eq!((plan.steps_per_epoch, plan.total_steps), (3, 6));
        assert_eq!(plan.step(0), [[0, 1], [2, 3]]);
        assert_eq!(plan.step(2), [[8, 9]]);
        assert_eq!(plan.step(3), plan.step(0));
    }

    #[test]
    fn every_epoch_visits_every_row_once_in_an_order_of_its_own() {
        let plan = plan(10, 3, 1, true);
        let epoch = |first: usize| {
            (first..first + 4)
                .flat_map(|s| plan.step(s).concat())
                .collect::<Vec<_>>()
        };
        assert_ne!(epoch(0), epoch(4));
        for mut rows in [epoch(0), epoch(4)] {
            rows.sort();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(plan.step(0), plan.warmup_step(0));
    }
}
