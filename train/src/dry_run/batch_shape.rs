//! How much the largest batch of a run is.

use crate::data::preprocess::Preprocessor;
use crate::model::branches::Branches;

/// How much a branch reads in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchShape {
    /// Tokens, padding included.
    pub(crate) tokens: usize,
    /// Elements of the tree mask.
    pub(crate) mask: usize,
    /// Tiles of images.
    pub(crate) tiles: usize,
    /// Next-token targets.
    pub(crate) targets: usize,
}

impl BatchShape {
    /// Of `rows` of `tokens` each.
    pub(crate) fn of(rows: usize, tokens: usize) -> Self {
        Self {
            tokens: rows * tokens,
            mask: rows * tokens * tokens,
            ..Self::default()
        }
    }

    /// As large as the larger one in every respect.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            mask: self.mask.max(other.mask),
            tiles: self.tiles.max(other.tiles),
            targets: self.targets.max(other.targets),
        }
    }

    /// The shape of `count` equal ones.
    pub(crate) fn times(self, count: usize) -> Self {
        Self {
            tokens: self.tokens * count,
            mask: self.mask * count,
            tiles: self.tiles * count,
            targets: self.targets * count,
        }
    }
}

/// The largest row that each branch reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Largest {
    main: BatchShape,
    text: BatchShape,
}

/// One row as the main branch reads it.
pub(crate) struct RowShape {
    /// Documents: one where the conversations share.
    pub(crate) documents: usize,
    /// Of the longest document.
    pub(crate) tokens: usize,
    /// Of the images of one conversation, at most.
    pub(crate) tiles: usize,
    /// Tokens of responses.
    pub(crate) targets: usize,
}

impl Largest {
    /// The text-only branch sees the white image, of `white` tokens, in the place of all others.
    pub(crate) fn add(&mut self, size: RowShape, preprocessor: &Preprocessor, white: usize) {
        let main = BatchShape {
            tiles: size.documents * size.tiles,
            targets: size.targets,
            ..BatchShape::of(size.documents, size.tokens)
        };
        let settings = preprocessor.prompter.settings();
        let texts = size.tokens - size.tokens.min(size.tiles * settings.tokens_per_tile);
        let text = BatchShape {
            tiles: usize::from(!preprocessor.shared) * size.documents,
            ..BatchShape::of(size.documents, texts + white)
        };
        self.main = self.main.max(main);
        self.text = self.text.max(text);
    }

    /// The shape of a batch of equally large rows, which are padded to the longest.
    pub(crate) fn of_batch(
        &self,
        rows: usize,
        preprocessors: &Branches<Preprocessor>,
    ) -> Branches<BatchShape> {
        let text = self.text.times(rows);
        // What is shared of the white image is all of it.
        let tiles = text.tiles.max(1);
        Branches {
            main: self.main.times(rows),
            text: preprocessors
                .text
                .as_ref()
                .map(|_| BatchShape { tiles, ..text }),
        }
    }
}
