//! The first half of a feed-forward block: the nonlinearity is applied to the sums of a panel while they are in the cache, and
//! the hidden values leave it in bf16, to which the next layer would round them.

use super::layer::Layer;
use super::linear::{Panels, compute, run};
use super::product::{PairDot, RowPairs, Sums};
use super::rows::Rows;
use crate::CpuFeatures;
use crate::activations::{gelu, silu};
use crate::lanes::{LANES, Lanes};
use crate::panel::{PANEL_OUTPUTS, ROWS};
use crate::parallel::ParallelFor;

/// The linear layers before the nonlinearity.
#[derive(Debug)]
pub enum HiddenLayers<'a> {
    /// GELU of the layer's outputs.
    Gelu(Layer<'a>),
    /// SiLU of the gate's outputs times the other layer's, which has as many.
    SwiGlu {
        /// The gate.
        gate: Layer<'a>,
        /// The other layer.
        up: Layer<'a>,
    },
}

/// The first half of a feed-forward block.
#[derive(Debug)]
pub struct FeedForward<'a>(pub HiddenLayers<'a>);

impl FeedForward<'_> {
    /// Writes the bits of the hidden values in bf16, `[rows, outputs]`.
    ///
    /// # Errors
    /// Those of `parallel`.
    ///
    /// # Panics
    /// If lengths do not match the layers', or the layers' not each other.
    pub fn run<P: ParallelFor>(
        &self,
        features: CpuFeatures,
        rows: Rows,
        output: &mut [u16],
        parallel: &P,
    ) -> Result<(), P::Error> {
        if let HiddenLayers::SwiGlu { gate, up } = &self.0 {
            let sizes = |layer: &Layer| (layer.inputs(), layer.outputs());
            assert_eq!(sizes(gate), sizes(up), "layers");
        }
        run(features, self, rows, output, parallel)
    }

    fn first(&self) -> &Layer<'_> {
        match &self.0 {
            HiddenLayers::Gelu(layer) => layer,
            HiddenLayers::SwiGlu { gate, .. } => gate,
        }
    }
}

impl Panels for FeedForward<'_> {
    type Output = u16;

    fn inputs(&self) -> usize {
        self.first().inputs()
    }

    fn outputs(&self) -> usize {
        self.first().outputs()
    }

    #[inline(always)]
    fn panel<D: PairDot>(
        &self,
        dot: D,
        panel: usize,
        rows: &[RowPairs],
    ) -> [[u16; PANEL_OUTPUTS]; ROWS] {
        let mut hidden = self.first().sums(dot, panel, rows);
        match &self.0 {
            HiddenLayers::Gelu(_) => apply_gelu(&mut hidden),
            HiddenLayers::SwiGlu { up, .. } => {
                multiply_gated(&mut hidden, &up.sums(dot, panel, rows));
            }
        }
        let mut bits = [[0; PANEL_OUTPUTS]; ROWS];
        for (bits, hidden) in bits.iter_mut().zip(&hidden) {
            round::<D>(dot, hidden, bits);
        }
        bits
    }

    fn compute(&self, features: CpuFeatures, rows: Rows, output: &mut [u16]) {
        compute(self, features, rows, output);
    }
}

#[inline(always)]
fn apply_gelu(values: &mut Sums) {
    for value in values.as_flattened_mut() {
        *value = gelu(*value);
    }
}

/// SiLU of the gates times the other values.
#[inline(always)]
fn multiply_gated(gates: &mut Sums, values: &Sums) {
    let values = values.as_flattened();
    for (gate, value) in gates.as_flattened_mut().iter_mut().zip(values) {
        *gate = silu(*gate) * *value;
    }
}

#[inline(always)]
fn round<D: PairDot>(dot: D, values: &[f32; PANEL_OUTPUTS], bits: &mut [u16; PANEL_OUTPUTS]) {
    let registers = bits.as_chunks_mut::<LANES>().0.iter_mut();
    for (bits, values) in registers.zip(values.as_chunks().0) {
        let pairs = D::Lanes::load(dot, values).to_bf16();
        bits.as_chunks_mut().0.copy_from_slice(&pairs);
    }
}
