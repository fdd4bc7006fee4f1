//! SentencePiece's merging: of all neighbours whose concatenation is a piece, those of the best score first, of equal
//! ones the leftmost. (Merge lists, as byte-level BPE has them, rank pairs instead: two ways to form the same piece have
//! different ranks there, so that the tokenizers crate's BPE cannot be used.)

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::iter;
use std::ops::Range;

use super::model::{Model, Reading};
use super::proto::Kind;

const NONE: usize = usize::MAX;

/// A stretch of the text; empty once it is merged into its left neighbour.
struct Symbol {
    range: Range<usize>,
    left: usize,
    right: usize,
    /// A user-defined piece, which takes part in no merge.
    frozen: bool,
}

/// Two neighbours that form a piece.
struct Merge {
    score: f32,
    left: usize,
    right: usize,
    /// In bytes, to detect that its symbols have grown since.
    length: usize,
}

impl Ord for Merge {
    fn cmp(&self, other: &Self) -> Ordering {
        let score = self.score.total_cmp(&other.score);
        score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Merge {}

/// The pieces of `text`, which is normalised, as ranges; a character that no piece has is a separate range. Takes time
/// proportional to n log n.
pub(super) fn merge(model: &Model, reading: &Reading, text: &str) -> Vec<Range<usize>> {
    let mut merging = Merging {
        model,
        reading,
        text,
        symbols: symbols(reading, text),
        agenda: BinaryHeap::new(),
        halves: HashMap::new(),
    };
    merging.run();
    merging.result()
}

fn symbols(reading: &Reading, text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
    let mut push = |range, frozen| {
        let at = symbols.len();
        let (left, right) = (at.checked_sub(1).unwrap_or(NONE), at + 1);
        symbols.push(Symbol {
            range,
            left,
            right,
            frozen,
        });
    };
    let mut done = 0;
    let end = iter::once(text.len()..text.len());
    for found in reading.user_defined(text).chain(end) {
        for (at, c) in text[done..found.start].char_indices() {
            push(done + at..done + at + c.len_utf8(), false);
        }
        done = found.end;
        if !found.is_empty() {
            push(found, true);
        }
    }
    if let Some(last) = symbols.last_mut() {
        last.right = NONE;
    }
    symbols
}

struct Merging<'a> {
    model: &'a Model,
    reading: &'a Reading,
    text: &'a str,
    symbols: Vec<Symbol>,
    agenda: BinaryHeap<Merge>,
    /// For pieces that may not appear in the result, the length of the left half.
    halves: HashMap<u32, usize>,
}

impl Merging<'_> {
    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(merge) = self.agenda.pop() {
            if self.is_current(&merge) {
                self.apply(&merge);
            }
        }
    }

    fn consider(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.frozen || b.frozen {
            return;
        }
        let range = a.range.start..b.range.end;
        let Some(id) = self.mergeable(range.clone()) else {
            return;
        };
        let piece = self.model.piece(id);
        if piece.kind == Kind::Unused {
            self.halves.insert(id, a.range.len());
        }
        self.agenda.push(Merge {
            score: piece.score,
            left,
            right,
            length: range.len(),
        });
    }

    fn mergeable(&self, range: Range<usize>) -> Option<u32> {
        self.model.mergeable(&self.text[range], self.reading)
    }

    fn is_current(&self, merge: &Merge) -> bool {
        let left = &self.symbols[merge.left].range;
        let right = &self.symbols[merge.right].range;
        !left.is_empty() && !right.is_empty() && left.len() + right.len() == merge.length
    }

    fn apply(&mut self, merge: &Merge) {
        let (at, gone) = (merge.left, merge.right);
        let (end, next) = (self.symbols[gone].range.end, self.symbols[gone].right);
        self.symbols[gone].range = end..end;
        self.symbols[at].range.end = end;
        self.symbols[at].right = next;
        if next != NONE {
            self.symbols[next].left = at;
        }
        self.consider(self.symbols[at].left, at);
        self.consider(at, next);
    }

    fn result(&self) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        for symbol in self.symbols.iter().filter(|s| !s.range.is_empty()) {
            self.unmerge(symbol.range.clone(), &mut pieces);
        }
        pieces
    }

    /// Splits pieces that may not appear in the result.
    fn unmerge(&self, range: Range<usize>, pieces: &mut Vec<Range<usize>>) {
        let id = self.mergeable(range.clone());
        let unused = id.filter(|&id| self.model.piece(id).kind == Kind::Unused);
        match unused.and_then(|id| self.halves.get(&id)) {
            Some(half) => {
                let middle = range.start + half;
                self.unmerge(range.start..middle, pieces);
                self.unmerge(middle..range.end, pieces);
            }
            None => pieces.push(range),
        }
    }
}
