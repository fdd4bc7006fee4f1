//! Rows of a matrix in the layouts of the operators that take them in panels.

use seeward_models::Result;
use seeward_models::contract::{BF16_GROUP, GROUP, PANEL_OUTPUTS, QUAD};

use super::cast;
use super::quantize::QuantizedGroup;

/// One or more rows: the bytes of their elements, and of the elements of the smaller parts after them.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) small: Vec<Vec<u8>>,
}

/// Packs the rows of a matrix with this number of columns.
pub(super) type Pack = dyn Fn(&[f32], usize) -> Result<Packed> + Sync;

/// Size of the elements of a row that a panel holds together, in bytes.
const PLACE_BYTES: usize = 4;
const _: () = assert!(PLACE_BYTES == BF16_GROUP * size_of::<half::bf16>());
const _: () = assert!(PLACE_BYTES == QUAD);

/// Zeros for a panel of rows with this number of bytes.
fn panel(row_bytes: usize) -> Vec<u8> {
    vec![0; row_bytes.next_multiple_of(PLACE_BYTES) * PANEL_OUTPUTS]
}

/// Places a row's bytes in its panel.
fn place(panel: &mut [u8], output: usize, row: &[u8]) {
    let groups = panel.chunks_mut(PANEL_OUTPUTS * PLACE_BYTES);
    for (group, bytes) in groups.zip(row.chunks(PLACE_BYTES)) {
        group[output * PLACE_BYTES..][..bytes.len()].copy_from_slice(bytes);
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

/// A panel of at most [`PANEL_OUTPUTS`] rows, zeros in place of missing rows and columns; then the scales and the sums of
/// their groups.
pub(super) fn int8(rows: &[f32], columns: usize) -> Result<Packed> {
    let groups = columns.div_ceil(GROUP);
    let mut bytes = panel(groups * GROUP);
    let mut small = vec![vec![0; groups * PANEL_OUTPUTS * size_of::<f32>()]; 2];
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        let panels = bytes.chunks_mut(GROUP * PANEL_OUTPUTS);
        for (index, (weights, panel)) in row.chunks(GROUP).zip(panels).enumerate() {
            let group = QuantizedGroup::new(weights)?;
            place(panel, output, &group.integers);
            let at = (index * PANEL_OUTPUTS + output) * size_of::<f32>();
            small[0][at..][..4].copy_from_slice(&group.scale.to_le_bytes());
            small[1][at..][..4].copy_from_slice(&group.sum().to_le_bytes());
        }
    }
    Ok(Packed { bytes, small })
}
