//! Linear layers compared with one product after the other, on every instruction set of this CPU.

use super::{
    FeedForward, HiddenLayers, Layer, LayerParts, QUAD, QuantRange, QuantizedRows,
    QuantizedRowsMut, Quantizer, linear, packed_shape,
};
use crate::activations::{gelu, silu};
use crate::panel::{PANEL_OUTPUTS, ROWS};
use crate::{CpuFeatures, Serial};

/// A layer and its inputs before they are packed.
struct Plain {
    zero_point: u8,
    groups: usize,
    /// `[rows, inputs]`.
    integers: Vec<Vec<u8>>,
    /// `[rows, groups]`.
    row_scales: Vec<f32>,
    /// `[outputs, inputs]`.
    weights: Vec<Vec<i8>>,
    /// `[outputs, groups]`.
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
            groups: 1,
            integers,
            row_scales: values(rows, 0.01),
            weights: weights.into_iter().map(signed).collect(),
            scales: values(outputs, 0.002),
            bias: with_bias.then(|| values(outputs, -0.3)),
        }
    }

    /// The same with scales for each of several groups.
    fn in_groups(self, groups: usize) -> Self {
        let spread = |scales: Vec<f32>| {
            let of_row = |scale| (0..groups).map(move |group| scale / (group + 1) as f32);
            scales.into_iter().flat_map(of_row).collect()
        };
        Self {
            groups,
            row_scales: spread(self.row_scales),
            scales: spread(self.scales),
            ..self
        }
    }

    fn rows(&self) -> usize {
        self.integers.len()
    }

    /// One product after the other; the groups' sums are added as the kernels add them.
    fn expected(&self) -> Vec<f32> {
        let size = self.integers[0].len().div_ceil(self.groups);
        let rows = self
            .integers
            .iter()
            .zip(self.row_scales.chunks(self.groups));
        let of_row = |(row, row_scales): (&Vec<u8>, &[f32])| {
            let outputs = self.weights.iter().zip(self.scales.chunks(self.groups));
            let products = outputs.map(|(weights, scales)| {
                let groups = row.chunks(size).zip(weights.chunks(size));
                let scales = row_scales.iter().zip(scales);
                groups
                    .zip(scales)
                    .fold(0.0, |sum, ((x, w), (scale, weight_scale))| {
                        (self.sum(x, w) as f32 * scale).mul_add(*weight_scale, sum)
                    })
            });
            let bias = |output: usize| self.bias.as_ref().map_or(0.0, |bias| bias[output]);
            let outputs = products.enumerate().map(|(output, sum)| sum + bias(output));
            outputs.collect::<Vec<f32>>()
        };
        rows.flat_map(of_row).collect()
    }

    fn sum(&self, integers: &[u8], weights: &[i8]) -> i32 {
        let integer = |&x: &u8| i32::from(x) - i32::from(self.zero_point);
        let products = integers.iter().zip(weights);
        products.map(|(x, &w)| integer(x) * i32::from(w)).sum()
    }

    fn packed(&self) -> Packed<'_> {
        let inputs = self.integers[0].len();
        let [panels, quads, ..] = packed_shape(inputs, self.weights.len());
        let mut weights = vec![0; packed_shape(inputs, self.weights.len()).iter().product()];
        let mut scales = vec![0.0; panels * self.groups * PANEL_OUTPUTS];
        let mut sums = vec![0; scales.len()];
        for (output, row) in self.weights.iter().enumerate() {
            let (panel, place) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            for (input, weight) in row.iter().enumerate() {
                let quad = panel * quads + input / QUAD;
                weights[(quad * PANEL_OUTPUTS + place) * QUAD + input % QUAD] = *weight;
            }
            for (group, row) in row.chunks(inputs.div_ceil(self.groups)).enumerate() {
                let place = (panel * self.groups + group) * PANEL_OUTPUTS + place;
                scales[place] = self.scales[output * self.groups + group];
                sums[place] = row.iter().map(|&weight| i32::from(weight)).sum();
            }
        }
        Packed {
            plain: self,
            weights,
            scales,
            sums,
            integers: self.integers.concat(),
        }
    }

    fn computed(&self, features: CpuFeatures) -> Vec<f32> {
        let packed = self.packed();
        let mut output = vec![f32::NAN; self.rows() * self.weights.len()];
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
    scales: Vec<f32>,
    sums: Vec<i32>,
    integers: Vec<u8>,
}

impl Packed<'_> {
    fn parts(&self) -> LayerParts<'_> {
        LayerParts {
            inputs: self.plain.integers[0].len(),
            outputs: self.plain.weights.len(),
            groups: self.plain.groups,
            zero_point: self.plain.zero_point,
            weights: &self.weights,
            scales: &self.scales,
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
            groups: self.plain.groups,
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

#[test]
fn groups_have_their_own_scales() {
    for rows in [1, ROWS + 1] {
        for (inputs, groups) in [(8, 2), (128, 2), (192, 3), (64, 1)] {
            for outputs in [1, 65] {
                let plain = Plain::new([rows, inputs, outputs], 128, true).in_groups(groups);
                let expected = plain.expected();
                for features in all_features() {
                    let got = plain.computed(features);
                    assert_eq!(
                        got, expected,
                        "{rows} x {inputs} in {groups} x {outputs}, {features:?}"
                    );
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
    let plain = Plain::new([2 * ROWS + 3, 40, 70], 128, true).in_groups(5);
    let together = plain.computed(CpuFeatures::get());
    for (row, together) in together.chunks(70).enumerate() {
        let alone = Plain {
            integers: vec![plain.integers[row].clone()],
            row_scales: plain.row_scales[5 * row..][..5].to_vec(),
            weights: plain.weights.clone(),
            ..Plain::new([1, 40, 70], 128, true).in_groups(5)
        };
        assert_eq!(alone.computed(CpuFeatures::get()), together);
    }
}

#[test]
fn a_nan_scale_spoils_its_row_alone() {
    let mut plain = Plain::new([3, 8, 5], 128, true).in_groups(2);
    plain.row_scales[3] = f32::NAN;
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
    assert!(refused(LayerParts { groups: 2, ..parts }));
    assert!(refused(LayerParts { groups: 0, ..parts }));
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
    let quantizer = Quantizer::Rows(QuantRange::SYMMETRIC);
    let mut block = FeedForward { layers, quantizer };
    for features in all_features() {
        let (integers, scales) = hidden(&block, features, inputs);
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
    block.quantizer = Quantizer::RotatedGroups;
    let [width, groups] = block.quantizer.shape(block.outputs());
    let (mut integers, mut scales) = (vec![0; width * (ROWS + 2)], vec![0.0; groups * (ROWS + 2)]);
    let output = QuantizedRowsMut {
        integers: &mut integers,
        scales: &mut scales,
    };
    let features = CpuFeatures::default();
    let rows = (expected, block.outputs());
    let Ok(()) = block
        .quantizer
        .quantize_rows(features, rows, output, &Serial);
    assert_eq!(hidden(&block, features, inputs), (integers, scales));
}

fn hidden(block: &FeedForward, features: CpuFeatures, inputs: &Packed) -> (Vec<u8>, Vec<f32>) {
    let [width, groups] = block.quantizer.shape(block.outputs());
    let rows = inputs.plain.rows();
    let (mut integers, mut scales) = (vec![0; rows * width], vec![0.0; rows * groups]);
    let output = QuantizedRowsMut {
        integers: &mut integers,
        scales: &mut scales,
    };
    let Ok(()) = block.run(features, inputs.rows(), output, &Serial);
    (integers, scales)
}
