//! The dependence of a model on a text-only shortcut.

use serde::Serialize;

use super::accuracy::{credit, wilson};

/// The shortcut-failure degradation, with the table from which it is computed. A tie of the text-only model counts half in
/// either row, a tie of the model half in either column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shortcut {
    /// The model's accuracy where the text-only model is right minus that where it is wrong; `None` if one of
    /// these has no pair.
    pub sfd: Option<f64>,
    /// Its 95 % interval, after Newcombe (1998): from the two rows' Wilson intervals.
    pub interval: Option<(f64, f64)>,
    /// Where the text-only model is right.
    pub where_right: Row,
    /// Where it is wrong.
    pub where_wrong: Row,
}

/// One row of the table: the model's pairs where the text-only model is right, or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The model is right too.
    pub right: f64,
    /// The model is wrong.
    pub wrong: f64,
    /// The model's accuracy.
    pub accuracy: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

impl Shortcut {
    /// Compares both models' margins on the same pairs.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(margins: &[f64], text_only: &[f64]) -> Self {
        assert_eq!(margins.len(), text_only.len(), "margins of the same pairs");
        let where_right = Row::weighted(margins, text_only.iter().map(|&margin| credit(margin)));
        let where_wrong = Row::weighted(margins, text_only.iter().map(|&margin| credit(-margin)));
        Self {
            sfd: where_right
                .accuracy
                .zip(where_wrong.accuracy)
                .map(|(a, b)| a - b),
            interval: where_right
                .measured()
                .zip(where_wrong.measured())
                .map(difference),
            where_right,
            where_wrong,
        }
    }
}

impl Row {
    fn weighted(margins: &[f64], weights: impl Iterator<Item = f64>) -> Self {
        let (mut right, mut wrong) = (0.0, 0.0);
        for (&margin, weight) in margins.iter().zip(weights) {
            right += weight * credit(margin);
            wrong += weight * (1.0 - credit(margin));
        }
        let all = right + wrong;
        let accuracy = (all > 0.0).then(|| right / all);
        Self {
            right,
            wrong,
            accuracy,
            interval: accuracy.map(|share| wilson(share, all)),
        }
    }

    fn measured(&self) -> Option<(f64, (f64, f64))> {
        self.accuracy.zip(self.interval)
    }
}

type Share = (f64, (f64, f64));

fn difference(((a, (a_low, a_high)), (b, (b_low, b_high))): (Share, Share)) -> (f64, f64) {
    let below = (a - a_low).hypot(b_high - b);
    let above = (a_high - a).hypot(b - b_low);
    (a - b - below, a - b + above)
}

/// The shortcut-failure degradation of [`Shortcut`].
///
/// # Panics
/// If the lengths differ.
pub fn shortcut_failure_degradation(margins: &[f64], text_only: &[f64]) -> Option<f64> {
    Shortcut::of(margins, text_only).sfd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degradation_compares_where_the_shortcut_works_and_fails() {
        let text_only = [1.0, 1.0, -1.0, -1.0];
        let degradation = |margins: &[f64]| shortcut_failure_degradation(margins, &text_only);
        assert_eq!(degradation(&[1.0, 1.0, -1.0, -1.0]), Some(1.0));
        assert_eq!(degradation(&[1.0, 1.0, 1.0, 1.0]), Some(0.0));
        assert_eq!(degradation(&[-1.0, 1.0, 1.0, 0.0]), Some(-0.25));
        assert_eq!(shortcut_failure_degradation(&[1.0], &[1.0]), None);
    }

    #[test]
    fn ties_are_on_both_sides_of_the_table() {
        // Right side: pair 1 and half of pair 2; wrong side: half of pair 2 and pair 3.
        let shortcut = Shortcut::of(&[1.0, 1.0, -1.0], &[1.0, 0.0, -1.0]);
        assert_eq!(
            (shortcut.where_right.right, shortcut.where_right.wrong),
            (1.5, 0.0)
        );
        assert_eq!(
            (shortcut.where_wrong.right, shortcut.where_wrong.wrong),
            (0.5, 1.0)
        );
        assert!((shortcut.sfd.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_interval_is_newcombes() {
        // His example: 56 of 70 against 48 of 80 differ by 0.2, from 0.0524 to 0.3339.
        let cells = [
            (56, 1.0, 1.0),
            (14, -1.0, 1.0),
            (48, 1.0, -1.0),
            (32, -1.0, -1.0),
        ];
        let pairs = cells
            .iter()
            .flat_map(|&(n, margin, text)| vec![(margin, text); n]);
        let (margins, text_only): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let shortcut = Shortcut::of(&margins, &text_only);
        let (low, high) = shortcut.interval.unwrap();
        assert!((shortcut.sfd.unwrap() - 0.2).abs() < 1e-12);
        assert!(
            (low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5,
            "{low} {high}"
        );
    }
}
