//! The assignment of branches and documents to rows, and of rows to runs: the cheapest by the cost model, one piece at a
//! time.

use std::cmp::Reverse;

use super::cost::Cost;
use super::document::Document;
use super::layout::Forest;
use crate::Result;
use crate::rope::RopeSettings;

/// Incremented with every change of [`batches`]' result for the same arguments, of the documents that rows become, or of
/// the cost model's rates: rewards then round differently. In version 6 rows with equal prompt and images are one document.
pub const LAYOUT_VERSION: u32 = 6;

/// Runs that are considered for a piece. More would hardly improve the layout, and take time that grows with the square
/// of the number of documents.
const OPEN_RUNS: usize = 64;

/// The settings of the layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packing {
    /// Most tokens of a run, padding included.
    pub batch_tokens: usize,
    /// Most rows of a run.
    pub most_rows: usize,
    /// Rows are padded to a multiple of this number of tokens; 1 pads to the longest row alone.
    pub row_multiple: usize,
    /// The cost of runs.
    pub cost: Cost,
}

/// One run of the reward graph, and the conversation of each of its rewards.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The layout.
    pub forest: Forest,
    /// (document, branch) of every reward, indices into the arguments of [`batches`].
    pub sources: Vec<(usize, usize)>,
}

/// Cuts documents into runs of at most `batch_tokens` tokens, padding included; only a single conversation longer
/// than that gives a larger one, whose padding others may replace. Branches with different scaling are separated. A function of its arguments alone, so that
/// equal input gives equal bytes.
///
/// # Errors
/// A document without conversations or with an empty one, or whose image tokens do not match its image rows.
pub fn batches(
    documents: &[Document],
    rope: &RopeSettings,
    packing: &Packing,
) -> Result<Vec<Batch>> {
    documents.iter().try_for_each(Document::check_content)?;
    let mut pieces: Vec<Piece> = documents
        .iter()
        .enumerate()
        .flat_map(|(index, document)| packing.cut(index, document, rope))
        .collect();
    // Rows are as long as their first piece at first, so the long ones lead; the sort is stable.
    pieces.sort_by_key(|piece| Reverse(piece.tokens));
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        packing.place(piece, &mut runs);
    }
    let batch = |run: &Run| run.batch(rope, packing.row_multiple);
    runs.iter().map(batch).collect()
}

/// A document, or some of its branches.
struct Piece<'a> {
    document: Document<'a>,
    sources: Vec<(usize, usize)>,
    tokens: usize,
}

impl<'a> Piece<'a> {
    fn new(index: usize, document: &Document<'a>, branches: &[usize]) -> Self {
        let document = Document {
            branches: branches.iter().map(|&b| document.branches[b]).collect(),
            image_rows: document.image_rows.clone(),
        };
        Self {
            tokens: document.tokens(),
            sources: branches.iter().map(|&branch| (index, branch)).collect(),
            document,
        }
    }
}

/// Branches of one scaling with their shared prefix.
struct Siblings {
    /// (branch, tokens after the prefix), the longest first.
    branches: Vec<(usize, usize)>,
    prefix: usize,
}

/// Branches that will share a row.
#[derive(Clone, Default)]
struct Share {
    branches: Vec<usize>,
    tokens: usize,
}

impl Siblings {
    /// The branches of each scaling, in the order of their first branches.
    fn of(document: &Document, rope: &RopeSettings) -> Vec<Self> {
        let mut scalings: Vec<(usize, Vec<usize>)> = Vec::new();
        for (branch, conversation) in document.branches.iter().enumerate() {
            let scaling = rope.scaled_by(conversation.ids.len());
            match scalings.iter_mut().find(|(s, _)| *s == scaling) {
                Some((_, branches)) => branches.push(branch),
                None => scalings.push((scaling, vec![branch])),
            }
        }
        let siblings = |(_, branches): (usize, Vec<usize>)| Self::new(document, &branches);
        scalings.into_iter().map(siblings).collect()
    }

    fn new(document: &Document, branches: &[usize]) -> Self {
        let prefix = Piece::new(0, document, branches).document.prefix();
        let own = |&branch: &usize| (branch, document.branches[branch].ids.len() - prefix);
        let mut branches: Vec<_> = branches.iter().map(own).collect();
        branches.sort_by_key(|&(_, own)| Reverse(own));
        Self { branches, prefix }
    }

    /// Distributes branches over `rows` rows, the longest branch first and each into the row that is shortest so far.
    fn deal(&self, rows: usize) -> Vec<Share> {
        let empty = Share {
            branches: Vec::new(),
            tokens: self.prefix,
        };
        let mut shares = vec![empty; rows];
        for &(branch, own) in &self.branches {
            if let Some(share) = shares.iter_mut().min_by_key(|share| share.tokens) {
                share.branches.push(branch);
                share.tokens += own;
            }
        }
        shares.iter_mut().for_each(|share| share.branches.sort());
        shares
    }

    /// A lower bound of the rows of at most `row_tokens`.
    fn fewest_rows(&self, row_tokens: usize) -> usize {
        let own: usize = self.branches.iter().map(|&(_, own)| own).sum();
        match row_tokens.checked_sub(self.prefix) {
            None | Some(0) => self.branches.len(),
            Some(room) => own.div_ceil(room).clamp(1, self.branches.len()),
        }
    }
}

impl Packing {
    /// Cuts the document into the cheapest number of pieces: each computes the prefix once more, and leaves attention
    /// fewer pairs.
    fn cut<'a>(
        &self,
        index: usize,
        document: &Document<'a>,
        rope: &RopeSettings,
    ) -> Vec<Piece<'a>> {
        let siblings = Siblings::of(document, rope);
        let shares = siblings.iter().flat_map(|siblings| self.shares(siblings));
        shares
            .map(|share| Piece::new(index, document, &share.branches))
            .collect()
    }

    fn shares(&self, siblings: &Siblings) -> Vec<Share> {
        let fewest = siblings.fewest_rows(self.batch_tokens);
        let mut best: Option<(f64, Vec<Share>)> = None;
        for rows in fewest..=siblings.branches.len() {
            let shares = siblings.deal(rows);
            if !self.fits(&shares) {
                continue;
            }
            let cost = self.shares_cost(&shares);
            // The cost falls and then rises: after the first rise nothing is cheaper.
            if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
                break;
            }
            best = Some((cost, shares));
        }
        best.map_or_else(|| siblings.deal(siblings.branches.len()), |(_, s)| s)
    }

    /// The length of a row that holds `tokens`.
    fn padded(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.row_multiple)
    }

    fn fits(&self, shares: &[Share]) -> bool {
        let fits = |s: &Share| self.padded(s.tokens) <= self.batch_tokens || s.branches.len() == 1;
        shares.iter().all(fits)
    }

    /// The cost of separate runs, as full as the budget allows, padded to the longest.
    fn shares_cost(&self, shares: &[Share]) -> f64 {
        let longest = shares.iter().map(|share| share.tokens).max().unwrap_or(0);
        let longest = self.padded(longest);
        let rows_of_a_run = (self.batch_tokens / longest.max(1)).clamp(1, self.most_rows);
        let runs = shares.len().div_ceil(rows_of_a_run);
        self.cost.rows(shares.len(), longest) + runs as f64 * self.cost.run(0, 0)
    }

    /// Puts the piece at its cheapest place; of equal ones, the earliest.
    fn place<'a>(&self, piece: Piece<'a>, runs: &mut Vec<Run<'a>>) {
        let first = runs.len().saturating_sub(OPEN_RUNS);
        let mut best = (self.cost.run(1, self.padded(piece.tokens)), Place::NewRun);
        for (index, run) in runs.iter().enumerate().skip(first) {
            for (cost, row) in self.offers(run, piece.tokens).into_iter().flatten() {
                if cost < best.0 {
                    best = (cost, Place::Row(index, row));
                }
            }
        }
        match best.1 {
            Place::NewRun => runs.push(Run::new(piece, self.row_multiple)),
            Place::Row(run, row) => runs[run].push(row, piece, self.row_multiple),
        }
    }

    /// The cost of `tokens` more in the run's emptiest row, and in a new one, if the budget allows it.
    fn offers(&self, run: &Run, tokens: usize) -> [Option<(f64, usize)>; 2] {
        let rows = run.rows.len();
        let (row, used) = run.emptiest();
        let offer = |rows: usize, width: usize, row: usize| {
            let allowed = rows <= self.most_rows && rows * width <= self.batch_tokens;
            let now = self.cost.rows(run.rows.len(), run.tokens);
            allowed.then(|| (self.cost.rows(rows, width) - now, row))
        };
        let fits = used + tokens <= run.tokens;
        [
            // Replacing padding costs nothing, even in a run over the budget.
            match fits {
                true => Some((0.0, row)),
                false => offer(rows, self.padded(used + tokens), row),
            },
            offer(rows + 1, run.tokens, rows),
        ]
    }
}

enum Place {
    NewRun,
    /// This row of this run; the index after the last is a new row.
    Row(usize, usize),
}

/// Rows of pieces, padded to one length.
struct Run<'a> {
    rows: Vec<Row<'a>>,
    tokens: usize,
}

struct Row<'a> {
    pieces: Vec<Piece<'a>>,
    tokens: usize,
}

impl<'a> Run<'a> {
    fn new(piece: Piece<'a>, row_multiple: usize) -> Self {
        let mut run = Self {
            rows: Vec::new(),
            tokens: 0,
        };
        run.push(0, piece, row_multiple);
        run
    }

    fn push(&mut self, row: usize, piece: Piece<'a>, row_multiple: usize) {
        if row == self.rows.len() {
            self.rows.push(Row {
                pieces: Vec::new(),
                tokens: 0,
            });
        }
        let row = &mut self.rows[row];
        row.tokens += piece.tokens;
        row.pieces.push(piece);
        self.tokens = self.tokens.max(row.tokens.next_multiple_of(row_multiple));
    }

    /// The row with the fewest tokens, and their number.
    fn emptiest(&self) -> (usize, usize) {
        let rows = self.rows.iter().map(|row| row.tokens).enumerate();
        rows.min_by_key(|&(_, tokens)| tokens).unwrap_or((0, 0))
    }

    fn batch(&self, rope: &RopeSettings, row_multiple: usize) -> Result<Batch> {
        let documents = |row: &'_ Row<'a>| row.pieces.iter().map(|p| p.document.clone()).collect();
        let rows: Vec<Vec<Document>> = self.rows.iter().map(documents).collect();
        let layout: Vec<Vec<&Document>> = rows.iter().map(|row| row.iter().collect()).collect();
        let pieces = self.rows.iter().flat_map(|row| &row.pieces);
        Ok(Batch {
            forest: Forest::padded(&layout, rope, row_multiple)?,
            sources: pieces.flat_map(|piece| piece.sources.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
