//! Pillow's bicubic resize, to the bit.
//!
//! A horizontal pass, rounded and clipped to 8 bits, then a vertical one. The kernel is the cubic convolution with
//! a = -0.5, stretched by the scale when the image shrinks (antialiasing). Its weights are normalised in f64, rounded
//! to 22 fractional bits and summed in integers from one half up: no sum depends on the order of its terms, so this
//! code may visit pixels in any order.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::rgb::Rgb;

const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Rows of one block of the horizontal pass, whose innermost loop runs over rows and not over taps.
const BLOCK_ROWS: usize = 16;

/// Bytes summed at a time: the accumulators stay in registers.
const LANES: usize = BLOCK_ROWS * 3;

/// Bytes between the horizontal and the vertical pass: about a core's cache.
const BAND_BYTES: usize = 1 << 20;

/// The source positions of one output position: `weights[i]` belongs to `first + i`.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// `image` resized to `width` x `height`, both at least 1.
pub(super) fn resize(image: &Rgb, width: u32, height: u32) -> Rgb {
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    let columns = taps(image.width, width);
    let rows = taps(image.height, height);
    let stride = width as usize * 3;
    let band = band_rows(image.height, height, stride);
    let mut pixels = vec![0; stride * height as usize];
    pixels
        .par_chunks_mut(stride * band)
        .zip(rows.par_chunks(band))
        .for_each(|(out, rows)| resize_band(image, &columns, rows, out));
    Rgb {
        width,
        height,
        pixels,
    }
}

/// Output rows per band: their source rows, resized horizontally, take about `BAND_BYTES`.
fn band_rows(from: u32, to: u32, stride: usize) -> usize {
    let rows = (BAND_BYTES / stride) as u64 * u64::from(to) / u64::from(from);
    (rows as usize).clamp(1, to as usize)
}

/// Both passes for the output rows of these taps.
fn resize_band(image: &Rgb, columns: &[Taps], rows: &[Taps], out: &mut [u8]) {
    let needed = source_rows(rows);
    let stride = columns.len() * 3;
    let resized = resize_rows(image, needed.clone(), columns);
    for (taps, out) in rows.iter().zip(out.chunks_exact_mut(stride)) {
        let from = (taps.first - needed.start) * stride;
        weighted_sum(&resized[from..], stride, &taps.weights, out);
    }
}

fn source_rows(rows: &[Taps]) -> Range<usize> {
    let start = rows.iter().map(|taps| taps.first).min();
    let end = rows.iter().map(Taps::end).max();
    start.unwrap_or(0)..end.unwrap_or(0)
}

/// The horizontal pass over some rows; a no-op if the width is unchanged. `[rows, columns, 3]`.
fn resize_rows<'a>(image: &'a Rgb, rows: Range<usize>, columns: &[Taps]) -> Cow<'a, [u8]> {
    let from = image.stride();
    let source = &image.pixels[rows.start * from..rows.end * from];
    let to = columns.len() * 3;
    if from == to {
        return Cow::Borrowed(source);
    }
    let mut out = vec![0; rows.len() * to];
    let mut block = vec![0; image.width as usize * LANES];
    for (source, out) in source
        .chunks(from * BLOCK_ROWS)
        .zip(out.chunks_mut(to * BLOCK_ROWS))
    {
        transpose(source, from, &mut block);
        resize_block(&block, columns, out);
    }
    Cow::Owned(out)
}

/// Transposes up to `BLOCK_ROWS` rows: `[rows, columns, 3]` → `[columns, BLOCK_ROWS, 3]`.
fn transpose(source: &[u8], stride: usize, block: &mut [u8]) {
    for (row, source) in source.chunks_exact(stride).enumerate() {
        for (pixel, column) in source.chunks_exact(3).zip(block.chunks_exact_mut(LANES)) {
            column[row * 3..row * 3 + 3].copy_from_slice(pixel);
        }
    }
}

/// `[columns, BLOCK_ROWS, 3]` → `[rows, columns, 3]` of the new width.
fn resize_block(block: &[u8], columns: &[Taps], out: &mut [u8]) {
    let mut column = [0; LANES];
    for (x, taps) in columns.iter().enumerate() {
        weighted_sum(
            &block[taps.first * LANES..],
            LANES,
            &taps.weights,
            &mut column,
        );
        for (out, pixel) in out
            .chunks_exact_mut(columns.len() * 3)
            .zip(column.chunks_exact(3))
        {
            out[x * 3..x * 3 + 3].copy_from_slice(pixel);
        }
    }
}

/// `out[i] = Σ weights[row] * rows[row * stride + i]`, rounded and clipped: the innermost loop of both passes.
#[multiversion(targets("x86_64+avx2"))]
fn weighted_sum(rows: &[u8], stride: usize, weights: &[i32], out: &mut [u8]) {
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (chunk, out) in chunks.iter_mut().enumerate() {
        weighted_sum_chunk(&rows[chunk * LANES..], stride, weights, out);
    }
    let rows = &rows[chunks.len() * LANES..];
    for (i, out) in rest.iter_mut().enumerate() {
        let mut sum = HALF;
        for (&pixel, &weight) in rows[i..].iter().step_by(stride).zip(weights) {
            sum += i32::from(pixel) * weight;
        }
        *out = clip(sum);
    }
}

// Loops, because closures given to the library's functions are compiled without the wider instructions.
#[inline(always)]
fn weighted_sum_chunk(rows: &[u8], stride: usize, weights: &[i32], out: &mut [u8; LANES]) {
    let mut sums = [HALF; LANES];
    for (row, &weight) in rows.chunks(stride).zip(weights) {
        for (sum, &pixel) in sums.iter_mut().zip(&row[..LANES]) {
            *sum += i32::from(pixel) * weight;
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = clip(sum);
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// The taps of every output position when `from` positions become `to`.
fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    (0..to)
        .map(|i| taps_at((f64::from(i) + 0.5) * scale, scale.max(1.0), from as usize))
        .collect()
}

/// The taps around `center`, with the kernel stretched by `stretch`, in a row of `size` positions.
fn taps_at(center: f64, stretch: f64, size: usize) -> Taps {
    let support = 2.0 * stretch;
    // A negative start becomes 0 in the conversion.
    let first = (center - support + 0.5) as usize;
    let end = ((center + support + 0.5) as usize).min(size);
    let inverse = 1.0 / stretch;
    let kernel: Vec<f64> = (first..end)
        .map(|i| bicubic((i as f64 - center + 0.5) * inverse))
        .collect();
    let sum: f64 = kernel.iter().sum();
    let weights = kernel.iter().map(|value| fixed_point(value / sum));
    without_outer_zeros(first, weights.collect())
}

/// Drops outer zero weights, which add nothing: equal sizes leave one tap each.
fn without_outer_zeros(first: usize, mut weights: Vec<i32>) -> Taps {
    let zeros = weights.iter().take_while(|&&weight| weight == 0).count();
    weights.drain(..zeros);
    while weights.last() == Some(&0) {
        weights.pop();
    }
    Taps {
        first: first + zeros,
        weights,
    }
}

/// Rounds half away from zero.
fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << FRACTION_BITS) + 0.5_f64.copysign(weight)) as i32
}

/// Keys' cubic convolution kernel with a = -0.5, nested to give Pillow's last bits.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One pass as it is defined, without blocks, bands or vectors: along rows, or along columns.
    fn pass(image: &Rgb, taps: &[Taps], is_horizontal: bool) -> Rgb {
        let size = taps.len() as u32;
        let (width, height) = match is_horizontal {
            true => (size, image.height),
            false => (image.width, size),
        };
        let sample = |x: usize, y: usize, channel: usize| {
            let at = |place: usize| match is_horizontal {
                true => y * image.stride() + place * 3 + channel,
                false => place * image.stride() + x * 3 + channel,
            };
            let taps = &taps[if is_horizontal { x } else { y }];
            let terms = taps.weights.iter().enumerate();
            let terms = terms.map(|(i, weight)| {
                i64::from(image.pixels[at(taps.first + i)]) * i64::from(*weight)
            });
            let sum = terms.sum::<i64>() + i64::from(HALF);
            (sum >> FRACTION_BITS).clamp(0, 255) as u8
        };
        let places = (0..height as usize).flat_map(|y| (0..width as usize).map(move |x| (x, y)));
        let pixels = places.flat_map(|(x, y)| [0, 1, 2].map(|channel| sample(x, y, channel)));
        Rgb::new(width, height, pixels.collect()).expect("an image")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_resize_has_the_sums_of_its_definition(
            (from, to) in ((1..90u32, 1..90u32), (1..90u32, 1..90u32)),
            seed in any::<u32>(),
        ) {
            let mut state = seed;
            let noise = (0..from.0 * from.1 * 3).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            let image = Rgb::new(from.0, from.1, noise.collect()).expect("an image");
            let horizontal = pass(&image, &taps(from.0, to.0), true);
            let expected = pass(&horizontal, &taps(from.1, to.1), false);
            prop_assert!(resize(&image, to.0, to.1) == expected);
        }
    }
}
