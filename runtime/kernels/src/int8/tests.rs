//! Linear layers compared with one product after the other, on every instruction set of this CPU.

use super::{
    FeedForward, HiddenLayers, Layer, LayerParts, PANEL_GROUP, QuantRange, QuantizedRows,
    QuantizedRowsMut, linear, packed_shape,
};
use crate::activations::{gelu, silu};
use crate::panel::{PANEL_OUTPUTS, ROWS};
use crate::{CpuFeatures, Serial};

/// A layer and its inputs before they are packed.
struct Plain {
    zero_point: u8,
    /// `[rows, inputs]`.
    integers: Vec<Vec<u8>>,
    row_scales: Vec<f32>,
    /// `[outputs, inputs]`.
    weights: Vec<Vec<i8>>,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Plain {
    fn new([rows, inputs, outputs]: [usize; 3], zero_point: u8, with_bias: bool) -> Self {
        let mut state = 7_u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut matrix = |rows: usize, columns: usize| -> Vec<Vec<u8>> {
            let row = |_| (0..columns).map(|_| next()).collect();
            (0..rows).map(row).collect()
        };
        let (integers, weights) = (matrix(rows, inputs), matrix(outputs, inputs));
        let signed = |row: Vec<u8>| row.into_iter().map(|byte| (byte as i8).max(-127)).collect();
        let values = |count: usize, by: f32| (1..=count).map(|n| n as f32 * by).collect();
        Self {
            zero_point,
            integers,
            row_scales: values(rows, 0.01),
            weights: weights.into_iter().map(signed).collect(),
            scales: values(outputs, 0.002),
            bias: with_bias.then(|| values(outputs, -0.3)),
        }
    }

    /// One product after the other.
    fn expected(&self) -> Vec<f32> {
        let rows = self.integers.iter().zip(&self.row_scales);
        let of_row = |(row, scale): (&Vec<u8>, &f32)| {
            let (row, scale) = (row.clone(), *scale);
            let outputs = self.weights.iter().enumerate();
            outputs.map(move |(output, weights)| {
                let products = row.iter().zip(weights);
                let integer = |&x: &u8| i32::from(x) - i32::from(self.zero_point);
                let sum: i32 = products.map(|(x, &w)| integer(x) * i32::from(w)).sum();
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[output]);
                sum as f32 * scale * self.scales[output] + bias
            })
        };
        rows.flat_map(of_row).collect()
    }

    fn packed(&self) -> Packed<'_> {
        let inputs = self.integers[0].len();
        let [_, groups, ..] = packed_shape(inputs, self.weights.len());
        let size = packed_shape(inputs, self.weights.len()).iter().product();
        let mut weights = vec![0; size];
        for (output, row) in self.weights.iter().enumerate() {
            let (panel, output) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            for (input, weight) in row.iter().enumerate() {
                let group = panel * groups + input / PANEL_GROUP;
                let place = (group * PANEL_OUTPUTS + output) * PANEL_GROUP + input % PANEL_GROUP;
                weights[place] = *weight;
            }
        }
        let sum = |row: &Vec<i8>| row.iter().map(|&weight| i32::from(weight)).sum();
        Packed {
            plain: self,
            weights,
            sums: self.weights.iter().map(sum).collect(),
            integers: self.integers.concat(),
        }
    }

    fn computed(&self, features: CpuFeatures) -> Vec<f32> {
        let packed = self.packed();
        let mut output = vec![f32::NAN; self.row_scales.len() * self.weights.len()];
        let Ok(()) = linear(
            features,
            &packed.layer(),
            packed.rows(),
            &mut output,
            &Serial,
        );
        output
    }
}

/// The same packed.
struct Packed<'a> {
    plain: &'a Plain,
    weights: Vec<i8>,
    sums: Vec<i32>,
    integers: Vec<u8>,
}

impl Packed<'_> {
    fn parts(&self) -> LayerParts<'_> {
        LayerParts {
            inputs: self.plain.integers[0].len(),
            zero_point: self.plain.zero_point,
            weights: &self.weights,
            scales: &self.plain.scales,
            sums: &self.sums,
            bias: self.plain.bias.as_deref(),
        }
    }

    fn layer(&self) -> Layer<'_> {
        Layer::new(self.parts()).expect("sizes match")
    }

    fn rows(&self) -> QuantizedRows<'_> {
        QuantizedRows {
            integers: &self.integers,
            scales: &self.plain.row_scales,
        }
    }
}

fn all_features() -> [CpuFeatures; 3] {
    let features = CpuFeatures::get();
    [features, features.without_avx512(), CpuFeatures::default()]
}

#[test]
fn every_product_is_in_its_sum() {
    for rows in [1, ROWS - 1, ROWS, 2 * ROWS + 1] {
        for inputs in [1, 3, 4, 5, 64] {
            for outputs in [1, 63, 64, 65, 130] {
                for (zero_point, with_bias) in [(128, true), (16, false), (0, true)] {
                    let plain = Plain::new([rows, inputs, outputs], zero_point, with_bias);
                    let expected = plain.expected();
                    let place = format!("{rows} x {inputs} x {outputs}, zero point {zero_point}");
                    for features in all_features() {
                        let got = plain.computed(features);
                        assert_eq!(got, expected, "{place}, {features:?}");
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
        for inputs in [64, 5] {
            let plain = Plain::new([ROWS - 1, inputs, 3], 128, false);
            assert_eq!(plain.computed(features), plain.expected());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let plain = Plain::new([2 * ROWS + 3, 37, 70], 128, true);
    let together = plain.computed(CpuFeatures::get());
    for (row, together) in together.chunks(70).enumerate() {
        let alone = Plain {
            integers: vec![plain.integers[row].clone()],
            row_scales: vec![plain.row_scales[row]],
            weights: plain.weights.clone(),
            ..Plain::new([1, 37, 70], 128, true)
        };
        assert_eq!(alone.computed(CpuFeatures::get()), together);
    }
}

#[test]
fn a_nan_scale_spoils_its_row_alone() {
    let mut plain = Plain::new([3, 8, 5], 128, true);
    plain.row_scales[1] = f32::NAN;
    let output = plain.computed(CpuFeatures::get());
    let spoilt: Vec<bool> = output.iter().map(|value| value.is_nan()).collect();
    assert_eq!(spoilt, [[false; 5], [true; 5], [false; 5]].concat());
}

/// Of 14336 inputs at the ends of their ranges, more than any layer of the supported families has.
#[test]
fn sums_do_not_overflow() {
    let mut plain = Plain::new([1, 14336, 1], 0, false);
    plain.integers[0].fill(255);
    plain.weights[0].fill(-127);
    for features in all_features() {
        assert_eq!(plain.computed(features), plain.expected());
    }
}

#[test]
fn parts_of_different_sizes_make_no_layer() {
    let plain = Plain::new([1, 5, 70], 128, true);
    let packed = plain.packed();
    let parts = packed.parts();
    let refused = |parts| Layer::new(parts).is_err();
    assert!(!refused(parts));
    assert!(refused(LayerParts { inputs: 9, ..parts }));
    assert!(refused(LayerParts {
        sums: &parts.sums[1..],
        ..parts
    }));
    assert!(refused(LayerParts {
        weights: &parts.weights[4..],
        ..parts
    }));
    assert!(refused(LayerParts {
        bias: Some(&[1.0]),
        ..parts
    }));
}

#[test]
fn hidden_values_are_within_half_a_scale() {
    let sizes = [ROWS + 2, 40, 70];
    let first = Plain::new(sizes, 128, true);
    let second = Plain {
        weights: Plain::new([1, 40, 140], 0, false).weights[70..].to_vec(),
        ..Plain::new(sizes, 128, false)
    };
    let packed = [first.packed(), second.packed()];
    let [gate, up] = packed.each_ref().map(Packed::layer);
    // Outputs of both layers are large: most lie where the nonlinearities hardly bend.
    let (one, two) = (first.expected(), second.expected());
    let pairs = one.iter().zip(&two);
    for (layers, expected) in [
        (
            HiddenLayers::Gelu(packed[0].layer()),
            one.iter().map(|&x| gelu(x)).collect::<Vec<_>>(),
        ),
        (
            HiddenLayers::SwiGlu { gate, up },
            pairs.map(|(&gate, x)| silu(gate) * x).collect(),
        ),
    ] {
        check_hidden(layers, &packed[0], &expected);
    }
}

fn check_hidden(layers: HiddenLayers, inputs: &Packed, expected: &[f32]) {
    let range = QuantRange {
        zero_point: 128,
        qmax: 127,
    };
    let block = FeedForward { layers, range };
    for features in all_features() {
        let (mut integers, mut scales) = (vec![0; expected.len()], vec![0.0; ROWS + 2]);
        let output = QuantizedRowsMut {
            integers: &mut integers,
            scales: &mut scales,
        };
        let Ok(()) = block.run(features, inputs.rows(), output, &Serial);
        for (index, (integer, expected)) in integers.iter().zip(expected).enumerate() {
            let scale = scales[index / block.outputs()];
            let value = (f32::from(*integer) - 128.0) * scale;
            let differs = (value - expected).abs();
            assert!(
                differs <= 0.5001 * scale,
                "{index}: {value} is not {expected}"
            );
        }
    }
}
