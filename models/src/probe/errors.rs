//! How far rewards are off, compared with rewards of the same weights in fp32, and whether that is too far.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Tolerance of a lossy precision: the root mean square of the errors as a share of the rewards' spread. On a trained 135M
/// language model PyTorch's bf16 has 0.10 to 0.15, and int8 that loses no more 0.13; few rewards scatter around that. With
/// independent errors of 0.3, a tenth of random pairs changes its order.
pub const LOSSY_TOLERANCE: f64 = 0.3;
/// Fewer rewards say nothing about a lossy precision.
const LEAST_REWARDS: usize = 4;
/// The same for rewards whose deviation is a smaller share of their size.
const LEAST_DEVIATION: f64 = 0.01;

/// The rewards of a row's responses.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardRow {
    /// In fp32, as the trainer or a bundle in fp32 computed them.
    pub expected: Vec<f32>,
    /// As a bundle computes them: as many.
    pub got: Vec<f32>,
}

/// Errors of rewards, `got - expected`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardErrors {
    /// Number of rewards.
    pub rewards: usize,
    /// Root mean square of the expected rewards.
    pub size: f64,
    /// Standard deviation of the expected rewards.
    pub deviation: f64,
    /// The spread of the model's rewards: their standard deviation over the trainer's evaluation set, else `deviation`.
    pub spread: f64,
    /// Root mean square of the errors.
    pub rms: f64,
    /// Mean of the errors.
    pub mean: f64,
    /// Root mean square of the errors of margins between responses of one row.
    pub margins: f64,
    /// The largest error, in multiples of max(1, |reward|).
    pub largest: f64,
}

/// The error with which a bundle still counts as trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Of the largest error, in multiples of max(1, |reward|).
    Largest(f64),
    /// Of the root mean square of the errors, as a share of the rewards' spread.
    ShareOfSpread(f64),
}

/// What errors say about a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It computes the trained model.
    AsTrained,
    /// It does not, or too coarsely.
    NotAsTrained,
    /// Its rewards cannot tell, for this reason.
    Undecided(String),
}

impl RewardRow {
    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        let pairs = self.expected.iter().zip(&self.got);
        pairs.map(|(expected, got)| (f64::from(*expected), f64::from(*got)))
    }

    fn errors(&self) -> Vec<f64> {
        self.pairs().map(|(expected, got)| got - expected).collect()
    }
}

impl RewardErrors {
    /// The errors of `rows`, whose model's rewards are known to have the standard deviation `spread`.
    pub fn of(rows: &[RewardRow], spread: Option<f64>) -> Self {
        let expected = rows.iter().flat_map(|row| row.expected.iter().copied());
        let expected: Vec<f64> = expected.map(f64::from).collect();
        let centre = mean(&expected);
        let centred: Vec<f64> = expected.iter().map(|reward| reward - centre).collect();
        let deviation = rms(&centred);
        let errors: Vec<f64> = rows.iter().flat_map(RewardRow::errors).collect();
        let margins: Vec<f64> = rows.iter().flat_map(|row| margins(&row.errors())).collect();
        let relative =
            |(expected, got): (f64, f64)| (got - expected).abs() / expected.abs().max(1.0);
        Self {
            rewards: expected.len(),
            size: rms(&expected),
            deviation,
            spread: spread.filter(|spread| *spread > 0.0).unwrap_or(deviation),
            rms: rms(&errors),
            mean: mean(&errors),
            margins: rms(&margins),
            largest: rows
                .iter()
                .flat_map(RewardRow::pairs)
                .map(relative)
                .fold(0.0, f64::max),
        }
    }

    /// Whether the errors are within `tolerance`.
    pub fn verdict(&self, tolerance: Tolerance) -> Verdict {
        if let Some(reason) = self.obstacle(tolerance) {
            return Verdict::Undecided(reason);
        }
        let within = match tolerance {
            Tolerance::Largest(tolerance) => self.largest <= tolerance,
            Tolerance::ShareOfSpread(share) => self.rms <= share * self.spread,
        };
        match within {
            true => Verdict::AsTrained,
            false => Verdict::NotAsTrained,
        }
    }

    /// Why the rewards cannot tell: a model that confuses its inputs would give the same ones.
    fn obstacle(&self, tolerance: Tolerance) -> Option<String> {
        let least = match tolerance {
            Tolerance::Largest(tolerance) => tolerance * self.size.max(1.0),
            Tolerance::ShareOfSpread(_) if self.rewards < LEAST_REWARDS => {
                let expected = format!("expected at least {LEAST_REWARDS} known rewards");
                return Some(format!("{expected}, got {}", self.rewards));
            }
            Tolerance::ShareOfSpread(_) => LEAST_DEVIATION * self.size,
        };
        (self.deviation <= least).then(|| {
            let (rewards, deviation) = (self.rewards, self.deviation);
            format!(
                "its {rewards} known rewards spread by {deviation:.1e}, too little to judge it (expected more than {least:.1e})"
            )
        })
    }
}

/// As shares of the spread: `0.13 of the rewards' spread (RMS; mean +0.05, margins 0.11)`.
impl fmt::Display for RewardErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |error: f64| error / self.spread;
        write!(
            f,
            "{:.3} of the rewards' spread (RMS; mean {:+.3}, margins {:.3})",
            share(self.rms),
            share(self.mean),
            share(self.margins)
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsTrained => f.write_str("as trained"),
            Self::NotAsTrained => f.write_str("not as trained"),
            Self::Undecided(reason) => f.write_str(reason),
        }
    }
}

/// The differences between all pairs.
fn margins(values: &[f64]) -> Vec<f64> {
    let pairs = values.iter().enumerate();
    let pairs = pairs.flat_map(|(index, b)| values[..index].iter().map(move |a| a - b));
    pairs.collect()
}

/// 0 without values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn rms(values: &[f64]) -> f64 {
    let squares: Vec<f64> = values.iter().map(|value| value * value).collect();
    mean(&squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(expected: &[f32], errors: &[f32]) -> RewardRow {
        let got = expected.iter().zip(errors);
        RewardRow {
            expected: expected.to_vec(),
            got: got.map(|(reward, error)| reward + error).collect(),
        }
    }

    fn rows(errors: [f32; 4]) -> [RewardRow; 2] {
        [
            row(&[-3.0, 1.0], &errors[..2]),
            row(&[-1.0, 3.0], &errors[2..]),
        ]
    }

    #[test]
    fn a_common_shift_moves_the_mean_and_no_margin() {
        let errors = RewardErrors::of(&rows([0.5; 4]), None);
        assert_eq!((errors.mean, errors.rms, errors.margins), (0.5, 0.5, 0.0));
        assert_eq!((errors.rewards, errors.largest), (4, 0.5));
        let text = "0.224 of the rewards' spread (RMS; mean +0.224, margins 0.000)";
        assert_eq!(errors.to_string(), text);
        let errors = RewardErrors::of(&rows([0.5, -0.5, 0.5, -0.5]), Some(2.0));
        assert_eq!((errors.mean, errors.rms, errors.margins), (0.0, 0.5, 1.0));
        let text = "0.250 of the rewards' spread (RMS; mean +0.000, margins 0.500)";
        assert_eq!(errors.to_string(), text);
    }

    #[test]
    fn a_lossy_precision_is_judged_by_the_spread() {
        let verdict = |error: f32, spread| {
            let errors = RewardErrors::of(&rows([error, -error, error, error]), spread);
            errors.verdict(Tolerance::ShareOfSpread(0.3))
        };
        // The deviation of these rewards is 2.24.
        assert_eq!(verdict(0.6, None), Verdict::AsTrained);
        assert_eq!(verdict(0.7, None), Verdict::NotAsTrained);
        assert_eq!(verdict(0.7, Some(2.5)), Verdict::AsTrained);
        assert_eq!(verdict(0.6, Some(1.5)), Verdict::NotAsTrained);
        assert_eq!(verdict(0.6, Some(0.0)), Verdict::AsTrained);
        assert_eq!(verdict(f32::INFINITY, None), Verdict::NotAsTrained);
    }

    #[test]
    fn an_exact_precision_is_judged_by_its_largest_error() {
        let verdict =
            |errors| RewardErrors::of(&rows(errors), None).verdict(Tolerance::Largest(0.1));
        assert_eq!(verdict([0.29, 0.09, 0.0, 0.0]), Verdict::AsTrained);
        assert_eq!(verdict([0.0, 0.11, 0.0, 0.0]), Verdict::NotAsTrained);
    }

    #[track_caller]
    fn assert_undecided(rows: &[RewardRow], tolerance: Tolerance, reason: &str) {
        let verdict = RewardErrors::of(rows, None).verdict(tolerance);
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict}");
        assert!(verdict.to_string().contains(reason), "{verdict}");
    }

    #[test]
    fn few_or_equal_rewards_judge_nothing() {
        let share = Tolerance::ShareOfSpread(0.3);
        assert_undecided(
            &[row(&[0.0, 9.0], &[0.0; 2])],
            share,
            "at least 4 known rewards, got 2",
        );
        let alike = [row(&[5.0, 5.04], &[0.0; 2]), row(&[5.0, 5.04], &[0.0; 2])];
        assert_undecided(
            &alike,
            share,
            "its 4 known rewards spread by 2.0e-2, too little",
        );
        let exact = RewardErrors::of(&alike, None).verdict(Tolerance::Largest(1e-4));
        assert_eq!(exact, Verdict::AsTrained);
        let equal = [row(&[0.0, 1e-5], &[0.0; 2])];
        assert_undecided(
            &equal,
            Tolerance::Largest(1e-4),
            "spread by 5.0e-6, too little",
        );
    }
}
