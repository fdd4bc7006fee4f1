//! Accuracy on preference pairs, and how it depends on a text-only shortcut.
//!
//! A pair's *margin* is the reward of its better response minus that of the other: the model is right where it is
//! positive. A margin of zero counts as half right, so that a model that rewards everything alike is at chance.

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

impl Accuracy {
    /// Of the pairs with these margins.
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
        let (n, share) = (self.pairs as f64, self.share()?);
        let centre = share + Z * Z / (2.0 * n);
        let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let (low, high) = ((centre - reach) / scale, (centre + reach) / scale);
        Some((low.max(0.0), high.min(1.0)))
    }
}

/// The shortcut-failure degradation: the model's accuracy where a text-only model is right minus its accuracy where
/// that one is wrong, both over the same pairs. A pair on which the text-only model is tied belongs half to either
/// side. `None` where one side is empty.
///
/// # Panics
/// If the two are not as many.
pub fn shortcut_failure_degradation(margins: &[f64], text_only: &[f64]) -> Option<f64> {
    assert_eq!(margins.len(), text_only.len(), "margins of the same pairs");
    let where_right = weighted_accuracy(margins, text_only.iter().map(|&margin| credit(margin)));
    let where_wrong = weighted_accuracy(margins, text_only.iter().map(|&margin| credit(-margin)));
    Some(where_right? - where_wrong?)
}

fn weighted_accuracy(margins: &[f64], weights: impl Iterator<Item = f64>) -> Option<f64> {
    let pairs = margins.iter().zip(weights);
    let (right, all) = pairs.fold((0.0, 0.0), |(right, all), (&margin, weight)| {
        (right + weight * credit(margin), all + weight)
    });
    (all > 0.0).then(|| right / all)
}

/// How much of a pair is right.
fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin == 0.0 {
        0.5
    } else {
        0.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn a_tied_text_only_model_is_on_both_sides() {
        // Right side: pair 1 and half of pair 2; wrong side: half of pair 2 and pair 3.
        let degradation = shortcut_failure_degradation(&[1.0, 1.0, -1.0], &[1.0, 0.0, -1.0]);
        close(degradation.unwrap(), 1.0 - 1.0 / 3.0);
    }
}
