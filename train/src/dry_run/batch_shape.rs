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
    /// Units of images.
    pub(crate) units: usize,
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
            units: self.units.max(other.units),
            targets: self.targets.max(other.targets),
        }
    }

    /// The shape of `count` equal inputs.
    pub(crate) fn times(self, count: usize) -> Self {
        Self {
            tokens: self.tokens * count,
            mask: self.mask * count,
            units: self.units * count,
            targets: self.targets * count,
        }
    }
}

/// The largest row of each branch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Largest {
    main: BatchShape,
    text: BatchShape,
    white_units: usize,
}

/// The size of the white image in the text-only branch; zeros without one, or without vision.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WhiteImage {
    /// Its units.
    pub(crate) units: usize,
    /// Its tokens.
    pub(crate) tokens: usize,
}

/// The size of one row in the main branch.
pub(crate) struct RowShape {
    /// Number of documents: one if the conversations share a prefix.
    pub(crate) documents: usize,
    /// Tokens of the longest document.
    pub(crate) tokens: usize,
    /// Maximum number of units of a conversation's images.
    pub(crate) units: usize,
    /// Tokens of responses.
    pub(crate) targets: usize,
}

impl Largest {
    /// Adds a row. In the text-only branch the white image replaces all images.
    pub(crate) fn add(&mut self, size: RowShape, preprocessor: &Preprocessor, white: WhiteImage) {
        let main = BatchShape {
            units: size.documents * size.units,
            targets: size.targets,
            ..BatchShape::of(size.documents, size.tokens)
        };
        let settings = preprocessor.prompter.settings();
        let texts = size.tokens - size.tokens.min(size.units * settings.tokens_per_tile);
        let text = BatchShape {
            units: usize::from(!preprocessor.shared) * size.documents * white.units,
            ..BatchShape::of(size.documents, texts + white.tokens)
        };
        self.white_units = white.units;
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
        let units = text.units.max(self.white_units);
        Branches {
            main: self.main.times(rows),
            text: preprocessors
                .text
                .as_ref()
                .map(|_| BatchShape { units, ..text }),
        }
    }
}
