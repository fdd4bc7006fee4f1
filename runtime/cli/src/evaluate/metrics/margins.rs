//! The distribution of a set's margins.

use serde::Serialize;

use super::accuracy;

/// Number of bars of the histogram.
const BARS: usize = 40;
/// The share of margins outside the histogram's range, on either side; the outermost bars count them.
const TAIL: f64 = 0.005;

/// The distribution of margins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Margins {
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation.
    pub standard_deviation: Option<f64>,
    /// Shares and their quantiles.
    pub quantiles: Vec<(f64, f64)>,
    /// The borders of the bars, one more than there are bars; zero is one of them.
    pub borders: Vec<f64>,
    /// Pairs in each bar. The outermost bars include those beyond.
    pub counts: Vec<usize>,
}

impl Margins {
    /// The distribution of a set's margins; `None` without margins.
    pub fn of(margins: &[f64]) -> Option<Self> {
        let mut sorted = margins.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mean = accuracy::mean(margins)?;
        let shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];
        let borders = borders(quantile(&sorted, TAIL), quantile(&sorted, 1.0 - TAIL));
        Some(Self {
            mean,
            standard_deviation: standard_deviation(margins, mean),
            quantiles: shares
                .map(|share| (share, quantile(&sorted, share)))
                .to_vec(),
            counts: counts(margins, &borders),
            borders,
        })
    }
}

fn standard_deviation(values: &[f64], mean: f64) -> Option<f64> {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// A quantile by linear interpolation.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

/// Borders of bars of equal width from `low` to `high`, aligned so that zero is a border.
fn borders(low: f64, high: f64) -> Vec<f64> {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let width = match (high - low) / BARS as f64 {
        width if width > 0.0 => width,
        _ => 1.0 / BARS as f64,
    };
    let (first, last) = ((low / width).floor() as i64, (high / width).ceil() as i64);
    (first..=last.max(first + 1))
        .map(|at| at as f64 * width)
        .collect()
}

fn counts(margins: &[f64], borders: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; borders.len() - 1];
    for margin in margins {
        let bar = borders.partition_point(|border| border <= margin);
        counts[bar.saturating_sub(1).min(borders.len() - 2)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let margins = Margins::of(&[4.0, 0.0, 2.0, 6.0, 8.0]).unwrap();
        assert_eq!(margins.mean, 4.0);
        assert!((margins.standard_deviation.unwrap() - 10.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(margins.quantiles[0], (0.0, 0.0));
        assert!((margins.quantiles[1].1 - 0.4).abs() < 1e-12);
        assert_eq!(margins.quantiles[3], (0.5, 4.0));
        assert_eq!(margins.quantiles[6], (1.0, 8.0));
    }

    #[test]
    fn every_margin_is_in_one_bar_and_none_straddles_zero() {
        let values: Vec<f64> = (0..1000)
            .map(|i| (f64::from(i) * 0.7).sin() * 3.0 - 0.4)
            .collect();
        let margins = Margins::of(&values).unwrap();
        assert_eq!(margins.counts.iter().sum::<usize>(), 1000);
        assert_eq!(margins.borders.len(), margins.counts.len() + 1);
        let zero = margins
            .borders
            .iter()
            .position(|&border| border == 0.0)
            .unwrap();
        let wrong = values.iter().filter(|&&value| value < 0.0).count();
        assert_eq!(margins.counts[..zero].iter().sum::<usize>(), wrong);
    }

    #[test]
    fn one_value_is_enough() {
        assert_eq!(Margins::of(&[]), None);
        for value in [0.0, 2.0, -2.0] {
            let margins = Margins::of(&[value, value]).unwrap();
            assert_eq!(margins.counts.iter().sum::<usize>(), 2, "{value}");
            assert_eq!(margins.standard_deviation, Some(0.0));
        }
    }
}
