//! The tensors of a network: each knows its part, its layer and its role, so that no caller has to parse its name.

use super::branch::Branch;
use super::ops::Bias;
use crate::checkpoint::Required;

/// A part of a reward model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The vision encoder.
    Vision,
    /// The projector from the vision encoder's tokens to the language model's.
    Projector,
    /// The language model.
    Language,
    /// The score head.
    Head,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 4] = [Self::Vision, Self::Projector, Self::Language, Self::Head];

    /// Its module's name inside a branch: the first component of its tensors' names.
    pub fn module(self) -> &'static str {
        match self {
            Self::Vision => "vision_model",
            Self::Projector => "mlp1",
            Self::Language => "language_model",
            Self::Head => "score",
        }
    }

    /// The prefix of its tensors' names in a checkpoint that holds them as this branch.
    pub fn scope(self, branch: Branch) -> String {
        format!("{}{}.", branch.prefix(), self.module())
    }
}

/// The role of a tensor inside its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The table of token embeddings.
    TokenEmbedding,
    /// The convolution that embeds patches.
    PatchEmbedding,
    /// The class token.
    ClassEmbedding,
    /// The embedding of a patch's place.
    PositionEmbedding,
    /// Scale or shift of a norm.
    Norm,
    /// Scale of a block's residual branch.
    LayerScale,
    /// A linear layer of attention.
    Attention(AttentionLinear),
    /// A linear layer of a feed-forward network.
    Mlp(MlpLinear),
    /// The projection to next-token logits.
    OutputProjection,
    /// The projection to the reward.
    Score,
}

/// A linear layer of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionLinear {
    /// To queries.
    Query,
    /// To keys.
    Key,
    /// To values.
    Value,
    /// To queries, keys and values in one tensor.
    Packed,
    /// From the heads.
    Output,
}

/// A linear layer of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MlpLinear {
    /// To the gate.
    Gate,
    /// To the hidden width.
    Up,
    /// To gate and hidden width in one tensor.
    Packed,
    /// From the hidden width.
    Down,
}

/// A tensor of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether a checkpoint may lack it: the score head of a chat model, the output projection of any, as no reward passes it.
    pub optional: bool,
    /// The reward model that it belongs to.
    pub branch: Branch,
    /// The part of that model.
    pub part: Part,
    /// The block of that part, counted from 0; `None` outside the blocks.
    pub layer: Option<usize>,
    /// Its role.
    pub kind: Kind,
    /// Whether it is a bias (of a linear layer, a convolution or a norm).
    pub is_bias: bool,
}

/// Whether the tensor of this name belongs to a score head.
pub fn is_of_head(name: &str) -> bool {
    let branches = [Branch::Main, Branch::TextOnly];
    let mut scopes = branches.map(|branch| Part::Head.scope(branch)).into_iter();
    scopes.any(|scope| name.starts_with(&scope))
}

impl Parameter {
    /// The entry of a checkpoint that holds it.
    pub fn required(&self) -> Required<'_> {
        Required {
            name: &self.name,
            shape: &self.shape,
            optional: self.optional,
        }
    }

    /// Its name inside its branch.
    pub fn local_name(&self) -> &str {
        self.branch.strip(&self.name).unwrap_or(&self.name)
    }

    /// Whether it is the weight [out, in] of a linear layer in a block.
    pub fn is_block_linear(&self) -> bool {
        let is_linear = matches!(self.kind, Kind::Attention(_) | Kind::Mlp(_));
        self.layer.is_some() && is_linear && !self.is_bias
    }
}

/// Collects the parameters of one branch.
pub(super) struct Inventory {
    branch: Branch,
    part: Part,
    layer: Option<usize>,
    /// The prefix of names in the open block or part.
    scope: String,
    parameters: Vec<Parameter>,
}

impl Inventory {
    pub(super) fn new(branch: Branch) -> Self {
        Self {
            branch,
            part: Part::Vision,
            layer: None,
            scope: String::new(),
            parameters: Vec::new(),
        }
    }

    pub(super) fn into_parameters(self) -> Vec<Parameter> {
        self.parameters
    }

    /// Starts a part: the following tensors belong to it.
    pub(super) fn part(&mut self, part: Part) {
        self.part = part;
        self.layer = None;
        self.scope = part.scope(self.branch);
    }

    /// Adds the parameters of a block of the open part.
    pub(super) fn block(&mut self, name: &str, layer: usize, add: impl FnOnce(&mut Self)) {
        let outer = self.scope.len();
        self.scope += &format!("{name}.{layer}.");
        self.layer = Some(layer);
        add(self);
        self.layer = None;
        self.scope.truncate(outer);
    }

    /// A tensor with this name inside the open block or part.
    pub(super) fn add(&mut self, name: impl AsRef<str>, kind: Kind, shape: &[usize]) {
        let parameter = self.parameter(name.as_ref(), kind, shape);
        self.parameters.push(parameter);
    }

    /// The same, of a tensor that a checkpoint may lack.
    pub(super) fn optional(&mut self, name: impl AsRef<str>, kind: Kind, shape: &[usize]) {
        let parameter = self.parameter(name.as_ref(), kind, shape);
        self.parameters.push(Parameter {
            optional: true,
            ..parameter
        });
    }

    fn bias(&mut self, name: &str, kind: Kind, width: usize) {
        self.bias_named(format!("{name}.bias"), kind, width);
    }

    /// A bias with this name inside the open block or part.
    pub(super) fn bias_named(&mut self, name: impl AsRef<str>, kind: Kind, width: usize) {
        let parameter = self.parameter(name.as_ref(), kind, &[width]);
        self.parameters.push(Parameter {
            is_bias: true,
            ..parameter
        });
    }

    fn parameter(&self, name: &str, kind: Kind, shape: &[usize]) -> Parameter {
        Parameter {
            name: format!("{}{name}", self.scope),
            shape: shape.to_vec(),
            optional: false,
            branch: self.branch,
            part: self.part,
            layer: self.layer,
            kind,
            is_bias: false,
        }
    }

    /// `name.weight` of this shape [out, …] and, with a bias, `name.bias`.
    pub(super) fn linear(&mut self, name: &str, kind: Kind, shape: &[usize], bias: Bias) {
        self.add(format!("{name}.weight"), kind, shape);
        if bias == Bias::Yes {
            self.bias(name, kind, shape[0]);
        }
    }

    pub(super) fn layer_norm(&mut self, name: &str, width: usize) {
        self.rms_norm(name, width);
        self.bias(name, Kind::Norm, width);
    }

    pub(super) fn rms_norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), Kind::Norm, &[width]);
    }
}
