//! Sums of products of bytes: the operation that instruction sets differ in.

use crate::cpu_features::Portable;
use crate::panel::{PANEL_OUTPUTS, ROWS};

/// Inputs of a group of packed weights.
pub const PANEL_GROUP: usize = 4;

/// A panel's weights of one group of inputs.
pub(super) type WeightGroup = [[i8; PANEL_GROUP]; PANEL_OUTPUTS];
/// Sums of a panel's outputs, of some rows.
pub(super) type Sums = [[i32; PANEL_OUTPUTS]; ROWS];

/// Scratch memory for the inputs of some rows, in the form of each instruction set.
#[derive(Default)]
pub(super) struct InputBuffers {
    bytes: Vec<[[u8; PANEL_GROUP]; ROWS]>,
    #[cfg(target_arch = "x86_64")]
    pub(super) widened: Vec<[i64; ROWS]>,
}

impl InputBuffers {
    pub(super) fn bytes(&mut self) -> &mut Vec<[[u8; PANEL_GROUP]; ROWS]> {
        &mut self.bytes
    }
}

/// A token with the instructions that sum products.
pub(super) trait IntDot: Copy {
    /// The inputs of one group, of one row.
    type Inputs: Copy;

    /// The inputs in the form that [`sums`](Self::sums) reads.
    fn prepare(bytes: [u8; PANEL_GROUP]) -> Self::Inputs;

    /// The buffer for inputs of this form.
    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[Self::Inputs; ROWS]>;

    /// `start` plus, for each row and output, the products of all groups.
    fn sums(
        self,
        start: &[i32; PANEL_OUTPUTS],
        inputs: &[[Self::Inputs; ROWS]],
        weights: &[WeightGroup],
    ) -> Sums;
}

impl IntDot for Portable {
    type Inputs = [u8; PANEL_GROUP];

    #[inline(always)]
    fn prepare(bytes: [u8; PANEL_GROUP]) -> [u8; PANEL_GROUP] {
        bytes
    }

    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[[u8; PANEL_GROUP]; ROWS]> {
        buffers.bytes()
    }

    #[inline(always)]
    fn sums(
        self,
        start: &[i32; PANEL_OUTPUTS],
        inputs: &[[[u8; PANEL_GROUP]; ROWS]],
        weights: &[WeightGroup],
    ) -> Sums {
        let mut sums = [*start; ROWS];
        for (inputs, weights) in inputs.iter().zip(weights) {
            for (sums, inputs) in sums.iter_mut().zip(inputs) {
                let inputs = inputs.map(i32::from);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    let products = inputs.iter().zip(weights);
                    let products: i32 = products.map(|(x, &w)| x * i32::from(w)).sum();
                    *sum = sum.wrapping_add(products); // as the vector instructions do
                }
            }
        }
        sums
    }
}
