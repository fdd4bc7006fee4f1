//! The tensors of a network.

use super::branch::Branch;
use super::ops::Bias;
use crate::checkpoint::Required;

/// A tensor of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether a checkpoint may lack it: the score head of a chat model, the output projection of a tied one.
    pub optional: bool,
}

impl Parameter {
    /// What a checkpoint must hold for it.
    pub fn required(&self) -> Required<'_> {
        Required {
            name: &self.name,
            shape: &self.shape,
            optional: self.optional,
        }
    }
}

/// Collects parameters under a prefix.
pub(super) struct Inventory {
    prefix: String,
    parameters: Vec<Parameter>,
}

impl Inventory {
    pub(super) fn new(branch: Branch) -> Self {
        Self {
            prefix: branch.prefix(),
            parameters: Vec::new(),
        }
    }

    pub(super) fn into_parameters(self) -> Vec<Parameter> {
        self.parameters
    }

    pub(super) fn add(&mut self, name: impl AsRef<str>, shape: &[usize]) {
        self.push(name.as_ref(), shape, false);
    }

    pub(super) fn optional(&mut self, name: &str, shape: &[usize]) {
        self.push(name, shape, true);
    }

    /// `name.weight` and, with a bias, `name.bias`.
    pub(super) fn linear(
        &mut self,
        name: impl AsRef<str>,
        input: usize,
        output: usize,
        bias: Bias,
    ) {
        let name = name.as_ref();
        self.add(format!("{name}.weight"), &[output, input]);
        if bias == Bias::Yes {
            self.add(format!("{name}.bias"), &[output]);
        }
    }

    pub(super) fn layer_norm(&mut self, name: impl AsRef<str>, width: usize) {
        let name = name.as_ref();
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn push(&mut self, name: &str, shape: &[usize], optional: bool) {
        let name = format!("{}{name}", self.prefix);
        self.parameters.push(Parameter {
            name,
            shape: shape.to_vec(),
            optional,
        });
    }
}
