//! `reward_head`: a score head other than one linear layer without a bias, `score.weight`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::Fields;
use crate::checkpoint::Checkpoint;
use crate::kinds::{HeadActivation, HeadNames};
use crate::reading::RewardAt;
use crate::{Error, Result};

/// The key of the section.
pub(super) const HEAD: &str = "reward_head";

/// A score head: linear layers over a hidden state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// The names of its tensors.
    #[serde(default)]
    pub names: HeadNames,
    /// Its layers, from the hidden state on.
    pub layers: Vec<HeadLayer>,
    /// Between its layers; no file of a folder says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<HeadActivation>,
    /// The output that is the reward, counted from 0, of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<usize>,
    /// Where it is applied.
    #[serde(default)]
    pub at: RewardAt,
}

/// A linear layer of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadLayer {
    /// Its number in a head of several layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Its outputs.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        let layer = HeadLayer {
            number: None,
            outputs: 1,
            bias: false,
        };
        Self {
            names: HeadNames::Score,
            layers: vec![layer],
            activation: None,
            output: None,
            at: RewardAt::Last,
        }
    }
}

/// What a user says about a head beyond its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadChoices {
    /// Between the layers.
    pub activation: Option<HeadActivation>,
    /// The output that is the reward.
    pub output: Option<usize>,
    /// Where the head is applied.
    pub at: Option<RewardAt>,
}

impl HeadConfig {
    pub(super) fn parse(root: &Fields) -> Result<Self> {
        match root.get(HEAD) {
            None => Ok(Self::default()),
            Some(section) => {
                serde_json::from_value(section.clone()).map_err(|e| Error::invalid(e).at(HEAD))
            }
        }
    }

    /// The same head with these choices.
    pub(super) fn with(mut self, choices: &HeadChoices) -> Self {
        self.activation = choices.activation.or(self.activation);
        self.output = choices.output.or(self.output);
        if let Some(at) = &choices.at {
            self.at = at.clone();
        }
        self
    }

    /// Whether it is one layer with one output and no bias, which training draws where a checkpoint has none.
    pub fn is_drawn(&self) -> bool {
        self.layers == Self::default().layers
    }

    /// The number of outputs of the last layer.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// The output that is the reward.
    pub(crate) fn reward_output(&self) -> usize {
        self.output.unwrap_or(0)
    }

    /// Refuses a head that is not known completely.
    pub(crate) fn check(&self) -> Result<()> {
        let outputs = self.outputs();
        let problem = match (self.activation, self.output) {
            (None, _) if self.layers.len() > 1 => {
                "several layers, and no file says the activation between them: name it (--head-activation, in training \
                 head_activation)"
                    .to_owned()
            }
            (_, None) if outputs > 1 => format!(
                "{outputs} outputs, and no file says which is the reward: name it (--head-output, in training head_output)"
            ),
            (_, Some(output)) if output >= outputs => {
                format!("output: expected less than {outputs}, got {output}")
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(problem).at(HEAD))
    }
}

/// The head of a folder's weights, unless it is the usual one or none.
pub(super) fn stored(folder: &Path) -> Option<Value> {
    // A folder without weights, or with broken ones, is refused where they are read.
    let weights = Checkpoint::open(folder).ok()?;
    let found = HeadNames::ALL.into_iter().find_map(|names| {
        let layers = layers(&weights, names.stored());
        (!layers.is_empty()).then_some((names, layers))
    });
    let (names, layers) = found?;
    let head = HeadConfig {
        names,
        layers,
        ..HeadConfig::default()
    };
    (head != HeadConfig::default()).then(|| json!(head))
}

/// The highest number of a member is below this. Activations and dropout have numbers and no tensors.
const MEMBERS: usize = 16;

/// The linear layers of the module `name`: itself, or its numbered members.
fn layers(weights: &Checkpoint, name: &str) -> Vec<HeadLayer> {
    let layer = |number: Option<usize>| {
        let full = number.map_or(name.to_owned(), |number| format!("{name}.{number}"));
        let weight = weights.info(&format!("{full}.weight")).ok()?;
        Some(HeadLayer {
            number,
            outputs: *weight.shape.first()?,
            bias: weights.contains(&format!("{full}.bias")),
        })
    };
    let numbers = (0..MEMBERS).map(Some);
    std::iter::once(None)
        .chain(numbers)
        .filter_map(layer)
        .collect()
}
