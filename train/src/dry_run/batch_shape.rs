//! The size of a run's largest batch.

use crate::data::preprocess::Preprocessor;
use crate::model::branches::Branches;

/// The size of a branch's input in one pass.
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
    /// The shape of `rows` rows of `tokens` tokens each.
    pub(crate) fn of(rows: usize, tokens: usize) -> Self {
        Self {
            tokens: rows * tokens,
            mask: rows * tokens * tokens,
            ..Self::default()
        }
    }

    /// The element-wise maximum.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            mask: self.mask.max(other.mask),
            tiles: self.tiles.max(other.tiles),
            targets: self.targets.max(other.targets),
        }
    }

    /// The shape of `count` equal inputs.
    pub(crate) fn times(self, count: usize) -> Self {
        Self {
            tokens: self.tokens * count,
            mask: self.mask * count,
            tiles: self.tiles * count,
            targets: self.targets * count,
        }
    }
}

/// The largest row of each branch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Largest {
    main: BatchShape,
    text: BatchShape,
}

/// The size of one row in the main branch.
pub(crate) struct RowShape {
    /// Number of documents: one if the conversations share a prefix.
    pub(crate) documents: usize,
    /// Tokens of the longest document.
    pub(crate) tokens: usize,
    /// Maximum number of tiles of a conversation.
    pub(crate) tiles: usize,
    /// Tokens of responses.
    pub(crate) targets: usize,
}

impl Largest {
    /// Adds a row. In the text-only branch the white image, of `white` tokens, replaces all images.
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

    /// The shape of a batch of `rows` rows that all have the largest size, since rows are padded to the longest.
    pub(crate) fn of_batch(
        &self,
        rows: usize,
        preprocessors: &Branches<Preprocessor>,
    ) -> Branches<BatchShape> {
        let text = self.text.times(rows);
        // With sharing, all rows use one white image.
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
