//! Linear layers compared with sums in f64, on every instruction set of this CPU.

use proptest::prelude::*;

use super::{FeedForward, HiddenLayers, Layer, LayerParts, Rows, linear, packed_shape};
use crate::activations::{gelu, silu};
use crate::pair::{from_bits, to_bits};
use crate::panel::{PANEL_OUTPUTS, ROWS};
use crate::{CpuFeatures, Serial};

/// A layer and its inputs before they are packed.
#[derive(Clone, Debug)]
struct Plain {
    /// `[rows, inputs]`.
    rows: Vec<Vec<f32>>,
    /// `[outputs, inputs]`, in bf16.
    weights: Vec<Vec<u16>>,
    bias: Option<Vec<f32>>,
}

/// In [−1, 1), with a few that are 30 times as large.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let draw = |index| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if index % 37 == 5 { 30.0 * value } else { value }
    };
    (0..count).map(draw).collect()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Vec<Vec<f32>> {
    let row = |row| values(columns, seed + row as u64);
    (0..rows).map(row).collect()
}

fn bits(row: Vec<f32>) -> Vec<u16> {
    row.into_iter().map(to_bits).collect()
}

impl Plain {
    fn new([rows, inputs, outputs]: [usize; 3], with_bias: bool) -> Self {
        let weights = matrix(outputs, inputs, 1000).into_iter().map(bits);
        Self {
            rows: matrix(rows, inputs, 1),
            weights: weights.collect(),
            bias: with_bias.then(|| values(outputs, 7)),
        }
    }

    /// The sum of an output's products in f64, and of their magnitudes.
    fn exact(&self, row: &[f32], output: usize) -> [f64; 2] {
        let bias = self.bias.as_ref().map_or(0.0, |bias| bias[output].into());
        let products = row.iter().zip(&self.weights[output]);
        let products =
            products.map(|(&x, &w)| f64::from(from_bits(to_bits(x))) * f64::from(from_bits(w)));
        products.fold([bias, bias.abs()], |[sum, all], product| {
            [sum + product, all + product.abs()]
        })
    }

    /// The exact value of every output, and how far it may be missed: by a unit in the last place of a partial sum, all of
    /// which are below the sum of magnitudes, at each of two roundings for a pair of inputs and one for the bias.
    fn expected(&self) -> Vec<[f64; 2]> {
        let inputs = self.rows[0].len() as f64;
        let of_row = |row: &Vec<f32>| -> Vec<[f64; 2]> {
            let outputs = (0..self.weights.len()).map(|output| self.exact(row, output));
            let unit = f64::from(f32::EPSILON) * (inputs + 3.0);
            outputs.map(|[sum, all]| [sum, all * unit]).collect()
        };
        self.rows.iter().flat_map(of_row).collect()
    }

    fn packed(&self) -> Vec<u16> {
        let inputs = self.rows[0].len();
        let shape = packed_shape(inputs, self.weights.len());
        let mut packed = vec![0; shape.iter().product()];
        for (output, row) in self.weights.iter().enumerate() {
            let (panel, output) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            for (input, weight) in row.iter().enumerate() {
                let pair = panel * shape[1] + input / 2;
                packed[(pair * PANEL_OUTPUTS + output) * 2 + input % 2] = *weight;
            }
        }
        packed
    }

    fn parts<'a>(&'a self, packed: &'a [u16]) -> LayerParts<'a> {
        LayerParts {
            inputs: self.rows[0].len(),
            outputs: self.weights.len(),
            weights: packed,
            bias: self.bias.as_deref(),
        }
    }

    fn layer<'a>(&'a self, packed: &'a [u16]) -> Layer<'a> {
        Layer::new(self.parts(packed)).expect("sizes match")
    }

    fn computed(&self, features: CpuFeatures) -> Vec<f32> {
        let packed = self.packed();
        let layer = self.layer(&packed);
        let mut output = vec![f32::NAN; self.rows.len() * self.weights.len()];
        let rows = self.rows.concat();
        let Ok(()) = linear(features, &layer, Rows::F32(&rows), &mut output, &Serial);
        let mut narrow = vec![f32::NAN; output.len()];
        let rows = bits(rows);
        let Ok(()) = linear(features, &layer, Rows::Bf16(&rows), &mut narrow, &Serial);
        let equal = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
        assert!(output.iter().zip(&narrow).all(equal), "rounded beforehand");
        output
    }
}

fn all_features() -> [CpuFeatures; 3] {
    let features = CpuFeatures::get();
    [features, features.without_avx512(), CpuFeatures::default()]
}

#[test]
fn every_product_is_in_its_sum() {
    for rows in [1, ROWS - 1, ROWS, 2 * ROWS + 1] {
        for inputs in [1, 2, 3, 31, 33, 130, 300] {
            for outputs in [1, 63, 64, 65, 130] {
                let plain = Plain::new([rows, inputs, outputs], rows > 1);
                let expected = plain.expected();
                for features in all_features() {
                    let got = plain.computed(features);
                    for (at, (got, [sum, bound])) in got.iter().zip(&expected).enumerate() {
                        let differs = (f64::from(*got) - sum).abs();
                        assert!(
                            differs <= *bound,
                            "{rows} x {inputs} x {outputs}, {at}: {got}, {sum}, {features:?}"
                        );
                    }
                }
            }
        }
    }
}

/// A task's memory is the next one's too.
#[test]
fn small_rows_after_large_ones_are_padded_with_zeros() {
    for features in all_features() {
        Plain::new([ROWS, 64, 3], false).computed(features);
        let plain = Plain::new([ROWS - 1, 5, 3], false);
        let expected = plain.expected();
        for (got, [sum, bound]) in plain.computed(features).iter().zip(expected) {
            assert!((f64::from(*got) - sum).abs() <= bound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bit for bit, on every instruction set, in any batch.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours(
        [count, inputs, outputs] in [1..60_usize, 1..140_usize, 1..140_usize],
    ) {
        let plain = Plain::new([count, inputs, outputs], true);
        for features in all_features() {
            let together = plain.computed(features);
            for (row, together) in plain.rows.iter().zip(together.chunks(outputs)) {
                let alone = Plain { rows: vec![row.clone()], ..plain.clone() };
                prop_assert_eq!(alone.computed(features), together);
            }
        }
    }
}

#[test]
fn nan_spoils_its_row_alone() {
    let mut plain = Plain::new([3, 8, 5], true);
    plain.rows[1][3] = f32::NAN;
    for features in all_features() {
        let output = plain.computed(features);
        let spoilt: Vec<bool> = output.iter().map(|value| value.is_nan()).collect();
        assert_eq!(spoilt, [[false; 5], [true; 5], [false; 5]].concat());
    }
}

#[test]
fn parts_of_different_sizes_make_no_layer() {
    let plain = Plain::new([1, 5, 70], true);
    let packed = plain.packed();
    let parts = plain.parts(&packed);
    let refused = |parts| Layer::new(parts).is_err();
    assert!(!refused(parts));
    assert!(refused(LayerParts { inputs: 7, ..parts }));
    assert!(refused(LayerParts {
        outputs: 71,
        ..parts
    }));
    assert!(refused(LayerParts {
        weights: &packed[2..],
        ..parts
    }));
    assert!(refused(LayerParts {
        bias: Some(&[1.0]),
        ..parts
    }));
}

/// Outputs of both layers are those of `linear`, so that only the nonlinearity and the rounding are in question.
#[test]
fn hidden_values_are_rounded_after_the_nonlinearity() {
    let sizes = [ROWS + 2, 41, 70];
    let first = Plain::new(sizes, true);
    let second = Plain {
        weights: Plain::new([1, 41, 140], false).weights[70..].to_vec(),
        ..Plain::new(sizes, false)
    };
    let (packed, rows) = ([first.packed(), second.packed()], first.rows.concat());
    for features in all_features() {
        let [gate, up] = [&first, &second].map(|plain| plain.computed(features));
        let run = |layers| {
            let mut output = vec![0; gate.len()];
            let Ok(()) = FeedForward(layers).run(features, Rows::F32(&rows), &mut output, &Serial);
            output.into_iter().map(from_bits).collect::<Vec<_>>()
        };
        let swiglu = run(HiddenLayers::SwiGlu {
            gate: first.layer(&packed[0]),
            up: second.layer(&packed[1]),
        });
        let pairs = gate.iter().zip(&up).map(|(&gate, &up)| silu(gate) * up);
        assert_rounded(&swiglu, pairs);
        let hidden = run(HiddenLayers::Gelu(first.layer(&packed[0])));
        assert_rounded(&hidden, gate.iter().map(|&x| gelu(x)));
    }
}

/// Fused and separate operations of f32 may round a value at the border of two bf16 values either way.
#[track_caller]
fn assert_rounded(got: &[f32], expected: impl Iterator<Item = f32>) {
    for (got, expected) in got.iter().zip(expected) {
        let unit = expected.abs().max(1e-30) / 256.0;
        assert!((got - expected).abs() <= 1.01 * unit, "{got}, {expected}");
    }
}
