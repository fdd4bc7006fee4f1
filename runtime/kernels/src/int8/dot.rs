//! Sums of products of bytes, and the rotation: the operations that instruction sets differ in.

use super::rotation::{GROUP, rotate};
use crate::cpu_features::Portable;
use crate::panel::{PANEL_OUTPUTS, ROWS};

/// Inputs of a quad: CPUs multiply and add four bytes at once.
pub const QUAD: usize = 4;

/// A panel's weights of one quad of inputs.
pub(super) type WeightQuad = [[i8; QUAD]; PANEL_OUTPUTS];
/// Sums of a panel's outputs, of some rows.
pub(super) type Sums = [[i32; PANEL_OUTPUTS]; ROWS];
/// The same with their scales.
pub(super) type Outputs = [[f32; PANEL_OUTPUTS]; ROWS];

/// The inputs of some rows and the weights of a panel that share scales.
pub(super) struct Group<'a, I> {
    /// `[quads]`.
    pub(super) inputs: &'a [[I; ROWS]],
    /// `[quads]`.
    pub(super) weights: &'a [WeightQuad],
    /// Where sums start: the products of weights and the zero point are subtracted beforehand.
    pub(super) start: [i32; PANEL_OUTPUTS],
    pub(super) input_scales: &'a [f32; ROWS],
    pub(super) weight_scales: &'a [f32; PANEL_OUTPUTS],
}

/// Scratch memory for the inputs of some rows, in the form of each instruction set.
#[derive(Default)]
pub(super) struct InputBuffers {
    bytes: Vec<[[u8; QUAD]; ROWS]>,
    #[cfg(target_arch = "x86_64")]
    pub(super) widened: Vec<[i64; ROWS]>,
}

impl InputBuffers {
    pub(super) fn bytes(&mut self) -> &mut Vec<[[u8; QUAD]; ROWS]> {
        &mut self.bytes
    }
}

/// A token with the instructions that sum products.
pub(super) trait IntDot: Copy {
    /// The inputs of one quad, of one row.
    type Inputs: Copy;

    /// The inputs in the form that [`sums`](Self::sums) reads.
    fn prepare(bytes: [u8; QUAD]) -> Self::Inputs;

    /// The buffer for inputs of this form.
    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[Self::Inputs; ROWS]>;

    /// The group's start plus, for each row and output, the products of all quads.
    fn sums(self, group: &Group<Self::Inputs>) -> Sums;

    /// [`rotate`] by these instructions: the same sums and differences in the same order.
    #[inline(always)]
    fn rotate(self, values: &mut [f32; GROUP]) {
        rotate(values);
    }

    /// Adds the sums with their scales. Each CPU rounds at the same places.
    #[inline(always)]
    fn add_scaled(self, group: &Group<Self::Inputs>, to: &mut Outputs) {
        let sums = self.sums(group);
        for ((to, sums), input_scale) in to.iter_mut().zip(&sums).zip(group.input_scales) {
            let sums = sums.iter().zip(group.weight_scales);
            for (to, (&sum, weight_scale)) in to.iter_mut().zip(sums) {
                *to = (sum as f32 * input_scale).mul_add(*weight_scale, *to);
            }
        }
    }
}

impl IntDot for Portable {
    type Inputs = [u8; QUAD];

    #[inline(always)]
    fn prepare(bytes: [u8; QUAD]) -> [u8; QUAD] {
        bytes
    }

    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[[u8; QUAD]; ROWS]> {
        buffers.bytes()
    }

    #[inline(always)]
    fn sums(self, group: &Group<[u8; QUAD]>) -> Sums {
        let mut sums = [group.start; ROWS];
        for (inputs, weights) in group.inputs.iter().zip(group.weights) {
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
