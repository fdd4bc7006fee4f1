//! Best of N: the rating of the response that a model picks out of N.
//!
//! For a row of M rated responses the expectation over all C(M, N) draws of N different ones is computed exactly: the
//! response of rank i by reward (from 1) is the best of C(M − i, N − 1) draws. Responses of equal reward share their chances.

use serde::Serialize;

/// Maximum number of responses to pick from.
pub const MOST: usize = 64;

/// Ratings and rewards of a row's responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RatedRow {
    /// The ratings.
    pub ratings: Vec<f64>,
    /// For each model the rewards, in the order of the ratings.
    pub rewards: Vec<Vec<f64>>,
}

/// A curve over N.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BestOfN {
    /// Points for N from 1 to the length of the longest row.
    pub points: Vec<Point>,
}

/// The means over all rows that have at least N responses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The number of responses to pick from.
    pub n: usize,
    /// The number of rows with at least N responses.
    pub rows: usize,
    /// The rating of each model's pick, in the order of [`RatedRow::rewards`].
    pub picks: Vec<f64>,
    /// The rating of the best response, which is an upper bound.
    pub oracle: f64,
    /// The rating of a random response.
    pub random: f64,
}

impl BestOfN {
    /// The curve over rows with at least three responses: with two it would be an accuracy. `None` without such rows.
    pub fn of(rows: &[RatedRow]) -> Option<Self> {
        let rows: Vec<_> = rows.iter().filter(|row| row.ratings.len() > 2).collect();
        let most = rows.iter().map(|row| row.ratings.len()).max()?.min(MOST);
        let points = (1..=most).map(|n| point(&rows, n)).collect();
        Some(Self { points })
    }
}

fn point(rows: &[&RatedRow], n: usize) -> Point {
    let rows: Vec<_> = rows.iter().filter(|row| row.ratings.len() >= n).collect();
    let mean = |value: &dyn Fn(&RatedRow) -> f64| {
        rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64
    };
    let models = rows.first().map_or(0, |row| row.rewards.len());
    let pick = |model: usize| mean(&|row| expected_pick(&row.rewards[model], &row.ratings, n));
    Point {
        n,
        rows: rows.len(),
        picks: (0..models).map(pick).collect(),
        oracle: mean(&|row| expected_pick(&row.ratings, &row.ratings, n)),
        random: mean(&|row| row.ratings.iter().sum::<f64>() / row.ratings.len() as f64),
    }
}

/// The expected rating of the response with the greatest reward among `n` distinct ones.
fn expected_pick(rewards: &[f64], ratings: &[f64], n: usize) -> f64 {
    let mut order: Vec<usize> = (0..rewards.len()).collect();
    order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
    let mut chances = chances(rewards.len(), n).into_iter();
    let mut expected = 0.0;
    for equal in order.chunk_by(|&a, &b| rewards[a] == rewards[b]) {
        let chance: f64 = chances.by_ref().take(equal.len()).sum();
        let ratings: f64 = equal.iter().map(|&at| ratings[at]).sum();
        expected += chance * ratings / equal.len() as f64;
    }
    expected
}

/// For each rank of `m` the chance C(m − rank, n − 1) / C(m, n) of being the best of `n`.
fn chances(m: usize, n: usize) -> Vec<f64> {
    let mut chance = n as f64 / m as f64;
    let mut chances = Vec::with_capacity(m);
    for rank in 1..=m {
        chances.push(chance);
        let (lower, needed) = (m - rank, n - 1);
        chance *= match lower {
            0 => 0.0,
            _ => lower.saturating_sub(needed) as f64 / lower as f64,
        };
    }
    chances
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean over all subsets, by enumeration; equal rewards share.
    fn by_enumeration(rewards: &[f64], ratings: &[f64], n: usize) -> f64 {
        let subsets = (0u32..1 << rewards.len()).filter(|set| set.count_ones() as usize == n);
        let pick = |set: u32| {
            let members = (0..rewards.len())
                .filter(|at| set >> at & 1 == 1)
                .collect::<Vec<_>>();
            let best = members
                .iter()
                .map(|&at| rewards[at])
                .fold(f64::MIN, f64::max);
            let best: Vec<_> = members
                .into_iter()
                .filter(|&at| rewards[at] == best)
                .collect();
            best.iter().map(|&at| ratings[at]).sum::<f64>() / best.len() as f64
        };
        let picks: Vec<f64> = subsets.map(pick).collect();
        picks.iter().sum::<f64>() / picks.len() as f64
    }

    #[test]
    fn expectations_are_those_of_all_subsets() {
        let rewards = [0.3, -1.0, 0.3, 2.0, 0.0, 0.3, -1.0];
        let ratings = [1.0, 5.0, 2.0, 3.0, 4.0, 0.5, 2.5];
        for n in 1..=7 {
            let expected = by_enumeration(&rewards, &ratings, n);
            let got = expected_pick(&rewards, &ratings, n);
            assert!(
                (got - expected).abs() < 1e-12,
                "n {n}: got {got}, expected {expected}"
            );
        }
    }

    #[test]
    fn chances_are_sound_for_large_rows() {
        for n in [1, 2, 63, 64, 100] {
            let chances = chances(100, n);
            assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-12, "n {n}");
            assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        }
        assert_eq!(chances(3, 3), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_curve_runs_from_chance_to_the_oracle_for_a_perfect_model() {
        let row = |ratings: &[f64], rewards: &[f64]| RatedRow {
            ratings: ratings.to_vec(),
            rewards: vec![ratings.to_vec(), rewards.to_vec()],
        };
        let rows = [
            row(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]),
            row(&[0.0, 0.0, 4.0, 4.0], &[0.0; 4]),
            row(&[9.0, 1.0], &[1.0, 2.0]),
        ];
        let curve = BestOfN::of(&rows).unwrap();
        assert_eq!(curve.points.len(), 4);
        assert_eq!((curve.points[0].rows, curve.points[0].random), (2, 2.0));
        assert_eq!(curve.points[0].picks, [2.0, 2.0]);
        let third = &curve.points[2];
        assert_eq!((third.picks[0], third.picks[1]), (third.oracle, 1.5));
        assert_eq!((curve.points[3].rows, curve.points[3].oracle), (1, 4.0));
        assert_eq!(BestOfN::of(&rows[2..]), None);
    }
}
