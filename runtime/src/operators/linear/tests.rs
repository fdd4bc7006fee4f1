use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};

use super::super::activations::{gelu, silu};
#[cfg(target_arch = "x86_64")]
use super::super::integers::x86::left_by_avx2;
use super::super::integers::{Portable, ROWS, Work, run};
use super::super::rows::Range;
use super::layer::Layer;
use super::{Task, hidden};

/// A layer's numbers as they are before they are packed.
struct Plain {
    zero: u8,
    /// [rows, inputs].
    integers: Vec<Vec<u8>>,
    steps: Vec<f32>,
    /// [outputs, inputs].
    weights: Vec<Vec<i8>>,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Plain {
    fn new([rows, inputs, outputs]: [usize; 3], zero: u8, with_bias: bool) -> Self {
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
        let numbers = |count: usize, by: f32| (1..=count).map(|n| n as f32 * by).collect();
        Self {
            zero,
            integers,
            steps: numbers(rows, 0.01),
            weights: weights.into_iter().map(signed).collect(),
            scales: numbers(outputs, 0.002),
            bias: with_bias.then(|| numbers(outputs, -0.3)),
        }
    }

    /// One product after the other.
    fn expected(&self) -> Vec<f32> {
        let of_row = |(row, step): (&Vec<u8>, &f32)| {
            let (row, step) = (row.clone(), *step);
            let outputs = self.weights.iter().enumerate();
            outputs.map(move |(output, weights)| {
                let products = row.iter().zip(weights);
                let integer = |&x: &u8| i32::from(x) - i32::from(self.zero);
                let sum: i32 = products.map(|(x, &w)| integer(x) * i32::from(w)).sum();
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[output]);
                sum as f32 * step * self.scales[output] + bias
            })
        };
        self.integers
            .iter()
            .zip(&self.steps)
            .flat_map(of_row)
            .collect()
    }

    fn packed(&self) -> Vec<i8> {
        let groups = self.integers[0].len().div_ceil(PANEL_GROUP);
        let panels = self.weights.len().div_ceil(PANEL_OUTPUTS);
        let mut packed = vec![0; panels * groups * PANEL_OUTPUTS * PANEL_GROUP];
        for (output, weights) in self.weights.iter().enumerate() {
            let (panel, output) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            for (input, weight) in weights.iter().enumerate() {
                let group = panel * groups + input / PANEL_GROUP;
                let place = (group * PANEL_OUTPUTS + output) * PANEL_GROUP + input % PANEL_GROUP;
                packed[place] = *weight;
            }
        }
        packed
    }

    fn sums(&self) -> Vec<i32> {
        let sum = |weights: &Vec<i8>| weights.iter().map(|&weight| i32::from(weight)).sum();
        self.weights.iter().map(sum).collect()
    }

    fn layer<'a>(&self, packed: &'a [i8]) -> Layer<'a> {
        let parts = (&*self.scales, &*self.sums(), self.bias.as_deref());
        Layer::new(self.integers[0].len(), packed, self.zero, parts)
    }

    fn computed(&self, run: fn(Task)) -> Vec<f32> {
        let packed = self.packed();
        let mut output = vec![f32::NAN; self.steps.len() * self.weights.len()];
        run(Task {
            layer: &self.layer(&packed),
            integers: &self.integers.concat(),
            steps: &self.steps,
            output: &mut output,
        });
        output
    }
}

/// Or portably, where there is none.
#[cfg(target_arch = "x86_64")]
fn by_avx2(task: Task) {
    if let Some(task) = left_by_avx2(task) {
        task.with::<Portable>();
    }
}

#[test]
fn every_product_is_in_its_sum() {
    for rows in [1, ROWS - 1, ROWS, 2 * ROWS + 1] {
        for inputs in [1, 3, 4, 5, 64] {
            for outputs in [1, 63, 64, 65, 130] {
                for (zero, with_bias) in [(128, true), (16, false), (0, true)] {
                    let plain = Plain::new([rows, inputs, outputs], zero, with_bias);
                    let expected = plain.expected();
                    let place = format!("{rows} x {inputs} x {outputs}, zero {zero}");
                    assert_eq!(plain.computed(|task| run(task)), expected, "{place}");
                    let portable = plain.computed(|task| task.with::<Portable>());
                    assert_eq!(portable, expected, "{place}");
                    #[cfg(target_arch = "x86_64")]
                    assert_eq!(plain.computed(by_avx2), expected, "{place}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let plain = Plain::new([2 * ROWS + 3, 37, 70], 128, true);
    let together = plain.computed(|task| run(task));
    for (row, together) in together.chunks(70).enumerate() {
        let alone = Plain {
            integers: vec![plain.integers[row].clone()],
            steps: vec![plain.steps[row]],
            ..Plain::new([1, 37, 70], 128, true)
        };
        let alone = Plain {
            weights: plain.weights.clone(),
            ..alone
        };
        assert_eq!(alone.computed(|task| run(task)), together);
    }
}

#[test]
fn a_step_that_is_no_number_spoils_its_row_alone() {
    let mut plain = Plain::new([3, 8, 5], 128, true);
    plain.steps[1] = f32::NAN;
    let output = plain.computed(|task| run(task));
    let spoilt: Vec<bool> = output.iter().map(|number| number.is_nan()).collect();
    assert_eq!(spoilt, [[false; 5], [true; 5], [false; 5]].concat());
}

/// Of 14336 inputs at the ends of their ranges, more than any layer of the supported families has.
#[test]
fn sums_do_not_overflow() {
    let mut plain = Plain::new([1, 14336, 1], 0, false);
    plain.integers[0].fill(255);
    plain.weights[0].fill(-127);
    assert_eq!(plain.computed(|task| run(task)), plain.expected());
}

#[test]
fn hidden_numbers_are_within_half_a_step() {
    let sizes = [ROWS + 2, 40, 70];
    let first = Plain::new(sizes, 128, true);
    let second = Plain {
        weights: Plain::new([1, 40, 140], 0, false).weights[70..].to_vec(),
        ..Plain::new(sizes, 128, false)
    };
    let packed = [first.packed(), second.packed()];
    let (layer, gated) = (first.layer(&packed[0]), second.layer(&packed[1]));
    // What comes out of both is large: most of it is where the nonlinearities hardly bend.
    let (one, two) = (first.expected(), second.expected());
    let pairs = one.iter().zip(&two);
    let expected = [
        one.iter().map(|&x| gelu(x)).collect::<Vec<_>>(),
        pairs.map(|(&gate, x)| silu(gate) * x).collect(),
    ];
    for (gated, expected) in [None, Some(&gated)].into_iter().zip(expected) {
        let (mut integers, mut steps) = (vec![0; expected.len()], vec![0.0; ROWS + 2]);
        run(hidden::Task {
            layer: &layer,
            gated,
            rows: (&first.integers.concat(), &first.steps),
            range: Range::EVEN,
            integers: &mut integers,
            steps: &mut steps,
        });
        for (index, (integer, expected)) in integers.iter().zip(&expected).enumerate() {
            let number = (f32::from(*integer) - 128.0) * steps[index / 70];
            let half = 0.5001 * steps[index / 70];
            assert!(
                (number - expected).abs() <= half,
                "{index}: {number} is not {expected}"
            );
        }
    }
}
