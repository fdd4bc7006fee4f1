//! A unit's state in one process: its part of the gradient and of the optimizer's moments.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use seeward_models::checkpoint::{Dtype, TensorData};
use tch::{Kind, Tensor};

use crate::libtorch::native::forget_gradient;
use crate::libtorch::parameters::{self, Parameters};
use crate::step::units::{Member, Unit};
use crate::world::ranks::World;

/// A unit with this process's part of its state.
pub(crate) struct Shard {
    pub(crate) unit: Unit,
    /// The gradient of the step, summed over all processes, from its reduction to its update.
    pub(crate) gradient: Option<Tensor>,
    /// The first and the second moment of this process's part.
    pub(crate) moments: Option<[Tensor; 2]>,
}

/// The first and the second moment of every tensor that has been updated, by its name.
pub(crate) type Moments = BTreeMap<String, [Tensor; 2]>;

impl Shard {
    /// A unit without state.
    pub(crate) fn new(unit: Unit) -> Self {
        Self {
            unit,
            gradient: None,
            moments: None,
        }
    }

    /// Whether any of its tensors is among `reached`.
    pub(crate) fn is_reached(&self, reached: &BTreeSet<String>) -> bool {
        let mut members = self.unit.members.iter();
        members.any(|member| reached.contains(&member.name))
    }

    /// This process's part of the sum of all processes' gradients.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn reduce(&self, parameters: &Parameters, world: &World) -> Result<Tensor> {
        let gradient = |member: &Member| {
            let gradient = parameters.find(&member.name)?.grad();
            gradient.defined().then_some(gradient)
        };
        let part = world.reduce_scatter(&self.unit.flat(gradient))?;
        // Alone, the part is the gradient itself.
        if world.ranks().size > 1 {
            let tensors = self.unit.members.iter();
            let tensors = tensors.filter_map(|member| parameters.find(&member.name));
            tensors.for_each(forget_gradient);
        }
        Ok(part)
    }
}

/// The tensors of a checkpoint that hold these moments.
pub(crate) fn data(moments: &Moments) -> Vec<TensorData<'_>> {
    let data = |kind: &str, name: &str, tensor| {
        parameters::data(&format!("{kind}.{name}"), tensor, Dtype::F32)
    };
    moments
        .iter()
        .flat_map(|(name, [first, second])| {
            [data("first", name, first), data("second", name, second)]
        })
        .collect()
}

/// The squared norm, in fp64.
pub(crate) fn square(part: &Tensor) -> Tensor {
    let norm = part.linalg_norm(2.0, None::<i64>, false, Kind::Double);
    norm.square()
}
