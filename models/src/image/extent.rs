//! The extent of an image after it was resized and cut.

/// The extent of an image in units of the encoder's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extent {
    /// Tiles, each of a fixed number of tokens.
    Tiles(usize),
    /// A grid of tokens.
    Grid {
        /// Rows of tokens.
        rows: usize,
        /// Columns of tokens.
        columns: usize,
    },
}

impl Extent {
    /// The number of tiles, or of tokens in a grid: the unit of the tokens and features of an image.
    pub fn units(self) -> usize {
        match self {
            Self::Tiles(count) => count,
            Self::Grid { rows, columns } => rows * columns,
        }
    }

    /// The number of images that the encoder sees: tiles, or one whole image.
    pub fn tiles(self) -> usize {
        match self {
            Self::Tiles(count) => count,
            Self::Grid { .. } => 1,
        }
    }
}
