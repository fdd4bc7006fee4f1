//! The learning rate of every step: a linear ramp up to the peak, then the scheduler's shape down to its floor.
//!
//! Ramp and shapes equal the Hugging Face schedulers'; the floor is an addition.

use std::f64::consts::PI;

use crate::config::{Config, SchedulerKind};
use crate::step::phase::Phase;

/// Learning rates of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The main branch's.
    pub main: f64,
    /// The text-only branch's.
    pub text: f64,
}

/// The learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub(crate) peak: f64,
    /// Steps of the ramp, the first of which has a rate of 0.
    pub(crate) warmup: usize,
    /// Steps of the text-only branch alone, before the ramp.
    pub(crate) text_warmup: usize,
    /// All steps, the ramp's included.
    pub(crate) total: usize,
    /// The lowest rate after the ramp, as a share of the peak.
    pub(crate) floor_ratio: f64,
    /// The shape after the ramp.
    pub(crate) kind: SchedulerKind,
}

impl Schedule {
    /// The schedule that `config` asks for, over `total` steps: `warmup_steps` if there are any, else
    /// `ceil(warmup_ratio × total)`.
    pub fn new(config: &Config, total: usize) -> Self {
        let warmup = match config.warmup_steps {
            0 => (config.warmup_ratio * total as f64).ceil() as usize,
            steps => steps,
        };
        Self {
            peak: config.learning_rate,
            warmup,
            text_warmup: config.text_branch_warmup_steps,
            total,
            floor_ratio: config.min_lr_ratio,
            kind: config.lr_scheduler_type,
        }
    }

    /// The rates of a step of `phase`, counted from 0.
    pub(crate) fn rates(&self, phase: Phase, step: usize) -> Rates {
        match phase {
            Phase::TextWarmUp => Rates {
                main: 0.0,
                text: self.warmup_rate(step),
            },
            Phase::Joint => self.joint_rates(step),
        }
    }

    /// A ramp as long as the joint one, within the phase, then the peak.
    fn warmup_rate(&self, step: usize) -> f64 {
        let ramp = self.warmup.min(self.text_warmup);
        let share = match step < ramp {
            true => step as f64 / ramp as f64,
            false => 1.0,
        };
        self.peak * share
    }

    /// A warmed-up text-only branch stays at the peak until the joint ramp is over.
    fn joint_rates(&self, step: usize) -> Rates {
        let main = self.rate(step);
        let stays = self.text_warmup > 0 && step < self.warmup;
        Rates {
            main,
            text: if stays { self.peak } else { main },
        }
    }

    /// The rate of optimizer step `step`, counted from 0. After the last step it stays at the floor.
    pub fn rate(&self, step: usize) -> f64 {
        self.peak * self.share(step)
    }

    /// The rate as a share of the peak.
    fn share(&self, step: usize) -> f64 {
        match self.kind {
            SchedulerKind::Constant => 1.0,
            _ if step < self.warmup => step as f64 / self.warmup as f64,
            SchedulerKind::ConstantWithWarmup => 1.0,
            SchedulerKind::Linear => self.above_floor(1.0 - self.progress(step)),
            SchedulerKind::Cosine => {
                self.above_floor(0.5 * (1.0 + (PI * self.progress(step)).cos()))
            }
        }
    }

    /// From 0 after the ramp to 1 after the last step.
    fn progress(&self, step: usize) -> f64 {
        let steps = self.total.saturating_sub(self.warmup).max(1);
        (step - self.warmup).min(steps) as f64 / steps as f64
    }

    fn above_floor(&self, share: f64) -> f64 {
        self.floor_ratio + (1.0 - self.floor_ratio) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSINE: Schedule = Schedule {
        peak: 1.0,
        warmup: 2,
        text_warmup: 0,
        total: 10,
        floor_ratio: 0.1,
        kind: SchedulerKind::Cosine,
    };

    fn of(kind: SchedulerKind) -> Schedule {
        Schedule { kind, ..COSINE }
    }

    #[test]
    fn golden_trajectories_have_these_rates() {
        for file in ["standard", "robust"] {
            let path = format!(
                "{}/../tests/golden/train/qwen2/{file}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let golden: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let trajectory = &golden["trajectory"];
            let schedule = Schedule::new(
                &Config {
                    learning_rate: golden["settings"]["peak_lr"].as_f64().unwrap(),
                    warmup_ratio: golden["settings"]["warmup_ratio"].as_f64().unwrap(),
                    lr_scheduler_type: SchedulerKind::Cosine,
                    ..Config::default()
                },
                trajectory["total_steps"].as_u64().unwrap() as usize,
            );
            assert_eq!(trajectory["warmup_steps"], schedule.warmup);
            let steps = trajectory["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 6);
            for (step, golden) in steps.iter().enumerate() {
                let golden = golden["lr"].as_f64().unwrap();
                let rate = schedule.rate(step);
                assert!(
                    (rate - golden).abs() <= 1e-15,
                    "{file} step {step}: {rate} {golden}"
                );
            }
        }
    }

    #[test]
    fn every_ramp_begins_at_zero_and_ends_at_the_peak() {
        for kind in [
            SchedulerKind::Cosine,
            SchedulerKind::Linear,
            SchedulerKind::ConstantWithWarmup,
        ] {
            let rates = [0, 1, 2].map(|step| of(kind).rate(step));
            assert_eq!(rates, [0.0, 0.5, 1.0], "{kind:?}");
        }
        assert_eq!(of(SchedulerKind::Constant).rate(0), 1.0);
    }

    #[test]
    fn shapes_fall_to_the_floor_and_stay_there() {
        for kind in [SchedulerKind::Cosine, SchedulerKind::Linear] {
            let rates: Vec<f64> = (2..=10).map(|step| of(kind).rate(step)).collect();
            assert!(rates.is_sorted_by(|a, b| a > b), "{kind:?}: {rates:?}");
            assert!((rates[4] - 0.55).abs() < 1e-12, "half way: {rates:?}");
            assert!((of(kind).rate(10) - 0.1).abs() < 1e-12);
            assert_eq!(of(kind).rate(10), of(kind).rate(1000));
        }
        assert_eq!(of(SchedulerKind::ConstantWithWarmup).rate(1000), 1.0);
    }

    #[test]
    fn warmup_steps_override_the_ratio_which_rounds_up() {
        let config = |warmup_ratio, warmup_steps| Config {
            warmup_ratio,
            warmup_steps,
            ..Config::default()
        };
        assert_eq!(Schedule::new(&config(0.34, 0), 6).warmup, 3);
        assert_eq!(Schedule::new(&config(0.1, 0), 10).warmup, 1);
        assert_eq!(Schedule::new(&config(0.0, 0), 10).warmup, 0);
        assert_eq!(Schedule::new(&config(0.5, 4), 10).warmup, 4);
    }

    #[test]
    fn a_warmed_up_text_only_branch_stays_at_the_peak() {
        let warmed = Schedule {
            warmup: 4,
            text_warmup: 3,
            ..COSINE
        };
        let text = |schedule: Schedule, phase, steps: std::ops::Range<usize>| -> Vec<f64> {
            steps.map(|step| schedule.rates(phase, step).text).collect()
        };
        // Its ramp is no longer than its phase.
        assert_eq!(
            text(warmed, Phase::TextWarmUp, 0..3),
            [0.0, 1.0 / 3.0, 2.0 / 3.0]
        );
        assert_eq!(warmed.rates(Phase::TextWarmUp, 2).main, 0.0);
        assert_eq!(text(warmed, Phase::Joint, 0..5), [1.0; 5]);
        assert_eq!(warmed.rates(Phase::Joint, 1).main, 0.25);
        let cold = Schedule {
            text_warmup: 0,
            ..warmed
        };
        assert_eq!(text(cold, Phase::Joint, 0..5), [0.0, 0.25, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn a_ramp_as_long_as_the_run_is_all_ramp() {
        let schedule = Schedule {
            warmup: 20,
            ..COSINE
        };
        assert_eq!(schedule.rate(9), 9.0 / 20.0);
        assert!(schedule.rate(20).is_finite() && schedule.rate(25).is_finite());
    }
}
