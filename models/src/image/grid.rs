//! Images of Qwen's vision encoders: the whole image, resized to whole tokens, in patches. The patches of a token, a square
//! of them, follow each other.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::extent::Extent;
use super::resize::resize;
use super::rgb::Rgb;
use crate::{Error, ImageFault, Result};

/// The largest ratio of an image's sides.
const MAX_ASPECT: f64 = 200.0;

/// The settings of grids. Those of the encoder decide the inputs that the host computes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSettings {
    /// The side of a patch in pixels.
    pub patch: u32,
    /// The side in patches of the square that becomes a token.
    pub merge: u32,
    /// Fewest pixels of a resized image.
    pub min_pixels: u64,
    /// Most pixels of a resized image.
    pub max_pixels: u64,
    /// The width of the encoder's attention heads.
    pub head_dim: usize,
    /// The side in tokens of the windows in which most layers attend; `None`: all layers attend to the whole image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// The side of the encoder's square table of position embeddings, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
}

/// The patches of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// u8 `[1, patches, 3·patch²]`: the patches token by token, row by row; inside of a token row by row too. A patch has
    /// its red values row by row, then its green, then its blue ones.
    pub patches: Array3<u8>,
    /// Rows of tokens.
    pub rows: usize,
    /// Columns of tokens.
    pub columns: usize,
}

impl Grid {
    /// Rows and columns of tokens.
    pub fn extent(&self) -> Extent {
        Extent::Grid {
            rows: self.rows,
            columns: self.columns,
        }
    }
}

impl GridSettings {
    const MAX_PATCH: u32 = 256;
    const MAX_MERGE: u32 = 16;
    const MAX_PIXELS: u64 = 1 << 28;

    /// # Errors
    /// A side of zero or out of proportion, limits that contradict each other, or heads that two axes cannot share.
    pub fn validate(&self) -> Result<()> {
        let sides = [
            ("patch", self.patch, Self::MAX_PATCH),
            ("merge", self.merge, Self::MAX_MERGE),
            ("window", self.window.unwrap_or(1), 1 << 16),
            ("table", self.table.unwrap_or(1), 1 << 12),
        ];
        let odd = |&&(_, side, most): &&(&str, u32, u32)| !(1..=most).contains(&side);
        if let Some((name, side, most)) = sides.iter().find(odd) {
            let problem = format!("{name}: expected 1 to {most}, got {side}");
            return Err(Error::invalid(problem));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(4) || self.head_dim > 1 << 12 {
            let problem = format!(
                "head_dim: expected a multiple of 4, got {}: rows and columns share the pairs of a head",
                self.head_dim
            );
            return Err(Error::invalid(problem));
        }
        self.validate_pixels()
    }

    fn validate_pixels(&self) -> Result<()> {
        let (min, max, most) = (self.min_pixels, self.max_pixels, Self::MAX_PIXELS);
        if min == 0 || min > max || max > most {
            return Err(Error::invalid(format!(
                "min_pixels and max_pixels: expected 1 to {most} in ascending order, got {min} and {max}"
            )));
        }
        Ok(())
    }

    /// The side of a token in pixels.
    fn token(&self) -> u32 {
        self.patch * self.merge
    }

    /// Rows and columns of tokens of an image of this size: the nearest multiples of a token, and where that is outside of
    /// the limits, fewer or more with the same aspect ratio. `smart_resize` of the published code, in whose order of
    /// operations floats are rounded.
    ///
    /// # Errors
    /// An aspect ratio above 200.
    pub fn extent(&self, width: u32, height: u32) -> Result<Extent> {
        let sides = [f64::from(height), f64::from(width)];
        let aspect = sides[0].max(sides[1]) / sides[0].min(sides[1]);
        if aspect > MAX_ASPECT {
            return Err(Error::image(
                ImageFault::Content,
                format!("expected an aspect ratio of at most {MAX_ASPECT}, got {aspect}"),
            ));
        }
        let token = f64::from(self.token());
        let (area, pixels) = (sides[0] * sides[1], token * token);
        let (min, max) = (self.min_pixels as f64, self.max_pixels as f64);
        let nearest = sides.map(|side| (side / token).round_ties_even());
        let resized = nearest[0] * nearest[1] * pixels;
        let [rows, columns] = if resized > max {
            let shrink = (area / max).sqrt();
            sides.map(|side| (side / shrink / token).floor().max(1.0))
        } else if resized < min {
            let grow = (min / area).sqrt();
            sides.map(|side| (side * grow / token).ceil())
        } else {
            nearest
        };
        Ok(Extent::Grid {
            rows: rows as usize,
            columns: columns as usize,
        })
    }

    /// Resizes an image and cuts it into patches.
    ///
    /// # Errors
    /// [Invalid](Self::validate) settings, or as [`Self::extent`].
    pub fn cut(&self, image: &Rgb) -> Result<Grid> {
        self.validate()?;
        let Extent::Grid { rows, columns } = self.extent(image.width(), image.height())? else {
            return Err(Error::invalid("expected a grid"));
        };
        let token = self.token();
        let whole = resize(image, columns as u32 * token, rows as u32 * token);
        let patch = self.patch as usize;
        let mut values = Vec::with_capacity(whole.pixels().len());
        for (row, column) in places(rows, columns, self.merge as usize) {
            patch_values(&whole, row * patch, column * patch, patch, &mut values);
        }
        let shape = [1, values.len() / (3 * patch * patch), 3 * patch * patch];
        Ok(Grid {
            patches: Array3::from_shape_vec(shape, values).map_err(Error::invalid)?,
            rows,
            columns,
        })
    }

    /// The most tokens of an image: up to a few more than its pixels make if [`Self::min_pixels`] makes it grow.
    pub(super) fn most_tokens(&self) -> usize {
        let token = u64::from(self.token());
        let by_size = self.max_pixels / (token * token);
        // An image that grows is rounded up, along its longer side by as much as the ratio of the sides.
        let grown = self.min_pixels / (token * token) + 2 * MAX_ASPECT as u64;
        by_size.max(grown).max(1) as usize
    }
}

/// Rows and columns of the patches of `rows` × `columns` tokens, in the order in which the encoder reads them.
pub(super) fn places(
    rows: usize,
    columns: usize,
    merge: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let tokens = (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
    tokens.flat_map(move |(row, column)| {
        let inside = (0..merge).flat_map(move |y| (0..merge).map(move |x| (y, x)));
        inside.map(move |(y, x)| (row * merge + y, column * merge + x))
    })
}

/// Appends the values of a patch, channel by channel.
fn patch_values(image: &Rgb, top: usize, left: usize, side: usize, values: &mut Vec<u8>) {
    for channel in 0..3 {
        for row in image
            .pixels()
            .chunks_exact(image.stride())
            .skip(top)
            .take(side)
        {
            let pixels = row[left * 3..(left + side) * 3].chunks_exact(3);
            values.extend(pixels.map(|pixel| pixel[channel]));
        }
    }
}
