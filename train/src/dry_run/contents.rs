//! The counts of one file of rows, as `--dry-run` prints them.

use serde::Serialize;

use crate::data::flops::Workload;
use crate::dry_run::batch_shape::Largest;

/// The counts of one file of rows.
#[derive(Debug, Default, Serialize)]
pub(super) struct Contents {
    /// Number of lines that are not blank.
    pub(super) rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pairs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) responses: Option<usize>,
    pub(super) ties_dropped: usize,
    pub(super) non_numeric_dropped: usize,
    pub(super) unreadable_rows: usize,
    /// Number of distinct image files.
    pub(super) images: usize,
    pub(super) missing_images: usize,
    pub(super) unreadable_images: usize,
    /// Number of pairs or responses that cannot be tokenised although their images are readable.
    pub(super) refused: usize,
    /// Tiles of an image; a whole image counts as one.
    pub(super) tiles: Spread,
    /// Tokens of a conversation after truncation to `max_length`.
    pub(super) tokens: Spread,
    /// Number of conversations that `max_length` truncates.
    pub(super) truncated: usize,
    #[serde(skip)]
    pub(super) load: Workload,
    /// The largest rows.
    #[serde(skip)]
    pub(super) largest: Largest,
}

/// Percentiles of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    p50: usize,
    p95: usize,
    max: usize,
}

impl Spread {
    /// Nearest-rank percentiles of `sizes`.
    pub(super) fn of(mut sizes: Vec<u32>) -> Self {
        sizes.sort_unstable();
        let at = |percent: usize| {
            let rank = (sizes.len() * percent).div_ceil(100);
            sizes.get(rank.saturating_sub(1)).copied().unwrap_or(0) as usize
        };
        Self {
            p50: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_sizes_of_the_list() {
        let spread = |p50, p95, max| Spread { p50, p95, max };
        assert_eq!(Spread::of((1..=100).rev().collect()), spread(50, 95, 100));
        assert_eq!(Spread::of(vec![3, 1]), spread(1, 3, 3));
        assert_eq!(Spread::of(vec![7]), spread(7, 7, 7));
        assert_eq!(Spread::of(Vec::new()), spread(0, 0, 0));
    }
}
