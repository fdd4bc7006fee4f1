//! The vision encoder's position embedding, resized for tiles of another size like the published code does: the grid of
//! patches by bicubic interpolation (a = -0.75, pixel centres at halves, edges repeated), the class token's row kept.

use super::branch::Branch;
use super::intern_vit::position_embedding;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, VisionConfig};

/// PyTorch's cubic kernel.
const A: f32 = -0.75;

/// Replaces a stored position embedding of another size by one for `config`'s tiles.
///
/// # Errors
/// The checkpoint cannot be read.
pub fn fit_positions(checkpoint: &mut Checkpoint, config: &Config, branch: Branch) -> Result<()> {
    let Some(vision) = config.vision.as_ref().and_then(VisionConfig::intern_vit) else {
        return Ok(());
    };
    let (from, to) = (vision.patches_per_side(), config.patches_per_side());
    if from == to {
        return Ok(());
    }
    let name = position_embedding(branch);
    let width = vision.hidden;
    let stored = checkpoint.read_f32(&name)?;
    let (class, grid) = stored.split_at(width);
    let resized = [class, &resized(grid, width, from, to)].concat();
    checkpoint.insert(&name, &[1, to * to + 1, width], &resized);
    Ok(())
}

/// [from, from, width] → [to, to, width].
fn resized(grid: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    let columns = stretched(grid, from, width, from, to);
    stretched(&columns, 1, to * width, from, to)
}

/// [outer, from, width] → [outer, to, width].
fn stretched(values: &[f32], outer: usize, width: usize, from: usize, to: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(outer * to * width);
    for block in values.chunks_exact(from * width) {
        for place in 0..to {
            let taps = taps(place, from, to);
            let value = |w: usize| -> f32 {
                let parts = taps
                    .iter()
                    .map(|(at, weight)| block[at * width + w] * weight);
                parts.sum()
            };
            result.extend((0..width).map(value));
        }
    }
    result
}

/// The four input places of the result's `place`, with their weights.
fn taps(place: usize, from: usize, to: usize) -> [(usize, f32); 4] {
    let centre = (place as f32 + 0.5) * (from as f32 / to as f32) - 0.5;
    let first = centre.floor();
    let last = from as i64 - 1;
    [-1, 0, 1, 2].map(|step| {
        let at = (first as i64 + step).clamp(0, last);
        (at as usize, kernel(centre - first - step as f32))
    })
}

fn kernel(distance: f32) -> f32 {
    let x = distance.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sizes_change_nothing() {
        let grid: Vec<f32> = (0..18).map(|v| v as f32).collect();
        assert_eq!(resized(&grid, 2, 3, 3), grid);
    }

    #[test]
    fn weights_sum_to_one_wherever_the_centre_falls() {
        for (from, to) in [(4, 6), (4, 32), (6, 4), (7, 5)] {
            for place in 0..to {
                let sum: f32 = taps(place, from, to).iter().map(|(_, weight)| weight).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{from} {to} {place}: {sum}");
            }
        }
    }

    /// A grid that changes along its rows alone does so after resizing; rotated by 90°, the same.
    #[test]
    fn rows_and_columns_are_not_mixed_up() {
        let (from, to) = (4, 6);
        let turned = |grid: &[f32], side: usize| -> Vec<f32> {
            let at = |i: usize| grid[i % side * side + i / side];
            (0..side * side).map(at).collect()
        };
        let grid: Vec<f32> = (0..16).map(|i| (i / from * i / from) as f32).collect();
        let by_row: Vec<f32> = (0..16).map(|i| [1.0, 4.0, 2.0, 8.0][i / from]).collect();
        for row in resized(&by_row, 1, from, to).chunks(to) {
            assert!(
                row.iter().all(|value| (value - row[0]).abs() < 1e-5),
                "{row:?}"
            );
        }
        let (one, other) = (
            resized(&turned(&grid, from), 1, from, to),
            turned(&resized(&grid, 1, from, to), to),
        );
        let differences = one.iter().zip(&other).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 1e-5);
    }
}
