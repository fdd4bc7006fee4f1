//! AdamW with decoupled weight decay, and the clipping of the global gradient norm.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Result, ensure};
use seeward_models::checkpoint::{Checkpoint, Dtype};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::Config;
use crate::libtorch::native::{AdamWStep, Update, forget_gradient, fused_adamw};
use crate::libtorch::parameters::{Parameters, read};
use crate::step::shard::{self, Moments, Shard};
use crate::step::units::{Member, Unit};
use crate::world::ranks::World;

/// The settings that tensors of one fused update share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// The bits of the learning rate.
    rate: u64,
    decays: bool,
    /// The number of updates, this one included.
    steps: i32,
}

/// The optimizer. A unit gets its state with its first gradient, so a branch that has not trained yet has none.
pub struct AdamW {
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    world: Rc<World>,
    shards: Vec<Shard>,
    /// The number of updates of every tensor that has had one.
    steps: BTreeMap<String, i32>,
    /// The tensors of which any process has a gradient in this step.
    reached: BTreeSet<String>,
}

impl AdamW {
    /// An optimizer with the config's betas, epsilon and weight decay, for a process that trains alone.
    pub fn new(config: &Config) -> Self {
        Self {
            betas: (config.adam_beta1, config.adam_beta2),
            epsilon: config.adam_epsilon,
            weight_decay: config.weight_decay,
            world: Rc::default(),
            shards: Vec::new(),
            steps: BTreeMap::new(),
            reached: BTreeSet::new(),
        }
    }

    /// The same, of one of several processes.
    pub(crate) fn with_world(self, world: Rc<World>) -> Self {
        Self { world, ..self }
    }

    fn lay_out(&mut self, parameters: &Parameters) {
        if self.shards.is_empty() {
            let units = Unit::all(parameters, self.world.ranks());
            self.shards = units.into_iter().map(Shard::new).collect();
        }
    }

    /// Sums the gradients of all processes; each keeps its part. Returns the squared norm of this part: the sum over all
    /// processes is that of all gradients.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub fn reduce(&mut self, parameters: &Parameters) -> Result<f64> {
        self.lay_out(parameters);
        self.reached = self.reached(parameters)?;
        let (world, reached) = (&self.world, &self.reached);
        no_grad(|| {
            let mut squares = Vec::new();
            for shard in &mut self.shards {
                shard.gradient = match shard.is_reached(reached) {
                    true => Some(shard.reduce(parameters, world)?),
                    false => None,
                };
                squares.extend(shard.gradient.as_ref().map(shard::square));
            }
            match squares.is_empty() {
                true => Ok(0.0),
                false => Ok(Tensor::stack(&squares, 0)
                    .sum(Kind::Double)
                    .double_value(&[])),
            }
        })
    }

    fn reached(&self, parameters: &Parameters) -> Result<BTreeSet<String>> {
        let (names, flags): (Vec<_>, Vec<_>) = parameters
            .trainable()
            .map(|(name, tensor)| (name.to_owned(), tensor.grad().defined()))
            .unzip();
        let any = self.world.any(&flags)?;
        let reached = names.into_iter().zip(any).filter(|(_, any)| *any);
        Ok(reached.map(|(name, _)| name).collect())
    }

    /// Updates every tensor that had a gradient in [`reduce`](Self::reduce), at the rate that `rate` gives for its name.
    /// Gradients are scaled by `scale` first, maybe in place.
    ///
    /// # Errors
    /// LibTorch's; another process has ended or does not answer.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        scale: f64,
        rate: impl Fn(&str) -> f64,
    ) -> Result<()> {
        for name in &self.reached {
            *self.steps.entry(name.clone()).or_default() += 1;
        }
        no_grad(|| {
            self.update(parameters, scale, rate)?;
            self.distribute(parameters)
        })
    }

    /// Updates the pieces of this process's parts.
    fn update(
        &mut self,
        parameters: &Parameters,
        scale: f64,
        rate: impl Fn(&str) -> f64,
    ) -> Result<()> {
        let mut groups: BTreeMap<Group, Vec<[Tensor; 4]>> = BTreeMap::new();
        for shard in &mut self.shards {
            let Some(gradient) = &shard.gradient else {
                continue;
            };
            let zeros = || [shard.unit.zeros(), shard.unit.zeros()];
            let [first, second] = shard.moments.get_or_insert_with(zeros);
            let pieces = shard.unit.pieces().into_iter();
            for piece in pieces.filter(|piece| self.reached.contains(&piece.member.name)) {
                let name = &piece.member.name;
                let group = Group {
                    rate: rate(name).to_bits(),
                    decays: piece.member.decays(),
                    steps: self.steps[name],
                };
                groups.entry(group).or_default().push([
                    piece.of_tensor(parameters.get(name)?),
                    piece.of_part(gradient),
                    piece.of_part(first),
                    piece.of_part(second),
                ]);
            }
        }
        for (group, pieces) in &groups {
            let updates: Vec<Update> = pieces.iter().map(update).collect();
            fused_adamw(&updates, &self.of(group, scale))?;
        }
        Ok(())
    }

    /// Copies the updated weights of every part to all processes, and frees the gradients.
    fn distribute(&mut self, parameters: &Parameters) -> Result<()> {
        for shard in &mut self.shards {
            let is_updated = shard.gradient.take().is_some();
            if !is_updated || self.world.ranks().size == 1 {
                continue;
            }
            let weight = |member: &Member| Ok(Some(parameters.get(&member.name)?.shallow_clone()));
            let whole = self.world.all_gather(&shard.unit.part(weight)?)?;
            for (member, value) in shard.unit.split(&whole) {
                let mut weight = parameters.get(&member.name)?.detach();
                weight.copy_(&value);
            }
        }
        Ok(())
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

    /// The moments of all tensors that have been updated, by their names in a checkpoint, where this process leads;
    /// nothing elsewhere.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn gather(&self) -> Result<Moments> {
        let mut gathered = Moments::new();
        for Shard { unit, moments, .. } in &self.shards {
            let Some([first, second]) = moments else {
                continue;
            };
            let [first, second] = [self.whole(first)?, self.whole(second)?];
            if !self.world.leads() {
                continue;
            }
            let seconds = unit.split(&second).into_iter().map(|(_, tensor)| tensor);
            for ((member, first), second) in unit.split(&first).into_iter().zip(seconds) {
                if self.steps.contains_key(&member.name) {
                    gathered.insert(member.name.clone(), [first, second]);
                }
            }
        }
        Ok(gathered)
    }

    /// All parts of a unit, where there are several in the memory of the host.
    fn whole(&self, part: &Tensor) -> Result<Tensor> {
        let whole = self.world.all_gather(part)?;
        match self.world.ranks().size {
            1 => Ok(whole),
            _ => Ok(whole.to_device(Device::Cpu)),
        }
    }

    /// Bytes of the moments in a checkpoint.
    pub(crate) fn bytes(&self) -> u64 {
        let members = self.shards.iter().flat_map(|shard| &shard.unit.members);
        let updated = members.filter(|member| self.steps.contains_key(&member.name));
        let elements: i64 = updated.map(Member::size).sum();
        2 * Dtype::F32.size() as u64 * elements as u64
    }

    /// The number of updates of every tensor.
    pub fn steps(&self) -> BTreeMap<String, i32> {
        self.steps.clone()
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// A tensor is missing.
    pub(crate) fn restore(
        &mut self,
        parameters: &Parameters,
        state: &Checkpoint,
        steps: &BTreeMap<String, i32>,
    ) -> Result<()> {
        self.lay_out(parameters);
        self.steps.clone_from(steps);
        for Shard { unit, moments, .. } in &mut self.shards {
            let part = |which: &str| {
                unit.part(|member| {
                    let is_saved = steps.contains_key(&member.name);
                    let saved = || saved(state, which, member, unit.device());
                    is_saved.then(saved).transpose()
                })
            };
            if unit.members.iter().any(|m| steps.contains_key(&m.name)) {
                *moments = Some([part("first")?, part("second")?]);
            }
        }
        Ok(())
    }
}

/// A saved moment of a tensor.
fn saved(state: &Checkpoint, which: &str, member: &Member, device: Device) -> Result<Tensor> {
    let name = format!("{which}.{}", member.name);
    let tensor = read(state, &name, device)?;
    let (got, expected) = (tensor.size(), &member.shape);
    ensure!(
        got == *expected,
        "{name}: expected shape {expected:?}, got {got:?}"
    );
    Ok(tensor)
}

fn update([tensor, gradient, first, second]: &[Tensor; 4]) -> Update<'_> {
    Update {
        tensor,
        gradient,
        first,
        second,
    }
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
            adam.reduce(&parameters).unwrap();
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
        adam.reduce(&parameters).unwrap();
        adam.step(&parameters, 1.0, rate).unwrap();
        let before = weight("not").detach().copy();
        forget_gradients(&parameters);
        weight("reached").sum(Kind::Float).backward();
        adam.reduce(&parameters).unwrap();
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
