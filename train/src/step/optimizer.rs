//! AdamW with decoupled weight decay, and the clipping of the global gradient norm.

use std::collections::BTreeMap;

use seeward_models::Result;
use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::Config;
use crate::libtorch::native::{AdamWStep, Update, forget_gradient, fused_adamw};
use crate::libtorch::parameters::{Parameters, data, read};

/// Moments of one tensor.
struct Moments {
    first: Tensor,
    second: Tensor,
    steps: i32,
}

/// The settings that tensors of one fused update share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// The bits of the learning rate.
    rate: u64,
    decays: bool,
    /// The number of updates, this one included.
    steps: i32,
}

/// The optimizer. A tensor gets its state with its first gradient, so a branch that has not trained yet has none.
pub struct AdamW {
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer with the config's betas, epsilon and weight decay.
    pub fn new(config: &Config) -> Self {
        Self {
            betas: (config.adam_beta1, config.adam_beta2),
            epsilon: config.adam_epsilon,
            weight_decay: config.weight_decay,
            moments: BTreeMap::new(),
        }
    }

    /// Updates every tensor that has a gradient, at the rate that `rate` gives for its name. Gradients are scaled by
    /// `scale` first, maybe in place.
    ///
    /// # Errors
    /// LibTorch's.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        scale: f64,
        rate: impl Fn(&str) -> f64,
    ) -> Result<()> {
        let gradients: Vec<_> = gradients(parameters).collect();
        for (name, _, gradient) in &gradients {
            self.count(name, gradient);
        }
        let mut groups: BTreeMap<Group, Vec<Update>> = BTreeMap::new();
        for (name, tensor, gradient) in &gradients {
            let Moments {
                first,
                second,
                steps,
            } = &self.moments[*name];
            let group = Group {
                rate: rate(name).to_bits(),
                // Norms and biases do not decay, in either branch.
                decays: tensor.dim() >= 2,
                steps: *steps,
            };
            groups.entry(group).or_default().push(Update {
                tensor,
                gradient,
                first,
                second,
            });
        }
        groups
            .iter()
            .try_for_each(|(group, updates)| fused_adamw(updates, &self.of(group, scale)))
    }

    fn count(&mut self, name: &str, gradient: &Tensor) {
        let state = self.moments.entry(name.to_owned());
        let state = state.or_insert_with(|| Moments {
            first: gradient.zeros_like(),
            second: gradient.zeros_like(),
            steps: 0,
        });
        state.steps += 1;
    }

    // Loshchilov & Hutter, "Decoupled weight decay regularization", algorithm 2.
    fn of(&self, group: &Group, scale: f64) -> AdamWStep {
        AdamWStep {
            rate: f64::from_bits(group.rate),
            beta1: self.betas.0,
            beta2: self.betas.1,
            epsilon: self.epsilon,
            weight_decay: if group.decays { self.weight_decay } else { 0.0 },
            gradient_divisor: scale.recip(),
            step: group.steps.into(),
        }
    }

    /// The state, to be written to a checkpoint.
    pub(crate) fn data(&self) -> Vec<TensorData<'_>> {
        self.moments
            .iter()
            .flat_map(|(name, state)| {
                [
                    data(&format!("first.{name}"), &state.first, Dtype::F32),
                    data(&format!("second.{name}"), &state.second, Dtype::F32),
                ]
            })
            .collect()
    }

    /// The number of updates of every tensor.
    pub fn steps(&self) -> BTreeMap<String, i32> {
        self.moments
            .iter()
            .map(|(name, state)| (name.clone(), state.steps))
            .collect()
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// A tensor is missing.
    pub(crate) fn restore(
        &mut self,
        state: &Checkpoint,
        steps: &BTreeMap<String, i32>,
        device: Device,
    ) -> Result<()> {
        for (name, &steps) in steps {
            let first = read(state, &format!("first.{name}"), device)?;
            let second = read(state, &format!("second.{name}"), device)?;
            self.moments.insert(
                name.clone(),
                Moments {
                    first,
                    second,
                    steps,
                },
            );
        }
        Ok(())
    }
}

/// Tensors that have a gradient, with their names.
fn gradients(parameters: &Parameters) -> impl Iterator<Item = (&str, &Tensor, Tensor)> {
    parameters
        .trainable()
        .map(|(name, tensor)| (name, tensor, tensor.grad()))
        .filter(|(_, _, gradient)| gradient.defined())
}

/// The global norm of all gradients.
pub fn gradient_norm(parameters: &Parameters) -> f64 {
    no_grad(|| {
        let norms: Vec<Tensor> = gradients(parameters)
            .map(|(_, _, gradient)| gradient.norm().to_kind(Kind::Double))
            .collect();
        if norms.is_empty() {
            0.0
        } else {
            Tensor::stack(&norms, 0).norm().double_value(&[])
        }
    })
}

/// The factor that clips a gradient of `norm` to `limit`; a limit of 0 means no clipping.
pub(crate) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 {
        (limit / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    }
}

/// Removes all gradients: a weight that the next backward pass does not reach is not updated.
pub fn forget_gradients(parameters: &Parameters) {
    parameters
        .trainable()
        .for_each(|(_, tensor)| forget_gradient(tensor));
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::libtorch::precision::Precision;
    use crate::random::Stream;

    const NAMES: [(&str, &[i64]); 3] = [("matrix", &[33, 70]), ("norm", &[257]), ("late", &[5, 4])];
    const SCALE: f64 = 0.37;

    fn rate(name: &str) -> f64 {
        if name == "norm" { 3e-3 } else { 1e-2 }
    }

    fn config() -> Config {
        Config {
            weight_decay: 0.05,
            adam_beta2: 0.98,
            ..Config::default()
        }
    }

    /// Other tests draw too, so every tensor has its own stream.
    fn drawn(name: &str, index: u64, shape: &[i64]) -> Tensor {
        let stream = Stream::new(1, name, index);
        stream.torch(|| Tensor::randn(shape, (Kind::Float, Device::Cpu)))
    }

    /// Weights after six steps, and their values by AdamW's formulas in fp64; "late" has no gradient in half the steps.
    fn trained() -> Vec<(Tensor, Tensor)> {
        let mut parameters = Parameters::new(Precision::Fp32);
        for (name, shape) in NAMES {
            parameters.insert(name.to_owned(), drawn(name, 0, shape));
        }
        parameters.train_where(|_| true);
        let mut adam = AdamW::new(&config());
        let mut written_out = NAMES.map(|(name, _)| Expected::new(parameters.get(name).unwrap()));
        for step in 1..=6 {
            forget_gradients(&parameters);
            let seen = NAMES.iter().zip(&mut written_out);
            for ((name, shape), expected) in
                seen.filter(|((name, _), _)| *name != "late" || step > 3)
            {
                let gradient = drawn(name, step, shape) * 0.1;
                let product = parameters.get(name).unwrap() * &gradient;
                product.sum(Kind::Float).backward();
                expected.step(&gradient, rate(name));
            }
            adam.step(&parameters, SCALE, rate).unwrap();
        }
        assert_eq!(adam.steps().into_values().collect::<Vec<_>>(), [3, 6, 6]);
        let pair = |((name, _), expected): (&(&str, &[i64]), Expected)| {
            (parameters.get(name).unwrap().detach(), expected.weight)
        };
        NAMES.iter().zip(written_out).map(pair).collect()
    }

    /// The update written out, in fp64.
    struct Expected {
        weight: Tensor,
        first: Tensor,
        second: Tensor,
        steps: i32,
    }

    impl Expected {
        fn new(weight: &Tensor) -> Self {
            let weight = weight.detach().to_kind(Kind::Double);
            Self {
                first: weight.zeros_like(),
                second: weight.zeros_like(),
                weight,
                steps: 0,
            }
        }

        fn step(&mut self, gradient: &Tensor, rate: f64) {
            let (beta1, beta2) = (config().adam_beta1, config().adam_beta2);
            let gradient = gradient.to_kind(Kind::Double) * SCALE;
            self.steps += 1;
            self.first = &self.first * beta1 + &gradient * (1.0 - beta1);
            self.second = &self.second * beta2 + &gradient * &gradient * (1.0 - beta2);
            let first = &self.first / (1.0 - beta1.powi(self.steps));
            let second = &self.second / (1.0 - beta2.powi(self.steps));
            if self.weight.dim() >= 2 {
                self.weight = &self.weight * (1.0 - rate * config().weight_decay);
            }
            self.weight = &self.weight - first / (second.sqrt() + config().adam_epsilon) * rate;
        }
    }

    /// Six steps move weights of about 1 (some of 4) by 1e-2 each. fp32 rounds a weight by 2e-7 at most, and a step by
    /// as little as 1e-8: their sum is below 2e-6.
    #[test]
    fn the_formulas_written_out() {
        for (got, expected) in trained() {
            let difference = (got.to_kind(Kind::Double) - expected)
                .abs()
                .max()
                .double_value(&[]);
            assert!(difference < 2e-6, "{difference:e}");
        }
    }

    #[test]
    fn the_same_run_gives_the_same_bits() {
        for ((one, _), (other, _)) in trained().iter().zip(&trained()) {
            assert_eq!(one, other);
        }
    }

    #[test]
    fn a_weight_without_a_gradient_stays_unchanged() {
        let mut parameters = Parameters::new(Precision::Fp32);
        for name in ["reached", "not"] {
            parameters.insert(name.to_owned(), drawn(name, 0, &[2, 2]));
        }
        parameters.train_where(|_| true);
        let mut adam = AdamW::new(&config());
        let weight = |name| parameters.get(name).unwrap();
        (weight("reached") + weight("not"))
            .sum(Kind::Float)
            .backward();
        adam.step(&parameters, 1.0, rate).unwrap();
        let before = weight("not").detach().copy();
        forget_gradients(&parameters);
        weight("reached").sum(Kind::Float).backward();
        adam.step(&parameters, 1.0, rate).unwrap();
        assert_eq!(weight("not").detach(), before);
    }

    #[test]
    fn other_types_than_fp32_are_refused() {
        let part = || Tensor::zeros([2], (Kind::Double, Device::Cpu));
        let (tensor, gradient, first, second) = (part(), part(), part(), part());
        let update = Update {
            tensor: &tensor,
            gradient: &gradient,
            first: &first,
            second: &second,
        };
        let group = Group {
            rate: 0,
            decays: false,
            steps: 1,
        };
        let step = AdamW::new(&config()).of(&group, 1.0);
        let error = fused_adamw(&[update], &step).unwrap_err().to_string();
        assert!(error.contains("expected contiguous fp32"), "{error}");
    }
}
