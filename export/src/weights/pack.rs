//! Quantized rows of a matrix in the layouts of the operators that take them.

use seeward_models::Result;
use seeward_models::contract::{GROUP, PANEL_OUTPUTS, QUAD};

use super::quantize::QuantizedGroup;

/// One or more rows: their integers, and the elements of the smaller parts after them.
pub(super) struct Packed {
    pub(super) integers: Vec<u8>,
    pub(super) small: Vec<Vec<u8>>,
}

/// Packs the rows of a matrix with this number of columns.
pub(super) type Pack = dyn Fn(&[f32], usize) -> Result<Packed> + Sync;

/// A panel of at most [`PANEL_OUTPUTS`] rows, zeros in place of missing rows and columns; then the scales and the sums of
/// their groups.
pub(super) fn int8(rows: &[f32], columns: usize) -> Result<Packed> {
    let groups = columns.div_ceil(GROUP);
    let mut integers = vec![0; groups * GROUP * PANEL_OUTPUTS];
    let mut small = vec![vec![0; groups * PANEL_OUTPUTS * size_of::<f32>()]; 2];
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        let panels = integers.chunks_mut(GROUP * PANEL_OUTPUTS);
        for (index, (weights, panel)) in row.chunks(GROUP).zip(panels).enumerate() {
            let group = QuantizedGroup::new(weights)?;
            let quads = panel.as_chunks_mut::<QUAD>().0.iter_mut();
            let quads = quads.skip(output).step_by(PANEL_OUTPUTS);
            for (quad, integers) in quads.zip(group.integers.as_chunks().0) {
                *quad = *integers;
            }
            let place = (index * PANEL_OUTPUTS + output) * size_of::<f32>();
            small[0][place..][..4].copy_from_slice(&group.scale.to_le_bytes());
            small[1][place..][..4].copy_from_slice(&group.sum().to_le_bytes());
        }
    }
    Ok(Packed { integers, small })
}
