//! The bias towards length: accuracy by the difference in length, and the rule that the longer response is better.

use serde::Serialize;

use super::accuracy::{Accuracy, Measured};
use super::agreement::Agreement;

/// Lower bounds of the bins of differences, in characters.
const BORDERS: [i64; 8] = [-255, -63, -15, 0, 1, 16, 64, 256];

/// The effect of length on a set and on a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Length {
    /// The rule: the longer response is the better one.
    pub length_only: Measured,
    /// The share of pairs that the model and the rule order alike.
    pub agreement: Option<f64>,
    /// Spearman's correlation of margins and differences in length.
    pub rank_correlation: Option<f64>,
    /// The model's accuracy by the difference in length; empty bins are skipped.
    pub bins: Vec<LengthBin>,
}

/// Pairs with a similar difference in length: better minus other, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthBin {
    /// Smallest difference; `None` without limit.
    pub from: Option<i64>,
    /// Largest difference; `None` without limit.
    pub to: Option<i64>,
    /// The model's accuracy on them.
    #[serde(flatten)]
    pub accuracy: Measured,
}

impl Length {
    /// The effect on a model's margins of `differences` in length, pair by pair.
    pub fn of(margins: &[f64], differences: &[i64]) -> Self {
        let rule: Vec<f64> = differences.iter().map(|&d| d as f64).collect();
        let against_rule = Agreement::of(margins, &rule);
        Self {
            length_only: Accuracy::of(&rule).measured(),
            agreement: against_rule.agreement,
            rank_correlation: against_rule.rank_correlation,
            bins: bins(margins, differences),
        }
    }
}

fn bins(margins: &[f64], differences: &[i64]) -> Vec<LengthBin> {
    let place = |difference: i64| BORDERS.partition_point(|border| *border <= difference);
    let bin = |index: usize| {
        let pairs = margins.iter().zip(differences);
        let inside = pairs.filter(|(_, difference)| place(**difference) == index);
        LengthBin {
            from: index.checked_sub(1).map(|below| BORDERS[below]),
            to: BORDERS.get(index).map(|border| border - 1),
            accuracy: Accuracy::of(&inside.map(|(margin, _)| *margin).collect::<Vec<_>>())
                .measured(),
        }
    };
    let bins = (0..=BORDERS.len()).map(bin);
    bins.filter(|bin| bin.accuracy.pairs > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_length_is_right_where_the_better_response_is_longer() {
        let differences = [300, 20, 5, 0, -5, -300];
        let margins = differences.map(|difference: i64| difference as f64 / 7.0);
        let length = Length::of(&margins, &differences);
        assert_eq!(length.length_only.accuracy, Some(3.5 / 6.0));
        assert_eq!(length.agreement, Some(1.0));
        assert!((length.rank_correlation.unwrap() - 1.0).abs() < 1e-12);
        let bins: Vec<_> = length
            .bins
            .iter()
            .map(|b| (b.from, b.to, b.accuracy.accuracy))
            .collect();
        assert_eq!(
            bins,
            [
                (None, Some(-256), Some(0.0)),
                (Some(-15), Some(-1), Some(0.0)),
                (Some(0), Some(0), Some(0.5)),
                (Some(1), Some(15), Some(1.0)),
                (Some(16), Some(63), Some(1.0)),
                (Some(256), None, Some(1.0)),
            ]
        );
    }

    #[test]
    fn a_model_that_looks_is_right_at_every_length() {
        let length = Length::of(&[1.0; 4], &[-100, -10, 10, 100]);
        assert_eq!(length.agreement, Some(0.5));
        assert!(
            length
                .bins
                .iter()
                .all(|bin| bin.accuracy.accuracy == Some(1.0))
        );
    }
}
