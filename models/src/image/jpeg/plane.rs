//! The samples of one component.

use super::damage::Decoded;
use super::frame::Component;
use super::idct::inverse_transform;
use super::tables::Block;

/// Decoded samples, rows from the top.
pub(super) struct Plane {
    samples: Vec<u8>,
    /// Samples from row to row: those of whole blocks.
    stride: usize,
    /// Width and height of what belongs to the image.
    size: [usize; 2],
}

/// A component while its scans are read: coefficients where several scans add to a block, otherwise samples at once.
pub(super) struct Channel {
    plane: Plane,
    coefficients: Option<Vec<Block>>,
    /// The divisors, known from the component's first scan on.
    pub(super) quantization: Option<Block<u16>>,
}

impl Plane {
    /// The samples of row `y` that belong to the image.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.size[0]]
    }

    pub(super) fn width(&self) -> usize {
        self.size[0]
    }

    pub(super) fn height(&self) -> usize {
        self.size[1]
    }

    /// Writes the samples of the block in column `x` and row `y`.
    fn write(&mut self, x: usize, y: usize, coefficients: &Block, divisors: &Block<u16>) {
        let start = y * 8 * self.stride + x * 8;
        let samples = inverse_transform(coefficients, divisors);
        let rows = self.samples[start..].chunks_mut(self.stride);
        for (row, samples) in rows.zip(samples) {
            row[..8].copy_from_slice(&samples);
        }
    }
}

impl Channel {
    pub(super) fn new(component: &Component, is_progressive: bool) -> Self {
        let [columns, rows] = component.padded;
        Self {
            plane: Plane {
                samples: vec![0; columns * rows * 64],
                stride: columns * 8,
                size: component.samples,
            },
            coefficients: is_progressive.then(|| vec![[0; 64]; columns * rows]),
            quantization: None,
        }
    }

    /// Lets `decode` change the coefficients of the block in column `x` and row `y`.
    pub(super) fn update(
        &mut self,
        x: usize,
        y: usize,
        decode: impl FnOnce(&mut Block) -> Decoded,
    ) -> Decoded {
        if let Some(coefficients) = &mut self.coefficients {
            return decode(&mut coefficients[y * self.plane.stride / 8 + x]);
        }
        let mut block = [0; 64];
        decode(&mut block)?;
        if let Some(divisors) = &self.quantization {
            self.plane.write(x, y, &block, divisors);
        }
        Ok(())
    }

    /// The samples, once all scans are read.
    pub(super) fn into_plane(mut self) -> Plane {
        let columns = self.plane.stride / 8;
        let coefficients = self.coefficients.iter().flatten().enumerate();
        if let Some(divisors) = &self.quantization {
            for (place, block) in coefficients {
                self.plane
                    .write(place % columns, place / columns, block, divisors);
            }
        }
        self.plane
    }
}
