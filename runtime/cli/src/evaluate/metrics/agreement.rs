//! The agreement of two models on the same pairs.

use serde::Serialize;

use super::accuracy::{self, Accuracy};

/// A comparison of two models' margins on the same pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The share of pairs that both order alike. A tie of one model counts half, a tie of both counts fully.
    pub agreement: Option<f64>,
    /// Spearman's rank correlation of the margins; `None` if a model gives all pairs the same margin.
    pub rank_correlation: Option<f64>,
    /// The mean absolute difference of the margins.
    pub mean_distance: Option<f64>,
    /// The largest absolute difference of the margins.
    pub largest_distance: Option<f64>,
}

impl Agreement {
    /// Compares two models' margins, pair by pair.
    pub fn of(first: &[f64], second: &[f64]) -> Self {
        let distances: Vec<f64> = first
            .iter()
            .zip(second)
            .map(|(a, b)| (a - b).abs())
            .collect();
        Self {
            agreement: Accuracy::of(&aligned(first, second)).share(),
            rank_correlation: correlation(&ranks(first), &ranks(second)),
            mean_distance: accuracy::mean(&distances),
            largest_distance: distances.into_iter().reduce(f64::max),
        }
    }
}

/// Positive if both margins have the same sign, zero if exactly one is zero.
fn aligned(first: &[f64], second: &[f64]) -> Vec<f64> {
    let sign = |margin: f64| if margin == 0.0 { 0.0 } else { margin.signum() };
    let alike = |(&a, &b): (&f64, &f64)| match (sign(a), sign(b)) {
        (0.0, 0.0) => 1.0,
        (a, b) => a * b,
    };
    first.iter().zip(second).map(alike).collect()
}

/// Ranks from 1; equal values get the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&at| ranks[at] = rank);
        start += equal.len();
    }
    ranks
}

/// Pearson's correlation; `None` if a list is constant.
fn correlation(first: &[f64], second: &[f64]) -> Option<f64> {
    let (a, b) = (accuracy::mean(first)?, accuracy::mean(second)?);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = first.iter().zip(second);
        pairs.map(|(x, y)| f(x - a, y - b)).sum()
    };
    let spread = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (spread > 0.0).then(|| sum(&|x, y| x * y) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_models_agree_in_everything() {
        let agreement = Agreement::of(&[1.0, -2.0, 0.0], &[1.0, -2.0, 0.0]);
        assert_eq!(agreement.agreement, Some(1.0));
        assert!((agreement.rank_correlation.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(agreement.largest_distance, Some(0.0));
    }

    #[test]
    fn ties_of_one_model_agree_by_half() {
        // Alike, opposite, tied by one, tied by both.
        let agreement = Agreement::of(&[1.0, 1.0, 0.0, 0.0], &[2.0, -1.0, 1.0, 0.0]);
        assert_eq!(agreement.agreement, Some(2.5 / 4.0));
        assert_eq!(agreement.mean_distance, Some(1.0));
        assert_eq!(agreement.largest_distance, Some(2.0));
    }

    #[test]
    fn rank_correlation_is_spearmans() {
        // Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 · 4 / (5 · 24).
        let agreement = Agreement::of(&[1.0, 2.0, 3.0, 4.0, 50.0], &[0.2, 0.1, 0.4, 0.3, 0.5]);
        assert!((agreement.rank_correlation.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0]), [3.5, 2.0, 3.5, 1.0]);
        assert_eq!(
            Agreement::of(&[1.0, 1.0], &[1.0, 2.0]).rank_correlation,
            None
        );
        assert_eq!(Agreement::of(&[], &[]).agreement, None);
    }
}
