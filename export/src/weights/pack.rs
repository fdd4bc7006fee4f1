//! Rows of a matrix in the layouts of the operators that take them in panels or in blocks.

use seeward_models::Result;
use seeward_models::contract::{BF16_GROUP, PANEL_GROUP, PANEL_OUTPUTS};

use super::cast;
use super::quantize::{self, BLOCK, BLOCK_BYTES};

/// One or more rows: the bytes of their elements, and of the elements of the smaller parts after them.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) small: Vec<Vec<u8>>,
}

/// Packs the rows of a matrix with this number of columns.
pub(super) type Pack = dyn Fn(&[f32], usize) -> Result<Packed> + Sync;

/// Size of a group of a row's elements in a panel, in bytes.
const GROUP_BYTES: usize = 4;
const _: () = assert!(GROUP_BYTES == BF16_GROUP * size_of::<half::bf16>());
const _: () = assert!(GROUP_BYTES == PANEL_GROUP);

/// Zeros for a panel of rows with this number of bytes.
fn panel(row_bytes: usize) -> Vec<u8> {
    vec![0; row_bytes.next_multiple_of(GROUP_BYTES) * PANEL_OUTPUTS]
}

/// Places a row's bytes in its panel.
fn place(panel: &mut [u8], output: usize, row: &[u8]) {
    let groups = panel.chunks_mut(PANEL_OUTPUTS * GROUP_BYTES);
    for (group, bytes) in groups.zip(row.chunks(GROUP_BYTES)) {
        group[output * GROUP_BYTES..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// A panel of at most [`PANEL_OUTPUTS`] rows in bf16, zeros in place of missing rows and columns.
pub(super) fn bf16(rows: &[f32], columns: usize) -> Result<Packed> {
    let mut row_bytes = vec![0; columns * size_of::<half::bf16>()];
    let mut bytes = panel(row_bytes.len());
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        cast::to_bf16(row, &mut row_bytes)?;
        place(&mut bytes, output, &row_bytes);
    }
    Ok(Packed {
        bytes,
        small: Vec::new(),
    })
}

/// A panel of at most [`PANEL_OUTPUTS`] rows, zeros in place of missing rows and columns; then the rows' scales and the
/// sums of their integers.
pub(super) fn int8(rows: &[f32], columns: usize) -> Result<Packed> {
    let mut bytes = panel(columns);
    let (mut scales, mut sums) = (Vec::new(), Vec::new());
    let mut integers = vec![0; columns];
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        let scale = quantize::row_scale(row)?;
        quantize::row(row, scale, &mut integers);
        scales.extend(scale.to_le_bytes());
        sums.extend(sum(&integers).to_le_bytes());
        place(&mut bytes, output, &integers);
    }
    Ok(Packed {
        bytes,
        small: vec![scales, sums],
    })
}

fn sum(integers: &[u8]) -> i32 {
    integers.iter().map(|&byte| i32::from(byte as i8)).sum()
}

/// A row in blocks; then the blocks' scales.
pub(super) fn int4(row: &[f32], _columns: usize) -> Result<Packed> {
    let blocks = row.chunks(BLOCK);
    let mut integers = vec![0; blocks.len() * BLOCK_BYTES];
    let mut scales = Vec::new();
    for (block, into) in blocks.zip(integers.chunks_mut(BLOCK_BYTES)) {
        let scale = quantize::block_scale(block)?;
        quantize::block(block, scale, into);
        scales.extend(scale.to_le_bytes());
    }
    Ok(Packed {
        bytes: integers,
        small: vec![scales],
    })
}
