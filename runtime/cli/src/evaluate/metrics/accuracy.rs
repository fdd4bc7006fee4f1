//! The accuracy of a model with its interval, and the means that metrics share.

use serde::Serialize;

/// The 97.5 % point of the normal distribution: intervals cover 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// The share of pairs that a model orders right.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accuracy {
    /// Pairs ordered right, a tie as half a pair.
    pub right: f64,
    /// All pairs.
    pub pairs: usize,
}

/// An [`Accuracy`] in the form of reports: fractions from 0 to 1, `None` without pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// All pairs.
    pub pairs: usize,
    /// The share that is ordered right.
    pub accuracy: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

impl Accuracy {
    /// The accuracy on the pairs with these margins.
    pub fn of(margins: &[f64]) -> Self {
        Self {
            right: margins.iter().copied().map(credit).sum(),
            pairs: margins.len(),
        }
    }

    /// From 0 to 1; `None` without pairs.
    pub fn share(self) -> Option<f64> {
        (self.pairs > 0).then(|| self.right / self.pairs as f64)
    }

    /// The 95 % confidence interval of the share, after Wilson (1927); `None` without pairs.
    pub fn interval(self) -> Option<(f64, f64)> {
        Some(wilson(self.share()?, self.pairs as f64))
    }

    /// The form for reports.
    pub fn measured(self) -> Measured {
        Measured {
            pairs: self.pairs,
            accuracy: self.share(),
            interval: self.interval(),
        }
    }
}

/// Wilson's interval of a share of `n`.
pub(super) fn wilson(share: f64, n: f64) -> (f64, f64) {
    let centre = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let (low, high) = ((centre - reach) / scale, (centre + reach) / scale);
    (low.max(0.0), high.min(1.0))
}

/// The share of a pair that is right: 1, for a tie 0.5, or 0.
pub(super) fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin == 0.0 {
        0.5
    } else {
        0.0
    }
}

/// The mean; `None` without values.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    mean_of(values, |value| value)
}

/// The mean of `f`; `None` without values.
pub(super) fn mean_of(values: &[f64], f: impl Fn(f64) -> f64) -> Option<f64> {
    let sum: f64 = values.iter().copied().map(f).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!(
            (got - expected).abs() < 5e-5,
            "got {got}, expected {expected}"
        );
    }

    #[test]
    fn a_tie_is_half_right() {
        let accuracy = Accuracy::of(&[1.0, -1.0, 0.0, 0.5]);
        assert_eq!((accuracy.right, accuracy.pairs), (2.5, 4));
        assert_eq!(accuracy.share(), Some(0.625));
        assert_eq!(Accuracy::of(&[]).share(), None);
    }

    #[test]
    fn intervals_are_wilsons() {
        // By hand: 81 of 263, 0 of 10 and 10 of 10, as in Newcombe (1998) for the first.
        let interval = |right: f64, pairs| Accuracy { right, pairs }.interval().unwrap();
        let (low, high) = interval(81.0, 263);
        close(low, 0.2553);
        close(high, 0.3662);
        let (low, high) = interval(0.0, 10);
        close(low, 0.0);
        close(high, 0.2775);
        let (mirrored_low, mirrored_high) = interval(10.0, 10);
        close(mirrored_low, 1.0 - high);
        close(mirrored_high, 1.0);
    }
}
