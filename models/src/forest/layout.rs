//! Rows of documents as the network reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use ndarray::Array2;

use super::document::Document;
use super::positions::{Position, Stretch, stretches};
use crate::prompt::Conversation;
use crate::reading::Reading;
use crate::rope::{ImagePlace, RopeBlock, RopeSettings};
use crate::{Error, Result};

/// The number of tokens whose multiples are the lengths of rows on a GPU. Its attention kernels read masks of such rows at
/// their full rate, and some take no other; and the fewer lengths there are, the more plans and blocks of memory are used again.
pub const GPU_ROW_MULTIPLE: usize = 64;

/// The place of one conversation in a forest. All indices are flat: row · tokens + column.
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
}

/// Rows of documents, ready for the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forest {
    /// Token ids [rows, tokens]; 0 in padding.
    pub input_ids: Array2<i64>,
    /// Positions inside each conversation, as rows of the rope tables, [rows, tokens].
    pub position_ids: Array2<i64>,
    /// Documents [rows, tokens]; every padding token is a separate document.
    pub document_ids: Array2<i32>,
    /// Branches [rows, tokens]: 0 in a prefix, 1… in branches.
    pub branch_ids: Array2<i32>,
    /// Tokens that are not padding.
    pub used_tokens: usize,
    /// Flat indices of the image tokens.
    pub image_positions: Vec<i64>,
    /// For each of them, the row of the image embeddings placed there.
    pub image_rows: Vec<i64>,
    /// Every conversation's place, in the order given.
    pub branches: Vec<Placement>,
    /// The blocks of the rope tables ([`RopeSettings::tables`]).
    pub rope: Vec<RopeBlock>,
}

impl Forest {
    /// Lays out rows of documents, padded to the longest.
    ///
    /// # Errors
    /// A document without conversations or with an empty one, whose conversations are scaled differently, or whose
    /// image tokens do not match its image rows.
    pub fn new(rows: &[Vec<&Document>], rope: &RopeSettings) -> Result<Self> {
        Self::padded(rows, rope, 1)
    }

    /// The same with rows whose length is a multiple of `row_multiple`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn padded(
        rows: &[Vec<&Document>],
        rope: &RopeSettings,
        row_multiple: usize,
    ) -> Result<Self> {
        rows.iter()
            .flatten()
            .try_for_each(|document| document.check(rope))?;
        let width = |row: &Vec<&Document>| row.iter().map(|d| d.tokens()).sum::<usize>();
        let longest = rows.iter().map(width).max().unwrap_or(0);
        let tokens = longest.next_multiple_of(row_multiple);
        let mut layout = Layout {
            rope: RopeRows::new(rows, rope),
            ..Layout::default()
        };
        for (index, row) in rows.iter().enumerate() {
            for (document, d) in row.iter().enumerate() {
                layout.push_document(document as i32, d, rope);
            }
            layout.used_tokens += layout.input_ids.len() - index * tokens;
            layout.pad((index + 1) * tokens, row.len() as i32);
        }
        layout.finish([rows.len(), tokens])
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.input_ids.nrows()
    }

    /// Length of every row, padding included.
    pub fn tokens(&self) -> usize {
        self.input_ids.ncols()
    }

    /// Flat indices of every conversation's last token.
    pub fn reward_positions(&self) -> Vec<i64> {
        self.positions_of(Reading::Last).0
    }

    /// Flat indices of the tokens where rewards are read, conversation by conversation, and their number in each.
    pub fn positions_of(&self, reading: Reading) -> (Vec<i64>, Vec<usize>) {
        let (mut flat, mut counts) = (Vec::new(), Vec::new());
        let ids = self.input_ids.as_slice().unwrap_or_default();
        for place in &self.branches {
            let is = |token: usize, id: u32| ids[place.flat(token) as usize] == i64::from(id);
            let tokens = reading.tokens(place.length, is);
            counts.push(tokens.len());
            flat.extend(tokens.map(|token| place.flat(token)));
        }
        (flat, counts)
    }
}

/// A forest whose rows are being laid out, one after the other.
#[derive(Default)]
struct Layout {
    used_tokens: usize,
    input_ids: Vec<i64>,
    position_ids: Vec<i64>,
    document_ids: Vec<i32>,
    branch_ids: Vec<i32>,
    image_positions: Vec<i64>,
    image_rows: Vec<i64>,
    branches: Vec<Placement>,
    rope: RopeRows,
}

impl Layout {
    fn push_document(&mut self, id: i32, document: &Document, rope: &RopeSettings) {
        let (prefix, start) = (document.prefix(), self.input_ids.len());
        let scaling = document.scaled_by(rope);
        let push = |layout: &mut Self, branch: usize, range: Range<usize>| {
            let conversation = document.branches[branch.max(1) - 1];
            layout.push_positions(&stretches(conversation, rope), scaling, &range);
            layout.push_tokens(
                (id, branch as i32),
                conversation,
                range,
                &document.image_rows,
            );
        };
        push(self, 0, 0..prefix);
        for (index, conversation) in document.branches.iter().enumerate() {
            let length = conversation.ids.len();
            self.branches.push(Placement {
                start,
                prefix,
                own: self.input_ids.len(),
                length,
            });
            push(self, index + 1, prefix..length);
        }
    }

    /// The rows of the rope tables for the tokens in `range`.
    fn push_positions(&mut self, stretches: &[Stretch], scaling: usize, range: &Range<usize>) {
        for Stretch { tokens, first } in stretches {
            let (start, end) = (tokens.start.max(range.start), tokens.end.min(range.end));
            let row = self.rope.row(scaling, *first) as i64 - tokens.start as i64;
            self.position_ids
                .extend((start..end).map(|token| row + token as i64));
        }
    }

    fn push_tokens(
        &mut self,
        (document, branch): (i32, i32),
        c: &Conversation,
        range: Range<usize>,
        images: &[i64],
    ) {
        let start = self.input_ids.len();
        let before = |end: usize| c.image_tokens.partition_point(|&token| token < end);
        let own = before(range.start)..before(range.end);
        let flat = c.image_tokens[own.clone()].iter();
        self.image_positions
            .extend(flat.map(|token| (start + token - range.start) as i64));
        self.image_rows.extend_from_slice(&images[own]);
        self.input_ids
            .extend(c.ids[range.clone()].iter().map(|&id| i64::from(id)));
        self.document_ids.resize(self.input_ids.len(), document);
        self.branch_ids.resize(self.input_ids.len(), branch);
    }

    fn pad(&mut self, until: usize, first_document: i32) {
        let count = until - self.input_ids.len();
        self.document_ids.extend((first_document..).take(count));
        self.input_ids.resize(until, 0);
        self.position_ids.resize(until, 0);
        self.branch_ids.resize(until, 0);
    }

    fn finish(self, shape: [usize; 2]) -> Result<Forest> {
        fn grid<T>(shape: [usize; 2], values: Vec<T>) -> Result<Array2<T>> {
            Array2::from_shape_vec(shape, values).map_err(Error::invalid)
        }
        Ok(Forest {
            input_ids: grid(shape, self.input_ids)?,
            position_ids: grid(shape, self.position_ids)?,
            document_ids: grid(shape, self.document_ids)?,
            branch_ids: grid(shape, self.branch_ids)?,
            used_tokens: self.used_tokens,
            image_positions: self.image_positions,
            image_rows: self.image_rows,
            branches: self.branches,
            rope: self.rope.blocks,
        })
    }
}

/// The rows of the rope tables that documents need.
#[derive(Default)]
struct RopeRows {
    blocks: Vec<RopeBlock>,
    /// The first row of every scaling.
    lines: HashMap<usize, usize>,
    /// The first row of every image.
    images: HashMap<ImagePlace, usize>,
}

impl RopeRows {
    /// One block for every scaling among the documents, in the order of their lengths, then one for every place of an image.
    fn new(rows: &[Vec<&Document>], rope: &RopeSettings) -> Self {
        let (mut lines, mut places) = (BTreeMap::new(), BTreeSet::new());
        for document in rows.iter().flatten() {
            let longest = lines.entry(document.scaled_by(rope)).or_insert(0);
            for conversation in &document.branches {
                for Stretch { tokens, first } in stretches(conversation, rope) {
                    match first {
                        Position::Line(at) => *longest = (at + tokens.len()).max(*longest),
                        Position::Image(place) => {
                            places.insert(place);
                        }
                    }
                }
            }
        }
        let mut all = Self::default();
        for (length, positions) in lines {
            let first = all.push(RopeBlock::Line { length, positions });
            all.lines.insert(length, first);
        }
        for place in places {
            let first = all.push(RopeBlock::Image(place));
            all.images.insert(place, first);
        }
        all
    }

    /// Adds a block and returns its first row.
    fn push(&mut self, block: RopeBlock) -> usize {
        let first = self.blocks.iter().map(RopeBlock::entries).sum();
        self.blocks.push(block);
        first
    }

    /// The row of a position of a conversation that is scaled by `scaling`.
    fn row(&self, scaling: usize, position: Position) -> usize {
        match position {
            Position::Line(at) => self.lines[&scaling] + at,
            Position::Image(place) => self.images[&place],
        }
    }
}
