//! The score head: from a hidden state to the reward.

use super::ops::{Activation, Bias, Ops};
use super::part::{Inventory, Kind, Part};
use crate::Result;
use crate::config::{Config, HeadConfig, HeadLayer};
use crate::kinds::HeadActivation;

impl HeadActivation {
    fn op(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::Silu => Activation::Silu,
            Self::Gelu => Activation::Gelu,
            Self::Tanh => Activation::Tanh,
        }
    }
}

impl HeadLayer {
    fn name(&self) -> String {
        let module = Part::Head.module();
        match self.number {
            None => module.to_owned(),
            Some(number) => format!("{module}.{number}"),
        }
    }
}

/// Hidden states [.., width] → rewards [..].
pub(super) fn forward<O: Ops>(ops: &mut O, config: &HeadConfig, x: &O::T) -> Result<O::T> {
    let mut x = x.clone();
    for (index, layer) in config.layers.iter().enumerate() {
        if let Some(activation) = config.activation.filter(|_| index > 0) {
            x = ops.activation(activation.op(), &x)?;
        }
        x = ops.linear(&layer.name(), &x, Bias::when(layer.bias))?;
    }
    let (outputs, output) = (config.outputs(), config.reward_output());
    if outputs == 1 {
        return ops.squeeze_last(&x);
    }
    let parts = ops.split(&x, 1, &vec![1; outputs])?;
    ops.squeeze_last(&parts[output])
}

/// Lists the tensors of the part. A checkpoint may lack the usual head, which training then draws.
pub(super) fn parameters(config: &Config, list: &mut Inventory) {
    list.part(Part::Head);
    let mut inputs = config.text.hidden;
    for layer in &config.head.layers {
        let member = |end: &str| {
            layer
                .number
                .map_or(end.to_owned(), |n| format!("{n}.{end}"))
        };
        let shape = [layer.outputs, inputs];
        match config.head.is_drawn() {
            true => list.optional(member("weight"), Kind::Score, &shape),
            false => list.add(member("weight"), Kind::Score, &shape),
        }
        if layer.bias {
            list.bias_named(member("bias"), Kind::Score, layer.outputs);
        }
        inputs = layer.outputs;
    }
}
