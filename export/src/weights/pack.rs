//! Quantized rows of a matrix in the layouts of the operators that take them.

use seeward_models::Result;
use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};

use super::quantize::{self, BLOCK, BLOCK_BYTES};

/// One or more rows: their integers, and the elements of the smaller parts after them.
pub(super) struct Packed {
    pub(super) integers: Vec<u8>,
    pub(super) small: Vec<Vec<u8>>,
}

/// Packs the rows of a matrix with this number of columns.
pub(super) type Pack = dyn Fn(&[f32], usize) -> Result<Packed> + Sync;

/// A panel of at most [`PANEL_OUTPUTS`] rows, zeros in place of missing rows and columns; then the rows' scales and the
/// sums of their integers.
pub(super) fn int8(rows: &[f32], columns: usize) -> Result<Packed> {
    let mut panel = vec![0; columns.div_ceil(PANEL_GROUP) * PANEL_GROUP * PANEL_OUTPUTS];
    let (mut scales, mut sums) = (Vec::new(), Vec::new());
    let mut integers = vec![0; columns];
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        let scale = quantize::row_scale(row)?;
        quantize::row(row, scale, &mut integers);
        scales.extend(scale.to_le_bytes());
        sums.extend(sum(&integers).to_le_bytes());
        let groups = panel.chunks_mut(PANEL_OUTPUTS * PANEL_GROUP);
        for (group, integers) in groups.zip(integers.chunks(PANEL_GROUP)) {
            group[output * PANEL_GROUP..][..integers.len()].copy_from_slice(integers);
        }
    }
    Ok(Packed {
        integers: panel,
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
        integers,
        small: vec![scales],
    })
}
