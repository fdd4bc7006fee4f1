//! Which keys each token sees. Keys of other documents, sibling branches and windows are never multiplied.

use std::collections::HashMap;
use std::ops::Range;

use crate::lanes::LANES;

/// Tokens whose attention is computed together.
pub(super) const QUERIES: usize = 16;

/// Which keys the tokens of a row see.
#[derive(Clone, Debug)]
pub struct Visibility(pub(super) Vec<QueryBlock>);

/// A few neighbouring tokens, and the blocks of keys of which they see any.
#[derive(Clone, Debug)]
pub(super) struct QueryBlock {
    pub(super) queries: Range<usize>,
    pub(super) visible: Vec<KeyBlock>,
}

/// A block of keys.
#[derive(Clone, Debug)]
pub(super) struct KeyBlock {
    pub(super) index: usize,
    /// For each query a bit for each key, the first key's the lowest.
    pub(super) masks: [u16; QUERIES],
}

impl Visibility {
    /// Every token of a row sees all others.
    pub fn full(tokens: usize) -> Self {
        let row = std::slice::from_ref(&(0..tokens)).to_vec();
        let starts = (0..tokens).step_by(QUERIES);
        let block = |start| QueryBlock::new(start..tokens.min(start + QUERIES), &row, None);
        Self(starts.map(block).collect())
    }

    /// A row of a forest: token i sees j iff j ≤ i, their documents are equal, and j's branch is 0 or i's own. Both slices
    /// have an id for each token.
    pub fn forest(document_ids: &[i32], branch_ids: &[i32]) -> Self {
        let segments = segments(document_ids, branch_ids);
        let mut blocks = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let before = segments[..index].iter().filter(|other| segment.sees(other));
            let before: Vec<Range<usize>> = before.map(|other| other.tokens.clone()).collect();
            let (first, end) = (segment.tokens.start, segment.tokens.end);
            for start in segment.tokens.clone().step_by(QUERIES) {
                let queries = start..end.min(start + QUERIES);
                blocks.push(QueryBlock::new(queries, &before, Some(first)));
            }
        }
        Self(blocks)
    }

    /// A row of windows: tokens with the same id see each other, wherever they are in the row.
    pub fn windows(ids: &[i32]) -> Self {
        let segments = segments(ids, ids);
        let mut of_window: HashMap<i32, Vec<Range<usize>>> = HashMap::new();
        for segment in &segments {
            let tokens = of_window.entry(segment.document).or_default();
            tokens.push(segment.tokens.clone());
        }
        let mut blocks = Vec::new();
        for segment in &segments {
            let (first, end) = (segment.tokens.start, segment.tokens.end);
            for start in (first..end).step_by(QUERIES) {
                let queries = start..end.min(start + QUERIES);
                blocks.push(QueryBlock::new(
                    queries,
                    &of_window[&segment.document],
                    None,
                ));
            }
        }
        Self(blocks)
    }

    /// Tokens of the row.
    pub(super) fn tokens(&self) -> usize {
        self.0.last().map_or(0, |block| block.queries.end)
    }
}

/// Neighbouring tokens of one document and branch.
struct Segment {
    document: i32,
    branch: i32,
    tokens: Range<usize>,
}

impl Segment {
    /// Whether its tokens see those of an earlier segment.
    fn sees(&self, earlier: &Self) -> bool {
        earlier.document == self.document && (earlier.branch == 0 || earlier.branch == self.branch)
    }
}

fn segments(document_ids: &[i32], branch_ids: &[i32]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (token, (&document, &branch)) in document_ids.iter().zip(branch_ids).enumerate() {
        match segments.last_mut() {
            Some(last) if (last.document, last.branch) == (document, branch) => {
                last.tokens.end += 1;
            }
            _ => segments.push(Segment {
                document,
                branch,
                tokens: token..token + 1,
            }),
        }
    }
    segments
}

impl QueryBlock {
    /// All queries see all of `before`. Where `own` is given, each also sees the tokens from there to itself.
    fn new(queries: Range<usize>, before: &[Range<usize>], own: Option<usize>) -> Self {
        let own_end = |query| own.map_or(0, |_| query + 1);
        let own = own.unwrap_or(0)..own_end(queries.end - 1);
        let covering = |range: &Range<usize>| range.start / LANES..range.end.div_ceil(LANES);
        let mut blocks: Vec<usize> = before.iter().chain([&own]).flat_map(covering).collect();
        blocks.dedup();
        let visible = blocks.into_iter().map(|index| {
            let shared = before.iter().fold(0, |all, range| all | bits(index, range));
            let of_query =
                |query| shared | bits(index, &(own.start..own_end(queries.start + query)));
            let masks = match shared {
                u16::MAX => [shared; QUERIES],
                _ => std::array::from_fn(of_query),
            };
            KeyBlock { index, masks }
        });
        Self {
            visible: visible.collect(),
            queries: queries.clone(),
        }
    }
}

/// A bit for each key of the block that is in the range.
fn bits(block: usize, range: &Range<usize>) -> u16 {
    let first = block * LANES;
    let below = |key: usize| {
        let keys = key.saturating_sub(first).min(LANES);
        ((1u32 << keys) - 1) as u16
    };
    below(range.end) & !below(range.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which keys each query sees. A block that stands twice gives its pairs twice.
    fn pairs(visibility: &Visibility) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for block in &visibility.0 {
            for (index, query) in block.queries.clone().enumerate() {
                for visible in &block.visible {
                    let keys = (0..LANES).filter(|key| visible.masks[index] >> key & 1 == 1);
                    pairs.extend(keys.map(|key| (query, visible.index * LANES + key)));
                }
            }
        }
        pairs
    }

    proptest! {
        /// Of all ids: segments that end and resume, and siblings between them.
        #[test]
        fn a_forest_is_seen_as_its_definition_says(
            ids in prop::collection::vec((0..3i32, 0..3i32, 1..40usize), 1..8),
        ) {
            let of = |id: fn(&(i32, i32, usize)) -> i32| -> Vec<i32> {
                ids.iter().flat_map(|run| std::iter::repeat_n(id(run), run.2)).collect()
            };
            let (documents, branches) = (of(|run| run.0), of(|run| run.1));
            let tokens = documents.len();
            let sees = |i: usize, j: usize| {
                j <= i && documents[i] == documents[j] && (branches[j] == 0 || branches[j] == branches[i])
            };
            let expected = (0..tokens).flat_map(|i| (0..=i).map(move |j| (i, j)));
            let expected: Vec<_> = expected.filter(|&(i, j)| sees(i, j)).collect();
            prop_assert_eq!(pairs(&Visibility::forest(&documents, &branches)), expected);
        }
    }

    proptest! {
        /// Windows that are cut into runs of any length, as those of an image are by its rows.
        #[test]
        fn tokens_of_a_window_see_each_other(
            runs in prop::collection::vec((0..4i32, 1..40usize), 1..12),
        ) {
            let ids = runs.iter().flat_map(|&(id, count)| std::iter::repeat_n(id, count));
            let ids: Vec<i32> = ids.collect();
            let all = (0..ids.len()).flat_map(|i| (0..ids.len()).map(move |j| (i, j)));
            let expected: Vec<_> = all.filter(|&(i, j)| ids[i] == ids[j]).collect();
            prop_assert_eq!(pairs(&Visibility::windows(&ids)), expected);
        }
    }

    #[test]
    fn without_ids_all_tokens_see_each_other() {
        for tokens in [1, 15, 16, 17, 50] {
            let expected = (0..tokens).flat_map(|i| (0..tokens).map(move |j| (i, j)));
            let full = Visibility::full(tokens);
            assert_eq!(pairs(&full), expected.collect::<Vec<_>>());
            assert_eq!(full.tokens(), tokens);
        }
    }
}
