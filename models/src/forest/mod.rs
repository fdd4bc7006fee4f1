//! The token layout: conversations that begin alike share their prefix in one row, each response a branch of its own.
//!
//! ```text
//! [ prefix p0 … pP-1 | response 1 | response 2 | … | response N | next document … | padding ]
//! ```
//!
//! A token sees the earlier tokens of its own document that lie in the prefix (branch 0) or in its own branch.
//! Positions restart at P for every branch, so the ids and rewards are those of N separate runs. Conversations whose
//! rotary positions are scaled differently, by their lengths, share nothing.

mod cost;
mod packing;

use std::collections::BTreeMap;

use crate::prompt::Conversation;
use crate::rope::{RopeBlock, RopeSettings};
use crate::{Error, Result};

pub use cost::{Cost, ModelFlops, Rates};
pub use packing::{Batch, LAYOUT_VERSION, Packing, batches};

/// Conversations about the same images.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// The conversations; at least one, none empty, all of one scaling ([`RopeSettings::scaled_by`]).
    pub branches: Vec<&'a Conversation>,
    /// For each image token of a conversation, in order, the row of the image embeddings that belongs there.
    pub image_rows: Vec<i64>,
}

impl Document<'_> {
    /// Length of the longest common token prefix, capped so that every branch keeps a token of its own.
    pub fn prefix(&self) -> usize {
        let first = &self.branches[0].ids;
        let common = |other: &Conversation| {
            first
                .iter()
                .zip(&other.ids)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let shortest = self.branches.iter().map(|b| b.ids.len()).min().unwrap_or(0);
        self.branches
            .iter()
            .map(|b| common(b))
            .min()
            .unwrap_or(0)
            .min(shortest.saturating_sub(1))
    }

    /// Tokens of the document as a tree.
    pub fn tokens(&self) -> usize {
        let prefix = self.prefix();
        prefix
            + self
                .branches
                .iter()
                .map(|b| b.ids.len() - prefix)
                .sum::<usize>()
    }

    /// The length that decides the scaling of all branches.
    fn scaled_by(&self, rope: &RopeSettings) -> usize {
        rope.scaled_by(self.branches[0].ids.len())
    }

    fn longest(&self) -> usize {
        let lengths = self.branches.iter().map(|b| b.ids.len());
        lengths.max().unwrap_or(0)
    }

    fn check(&self, rope: &RopeSettings) -> Result<()> {
        self.check_content()?;
        let scaling = self.scaled_by(rope);
        let mut lengths = self.branches.iter().map(|b| b.ids.len());
        match lengths.find(|&length| rope.scaled_by(length) != scaling) {
            None => Ok(()),
            Some(length) => Err(Error::invalid(format!(
                "a document's conversations must be scaled alike, those of {} and {length} tokens are not",
                self.branches[0].ids.len()
            ))),
        }
    }

    fn check_content(&self) -> Result<()> {
        if self.branches.is_empty() || self.branches.iter().any(|b| b.ids.is_empty()) {
            return Err(Error::invalid(
                "a document needs conversations of at least one token",
            ));
        }
        match self
            .branches
            .iter()
            .find(|b| b.image_tokens.len() != self.image_rows.len())
        {
            Some(b) => Err(Error::invalid(format!(
                "a conversation has {} image tokens for {} image embeddings",
                b.image_tokens.len(),
                self.image_rows.len()
            ))),
            None => Ok(()),
        }
    }
}

/// Where one conversation lies in a forest. All indices are flat: row · tokens + column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    start: usize,
    prefix: usize,
    own: usize,
    length: usize,
}

impl Placement {
    /// Flat index of the conversation's token.
    pub fn flat(&self, token: usize) -> i64 {
        let index = if token < self.prefix {
            self.start + token
        } else {
            self.own + token - self.prefix
        };
        index as i64
    }

    /// Flat index of its last token, where the reward is read.
    pub fn last(&self) -> i64 {
        self.flat(self.length - 1)
    }
}

/// Rows of documents, ready for the network. All arrays but the image ones are [rows, tokens], row-major.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forest {
    /// Number of rows.
    pub rows: usize,
    /// Length of every row, padding included.
    pub tokens: usize,
    /// Tokens that are not padding.
    pub used_tokens: usize,
    /// Token ids; 0 in padding.
    pub input_ids: Vec<i64>,
    /// Positions inside each conversation, as rows of the rope tables.
    pub position_ids: Vec<i64>,
    /// Documents; every padding token is one of its own.
    pub document_ids: Vec<i32>,
    /// 0 in a prefix, 1… in branches.
    pub branch_ids: Vec<i32>,
    /// Flat indices of the image tokens.
    pub image_positions: Vec<i64>,
    /// For each of them, the row of the image embeddings placed there.
    pub image_rows: Vec<i64>,
    /// Every conversation's place, in the order given.
    pub branches: Vec<Placement>,
    /// What the rope tables must hold ([`RopeSettings::tables`]).
    pub rope: Vec<RopeBlock>,
}

impl Forest {
    /// Lays out rows of documents, padded to the longest.
    pub fn new(rows: &[Vec<&Document>], rope: &RopeSettings) -> Result<Self> {
        rows.iter()
            .flatten()
            .try_for_each(|document| document.check(rope))?;
        let width = |row: &Vec<&Document>| row.iter().map(|d| d.tokens()).sum::<usize>();
        let mut forest = Self {
            rows: rows.len(),
            tokens: rows.iter().map(width).max().unwrap_or(0),
            rope: rope_blocks(rows, rope),
            ..Self::default()
        };
        for (index, row) in rows.iter().enumerate() {
            for (document, d) in row.iter().enumerate() {
                let first_position = forest.first_position(d.scaled_by(rope));
                forest.push_document(document as i32, d, first_position);
            }
            forest.used_tokens += forest.input_ids.len() - index * forest.tokens;
            forest.pad((index + 1) * forest.tokens, row.len() as i32);
        }
        Ok(forest)
    }

    /// Flat indices of every conversation's last token.
    pub fn reward_positions(&self) -> Vec<i64> {
        self.branches.iter().map(Placement::last).collect()
    }

    /// The row of the rope tables for position 0 under this scaling.
    fn first_position(&self, scaling: usize) -> usize {
        let earlier = self.rope.iter().take_while(|block| block.length != scaling);
        earlier.map(|block| block.positions).sum()
    }

    fn push_document(&mut self, id: i32, document: &Document, first_position: usize) {
        let (prefix, start) = (document.prefix(), self.input_ids.len());
        self.push_tokens(id, 0, document.branches[0], 0..prefix, &document.image_rows);
        for (index, conversation) in document.branches.iter().enumerate() {
            let length = conversation.ids.len();
            self.branches.push(Placement {
                start,
                prefix,
                own: self.input_ids.len(),
                length,
            });
            self.push_tokens(
                id,
                index as i32 + 1,
                conversation,
                prefix..length,
                &document.image_rows,
            );
        }
        let positions = &mut self.position_ids[start..];
        positions
            .iter_mut()
            .for_each(|p| *p += first_position as i64);
    }

    fn push_tokens(
        &mut self,
        document: i32,
        branch: i32,
        c: &Conversation,
        range: std::ops::Range<usize>,
        images: &[i64],
    ) {
        let start = self.input_ids.len();
        for (&token, &row) in c
            .image_tokens
            .iter()
            .zip(images)
            .filter(|(token, _)| range.contains(token))
        {
            self.image_positions
                .push((start + token - range.start) as i64);
            self.image_rows.push(row);
        }
        self.input_ids
            .extend(c.ids[range.clone()].iter().map(|&id| i64::from(id)));
        self.position_ids.extend(range.clone().map(|p| p as i64));
        self.document_ids.extend(range.clone().map(|_| document));
        self.branch_ids.extend(range.map(|_| branch));
    }

    fn pad(&mut self, until: usize, first_document: i32) {
        let count = until - self.input_ids.len();
        self.document_ids.extend((first_document..).take(count));
        self.input_ids.resize(until, 0);
        self.position_ids.resize(until, 0);
        self.branch_ids.resize(until, 0);
    }
}

/// One block for every scaling among the documents, in the order of their lengths.
fn rope_blocks(rows: &[Vec<&Document>], rope: &RopeSettings) -> Vec<RopeBlock> {
    let mut longest = BTreeMap::new();
    for document in rows.iter().flatten() {
        let positions = longest.entry(document.scaled_by(rope)).or_insert(0);
        *positions = document.longest().max(*positions);
    }
    let block = |(length, positions)| RopeBlock { length, positions };
    longest.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::RopeScaling;

    fn conversation(ids: &[u32], image_tokens: &[usize]) -> Conversation {
        Conversation {
            ids: ids.to_vec(),
            response_start: 0,
            truncated: false,
            image_tokens: image_tokens.to_vec(),
        }
    }

    fn document<'a>(branches: &[&'a Conversation], image_rows: &[i64]) -> Document<'a> {
        Document {
            branches: branches.to_vec(),
            image_rows: image_rows.to_vec(),
        }
    }

    const UNSCALED: RopeSettings = RopeSettings {
        theta: 10000.0,
        head_dim: 4,
        scaling: None,
    };
    /// Every length beyond 3 scales differently.
    const DYNAMIC: RopeSettings = RopeSettings {
        theta: 10000.0,
        head_dim: 4,
        scaling: Some(RopeScaling::Dynamic {
            factor: 2.0,
            max_positions: 3,
        }),
    };

    fn forest(rows: &[Vec<&Document>]) -> Forest {
        Forest::new(rows, &UNSCALED).expect("valid documents")
    }

    #[test]
    fn responses_share_their_prefix() {
        let (a, b) = (
            conversation(&[1, 2, 3, 4], &[1]),
            conversation(&[1, 2, 5], &[1]),
        );
        let pair = document(&[&a, &b], &[7]);
        let f = forest(&[vec![&pair]]);
        assert_eq!(f.input_ids, [1, 2, 3, 4, 5]);
        assert_eq!(f.position_ids, [0, 1, 2, 3, 2]);
        assert_eq!(f.branch_ids, [0, 0, 1, 1, 2]);
        assert_eq!(
            (f.image_positions.as_slice(), f.image_rows.as_slice()),
            ([1].as_slice(), [7].as_slice())
        );
        assert_eq!(f.reward_positions(), [3, 4]);
        assert_eq!(
            (f.branches[1].flat(0), f.branches[1].flat(2), f.used_tokens),
            (0, 4, 5)
        );
    }

    #[test]
    fn every_branch_keeps_a_token_of_its_own() {
        let (short, long) = (conversation(&[1, 2], &[]), conversation(&[1, 2, 3], &[]));
        assert_eq!(document(&[&short, &long], &[]).prefix(), 1);
        assert_eq!(document(&[&long, &long], &[]).prefix(), 2);
        assert_eq!(document(&[&long], &[]).prefix(), 2);
        let f = forest(&[vec![&document(&[&short, &long], &[])]]);
        assert_eq!(f.reward_positions(), [1, 3]);
    }

    #[test]
    fn padding_and_neighbours_are_documents_of_their_own() {
        let (a, b) = (conversation(&[1, 2], &[]), conversation(&[3], &[]));
        let (first, second) = (document(&[&a], &[]), document(&[&b], &[]));
        let f = forest(&[vec![&first, &second], vec![&second]]);
        assert_eq!(f.document_ids, [0, 0, 1, 0, 1, 2]);
        assert_eq!((f.rows, f.tokens, f.used_tokens), (2, 3, 4));
        assert_eq!(f.reward_positions(), [1, 2, 3]);
    }

    #[test]
    fn images_inside_branches_are_placed_in_each() {
        let (a, b) = (
            conversation(&[1, 9, 3], &[1]),
            conversation(&[2, 9, 4], &[1]),
        );
        let f = forest(&[vec![&document(&[&a, &b], &[5])]]);
        assert_eq!((f.image_positions, f.image_rows), (vec![1, 4], vec![5, 5]));
    }

    #[test]
    fn image_tokens_without_embeddings_are_an_error() {
        let a = conversation(&[1, 9], &[1]);
        let text = Forest::new(&[vec![&document(&[&a], &[])]], &UNSCALED)
            .expect_err("no rows")
            .to_string();
        assert!(text.contains("1 image tokens for 0"), "{text}");
        assert!(Forest::new(&[vec![&document(&[], &[])]], &UNSCALED).is_err());
    }

    #[test]
    fn differently_scaled_documents_have_blocks_of_their_own() {
        let (short, long) = (
            conversation(&[1, 2], &[]),
            conversation(&[1, 2, 3, 4, 5], &[]),
        );
        let (one, other) = (document(&[&short], &[]), document(&[&long], &[]));
        let f = Forest::new(&[vec![&other, &one]], &DYNAMIC).expect("valid documents");
        let block = |length, positions| RopeBlock { length, positions };
        assert_eq!(f.rope, [block(3, 2), block(5, 5)]);
        assert_eq!(f.position_ids, [2, 3, 4, 5, 6, 0, 1]);
        let mixed = document(&[&short, &long], &[]);
        let text = Forest::new(&[vec![&mixed]], &DYNAMIC).expect_err("mixed");
        let text = text.to_string();
        assert!(text.contains("scaled alike, those of 2 and 5"), "{text}");
    }
}
