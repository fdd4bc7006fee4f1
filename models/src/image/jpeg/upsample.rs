//! Samples for every pixel from the samples of a component.

use multiversion::multiversion;

use super::plane::Plane;

/// Gives the rows of a component at the image's size.
pub(super) struct Upsampler {
    plane: Plane,
    /// Pixels for each sample, horizontally and vertically.
    ratio: [usize; 2],
    filter: Filter,
    /// One sample more at each end.
    sums: Vec<u16>,
    row: Vec<u8>,
}

/// Where a ratio is two, a pixel is three parts its nearest sample and one part the next nearest. Other ratios repeat
/// samples, and so do planes that are too narrow to have neighbours.
enum Filter {
    None,
    Horizontal,
    Vertical,
    Both,
    Repeat,
}

impl Upsampler {
    pub(super) fn new(plane: Plane, ratio: [usize; 2]) -> Self {
        let filter = match ratio {
            [1, 1] => Filter::None,
            [2, 1] if plane.width() > 2 => Filter::Horizontal,
            [1, 2] => Filter::Vertical,
            [2, 2] if plane.width() > 2 => Filter::Both,
            _ => Filter::Repeat,
        };
        Self {
            sums: vec![0; plane.width() + 2],
            row: vec![0; plane.width() * ratio[0]],
            plane,
            ratio,
            filter,
        }
    }

    /// The samples of row `y` of the image, and perhaps more to the right.
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let [h, v] = self.ratio;
        let near = self.plane.row(y / v);
        match self.filter {
            Filter::None => return near,
            Filter::Horizontal => {
                copy(near, &mut self.sums);
                widen(&self.sums, [1, 2], 2, &mut self.row);
            }
            Filter::Vertical => {
                let bias = [1, 2][y % 2];
                add(near, self.plane.row(self.neighbour(y)), &mut self.sums);
                narrow(&self.sums, bias, &mut self.row);
            }
            Filter::Both => {
                add(near, self.plane.row(self.neighbour(y)), &mut self.sums);
                widen(&self.sums, [8, 7], 4, &mut self.row);
            }
            Filter::Repeat => {
                for (out, sample) in self.row.chunks_exact_mut(h).zip(near) {
                    out.fill(*sample);
                }
            }
        }
        &self.row
    }

    /// The row of samples next nearest to row `y` of the image; beyond an edge, the row at the edge.
    fn neighbour(&self, y: usize) -> usize {
        let near = y / 2;
        if y.is_multiple_of(2) {
            near.saturating_sub(1)
        } else {
            (near + 1).min(self.plane.height() - 1)
        }
    }
}

/// `sums[1..]` = the samples; the ends repeat.
fn copy(near: &[u8], sums: &mut [u16]) {
    for (sum, &near) in sums[1..].iter_mut().zip(near) {
        *sum = near.into();
    }
    repeat_ends(sums);
}

/// `sums[1..]` = 3 near + far; the ends repeat.
#[multiversion(targets("x86_64+avx2"))]
fn add(near: &[u8], far: &[u8], sums: &mut [u16]) {
    for ((sum, &near), &far) in sums[1..].iter_mut().zip(near).zip(far) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
    repeat_ends(sums);
}

fn repeat_ends(sums: &mut [u16]) {
    let end = sums.len() - 1;
    sums[0] = sums[1];
    sums[end] = sums[end - 1];
}

/// Two pixels for each sum: towards its left and its right neighbour.
#[multiversion(targets("x86_64+avx2"))]
fn widen(sums: &[u16], [left, right]: [u16; 2], shift: u32, row: &mut [u8]) {
    let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
    for (((before, sum), after), pixels) in neighbours.zip(row.as_chunks_mut().0) {
        let sum = 3 * sum;
        *pixels = [
            ((sum + before + left) >> shift) as u8,
            ((sum + after + right) >> shift) as u8,
        ];
    }
}

/// A pixel for each sum.
#[multiversion(targets("x86_64+avx2"))]
fn narrow(sums: &[u16], bias: u16, row: &mut [u8]) {
    for (pixel, sum) in row.iter_mut().zip(&sums[1..]) {
        *pixel = ((sum + bias) >> 2) as u8;
    }
}
