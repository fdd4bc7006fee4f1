//! Calibration: in Bradley and Terry's model the better response is preferred with probability σ(margin).

use serde::Serialize;

use super::accuracy::{self, Accuracy, credit};

/// Number of bins of the reliability curve, over probabilities from 0.5 to 1.
const BINS: usize = 10;

/// The reliability of a set's margins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The reliability curve; empty bins are skipped.
    pub bins: Vec<Bin>,
    /// Expected calibration error: the mean over pairs of the difference between their bin's accuracy and confidence.
    pub ece: f64,
    /// The mean of −log σ(margin), the training loss.
    pub log_loss: f64,
    /// The mean of (1 − σ(margin))².
    pub brier: f64,
}

/// The pairs of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Lower bound of the confidence σ(|margin|).
    pub from: f64,
    /// Upper bound of the confidence.
    pub to: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// The mean of their confidences.
    pub confidence: f64,
    /// The share of them that the model orders right.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

impl Calibration {
    /// The calibration of a set's margins; `None` without margins.
    pub fn of(margins: &[f64]) -> Option<Self> {
        let bins: Vec<Bin> = (0..BINS).filter_map(|index| bin(margins, index)).collect();
        let off = |bin: &Bin| bin.pairs as f64 * (bin.accuracy - bin.confidence).abs();
        Some(Self {
            ece: bins.iter().map(off).sum::<f64>() / margins.len() as f64,
            bins,
            log_loss: accuracy::mean_of(margins, |margin| softplus(-margin))?,
            brier: accuracy::mean_of(margins, |margin| sigmoid(-margin).powi(2))?,
        })
    }
}

/// The preference probability of a margin.
pub fn sigmoid(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// log(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn bin(margins: &[f64], index: usize) -> Option<Bin> {
    let border = |at: usize| 0.5 + 0.5 * at as f64 / BINS as f64;
    let inside: Vec<f64> = margins
        .iter()
        .copied()
        .filter(|&margin| place(margin) == index)
        .collect();
    let accuracy = Accuracy {
        right: inside.iter().copied().map(credit).sum(),
        pairs: inside.len(),
    };
    Some(Bin {
        from: border(index),
        to: border(index + 1),
        pairs: inside.len(),
        confidence: accuracy::mean_of(&inside, |margin| sigmoid(margin.abs()))?,
        accuracy: accuracy.share()?,
        interval: accuracy.interval()?,
    })
}

fn place(margin: f64) -> usize {
    let place = (sigmoid(margin.abs()) - 0.5) * 2.0 * BINS as f64;
    (place as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logit(p: f64) -> f64 {
        (p / (1.0 - p)).ln()
    }

    #[test]
    fn a_calibrated_model_has_no_error() {
        // Of ten pairs at 70 %, seven are right; of five at 80 %, four.
        let mut margins = vec![logit(0.7); 7];
        margins.extend([-logit(0.7); 3]);
        margins.extend([logit(0.8001); 4]);
        margins.push(-logit(0.8001));
        let calibration = Calibration::of(&margins).unwrap();
        assert!(calibration.ece < 1e-4, "{}", calibration.ece);
        assert_eq!(calibration.bins.len(), 2);
        assert_eq!(calibration.bins[1].pairs, 5);
        assert!((calibration.bins[1].accuracy - 0.8).abs() < 1e-12);
    }

    #[test]
    fn overconfidence_is_an_error() {
        let calibration = Calibration::of(&[logit(0.99), -logit(0.99)]).unwrap();
        assert!((calibration.ece - 0.49).abs() < 1e-12);
        let expected = -(0.99_f64.ln() + 0.01_f64.ln()) / 2.0;
        assert!((calibration.log_loss - expected).abs() < 1e-12);
        let expected = (0.01_f64.powi(2) + 0.99_f64.powi(2)) / 2.0;
        assert!((calibration.brier - expected).abs() < 1e-12);
    }

    #[test]
    fn ties_and_extremes_have_a_bin() {
        let calibration = Calibration::of(&[0.0, 800.0]).unwrap();
        assert_eq!(
            (calibration.bins[0].confidence, calibration.bins[0].accuracy),
            (0.5, 0.5)
        );
        assert_eq!(
            (calibration.bins[1].to, calibration.bins[1].pairs),
            (1.0, 1)
        );
        assert_eq!(Calibration::of(&[-800.0]).unwrap().log_loss, 800.0);
        assert_eq!(Calibration::of(&[]), None);
    }
}
