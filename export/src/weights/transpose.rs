//! Bands of columns of a matrix, transposed.

use rayon::prelude::*;

/// Rows and columns that are transposed at a time: both sides of such a square fit into the L1 cache.
pub(super) const SQUARE: usize = 64;

/// Transposes columns of a matrix of `rows` rows with elements of `size` bytes, from the column `from` on, as many as
/// fit into `into`.
pub(super) fn columns(matrix: &[u8], size: usize, rows: usize, from: usize, into: &mut [u8]) {
    match size {
        2 => columns_of::<2>(matrix, rows, from, into),
        _ => columns_of::<4>(matrix, rows, from, into),
    }
}

fn columns_of<const N: usize>(matrix: &[u8], rows: usize, from: usize, into: &mut [u8]) {
    let (matrix, into) = (matrix.as_chunks::<N>().0, into.as_chunks_mut::<N>().0);
    let width = matrix.len() / rows.max(1);
    let squares = into.par_chunks_mut((SQUARE * rows).max(1)).enumerate();
    squares.for_each(|(index, columns)| {
        // A copy: rows with a large stride between them may evict each other from the cache.
        let mut square = [[[0; N]; SQUARE]; SQUARE];
        for top in (0..rows).step_by(SQUARE) {
            let height = SQUARE.min(rows - top);
            let lines = matrix[top * width..(top + height) * width].chunks(width);
            for (line, into) in lines.zip(&mut square) {
                let left = from + index * SQUARE;
                let line = &line[left..width.min(left + SQUARE)];
                into[..line.len()].copy_from_slice(line);
            }
            for (c, column) in columns.chunks_mut(rows).enumerate() {
                let pairs = column[top..top + height].iter_mut().zip(&square);
                pairs.for_each(|(to, line)| *to = line[c]);
            }
        }
    });
}
