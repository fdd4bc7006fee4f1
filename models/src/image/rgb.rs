//! An image in memory.

use std::fmt;

use crate::{Error, ImageFault, Result};

/// An image in memory: rows from the top, 8-bit R G B, contiguous. Never empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Rgb {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<u8>,
}

impl Rgb {
    /// An image of `pixels` `[height, width, 3]`.
    ///
    /// # Errors
    /// A side of zero, or another number of bytes than `height * width * 3`.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        check_not_empty(width, height)?;
        let expected = u64::from(width) * u64::from(height) * 3;
        if pixels.len() as u64 != expected {
            return Err(Error::invalid(format!(
                "an image of {width} x {height} RGB pixels takes {expected} bytes, got {}",
                pixels.len()
            )));
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// The white 224 x 224 image that replaces images for text-only models.
    pub fn white() -> Self {
        Self::filled(224, 224, [255; 3])
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(super) fn filled(width: u32, height: u32, color: [u8; 3]) -> Self {
        Self {
            width,
            height,
            pixels: color.repeat(width as usize * height as usize),
        }
    }

    /// Bytes per row.
    pub(super) fn stride(&self) -> usize {
        self.width as usize * 3
    }
}

impl fmt::Debug for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rgb({} x {})", self.width, self.height)
    }
}

pub(super) fn check_not_empty(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        let problem = format!("expected an image of at least one pixel, got {width} x {height}");
        return Err(Error::image(ImageFault::Content, problem));
    }
    Ok(())
}
