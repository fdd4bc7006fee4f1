//! Which keys the tokens of a row see: what stands in other documents and in sibling branches is never multiplied.

use std::ops::Range;

use super::packed::LANES;

/// Tokens whose attention is computed together.
pub(super) const QUERIES: usize = 16;

/// Neighbouring tokens of one document and branch.
struct Run {
    document: i32,
    branch: i32,
    tokens: Range<usize>,
}

/// A few neighbouring tokens, and the blocks of keys of which they see any.
#[derive(Clone)]
pub(super) struct Block {
    pub(super) queries: Range<usize>,
    pub(super) seen: Vec<Seen>,
}

/// A block of keys.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) block: usize,
    /// For each query a bit for each key, the first the lowest.
    pub(super) by_query: [u16; QUERIES],
}

/// The blocks of a row whose tokens all see each other.
pub(super) fn everything(tokens: usize) -> Vec<Block> {
    let starts = (0..tokens).step_by(QUERIES);
    let all = std::slice::from_ref(&(0..tokens)).to_vec();
    let block = |start| Block::new(start..tokens.min(start + QUERIES), &all, None);
    starts.map(block).collect()
}

/// The blocks of a row of a forest: token i sees j iff j ≤ i, documents are equal, and j's branch is 0 or i's own.
pub(super) fn tree(documents: &[i32], branches: &[i32]) -> Vec<Block> {
    let runs = runs(documents, branches);
    let mut blocks = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let before = runs[..index].iter().filter(|other| {
            other.document == run.document && (other.branch == 0 || other.branch == run.branch)
        });
        let before: Vec<Range<usize>> = before.map(|other| other.tokens.clone()).collect();
        let (first, end) = (run.tokens.start, run.tokens.end);
        for start in run.tokens.clone().step_by(QUERIES) {
            let queries = start..end.min(start + QUERIES);
            blocks.push(Block::new(queries, &before, Some(first)));
        }
    }
    blocks
}

fn runs(documents: &[i32], branches: &[i32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (token, (&document, &branch)) in documents.iter().zip(branches).enumerate() {
        match runs.last_mut() {
            Some(run) if (run.document, run.branch) == (document, branch) => run.tokens.end += 1,
            _ => runs.push(Run {
                document,
                branch,
                tokens: token..token + 1,
            }),
        }
    }
    runs
}

impl Block {
    /// All of the queries see all of `before`, and each, where `own` is given, what lies from there to itself.
    fn new(queries: Range<usize>, before: &[Range<usize>], own: Option<usize>) -> Self {
        let own_end = |query| own.map_or(0, |_| query + 1);
        let own = own.unwrap_or(0)..own_end(queries.end - 1);
        let covering = |range: &Range<usize>| range.start / LANES..range.end.div_ceil(LANES);
        let mut blocks: Vec<usize> = before.iter().chain([&own]).flat_map(covering).collect();
        blocks.dedup();
        let seen = blocks.into_iter().map(|block| {
            let shared = before.iter().fold(0, |all, range| all | bits(block, range));
            let of_query =
                |query| shared | bits(block, &(own.start..own_end(queries.start + query)));
            Seen {
                block,
                by_query: match shared {
                    u16::MAX => [shared; QUERIES],
                    _ => std::array::from_fn(of_query),
                },
            }
        });
        Self {
            seen: seen.collect(),
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

    /// Which keys each query sees, and that no block stands twice.
    fn pairs(blocks: &[Block]) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for block in blocks {
            for (index, query) in block.queries.clone().enumerate() {
                for seen in &block.seen {
                    let keys = (0..LANES).filter(|key| seen.by_query[index] >> key & 1 == 1);
                    pairs.extend(keys.map(|key| (query, seen.block * LANES + key)));
                }
            }
        }
        pairs
    }

    proptest! {
        /// Whatever the ids are: runs that end and go on, and siblings between them.
        #[test]
        fn a_tree_is_seen_as_its_definition_says(
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
            prop_assert_eq!(pairs(&tree(&documents, &branches)), expected);
        }
    }

    #[test]
    fn without_ids_all_see_each_other() {
        for tokens in [1, 15, 16, 17, 50] {
            let expected = (0..tokens).flat_map(|i| (0..tokens).map(move |j| (i, j)));
            assert_eq!(pairs(&everything(tokens)), expected.collect::<Vec<_>>());
        }
    }
}
