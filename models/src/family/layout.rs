//! Names and packing of a family's tensors, inside the language model and its layers.

/// The tensors of a family: pre-norm layers of grouped-query attention and a gated MLP.
pub(crate) struct Layout {
    /// The token embeddings.
    pub(crate) embeddings: &'static str,
    /// The output projection, unless it is tied to the embeddings.
    pub(crate) output: &'static str,
    /// The norm before attention.
    pub(crate) attention_norm: &'static str,
    /// Queries, keys and values.
    pub(crate) qkv: Projections<3>,
    /// The norms of every head's queries and of its keys, before their rotation.
    pub(crate) head_norms: Option<[&'static str; 2]>,
    /// From the heads.
    pub(crate) attention_output: Linear,
    /// The norm before the MLP.
    pub(crate) mlp_norm: &'static str,
    /// The MLP's gate and the projection that it scales.
    pub(crate) gate_up: Projections<2>,
    /// From the MLP's width.
    pub(crate) down: Linear,
}

/// A linear layer.
pub(crate) struct Linear {
    pub(crate) name: &'static str,
    pub(crate) bias: LinearBias,
}

/// Several linear layers over one input.
pub(crate) enum Projections<const N: usize> {
    /// Each a separate tensor.
    Separate {
        names: [&'static str; N],
        bias: LinearBias,
    },
    /// One tensor.
    Packed {
        name: &'static str,
        packing: Packing,
        bias: LinearBias,
    },
}

/// The order of projections in one tensor.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    /// One projection after the other.
    OneByOne,
    /// For each key head its share of every projection.
    ByKeyHead,
}

/// Whether a linear layer has a bias.
#[derive(Clone, Copy)]
pub(crate) enum LinearBias {
    /// Never.
    None,
    /// Where the attention has biases.
    Attention,
    /// Where the MLP has biases.
    Mlp,
}
