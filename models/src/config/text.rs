//! `llm_config`: the language model.

use serde_json::Value;

use super::fields::{Fields, divides};
use super::rope::{self, Axes};
use crate::family::{Flag, HeadSize, TextFamily};
use crate::rope::RopeSettings;
use crate::{Error, Result};

/// The language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Its architecture.
    pub family: TextFamily,
    /// Width of a token.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one attention head.
    pub head_dim: usize,
    /// Width of the gated MLP.
    pub ffn: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// The rotary position settings.
    pub rope: RopeSettings,
    /// Whether the attention's q/k/v projections have biases; its output projection has one too, except in Qwen2.
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether the output projection is the embedding table.
    pub tied_embeddings: bool,
}

impl TextConfig {
    /// Width of all query heads together.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Whether every head's queries and keys are normed.
    pub fn has_head_norms(&self) -> bool {
        self.family.layout().head_norms.is_some()
    }

    /// Width of all key heads together.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Reads a model that is named by its class or, without one, by its type.
    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        match fields.get("architectures") {
            Some(_) => {
                let class = fields.first_text("architectures")?;
                Self::of_family(fields, TextFamily::named(class)?, None)
            }
            None => Self::parse_inner(fields),
        }
    }

    /// Reads a model that is named by its type.
    pub(super) fn parse_inner(fields: &Fields) -> Result<Self> {
        let family = TextFamily::of_type(fields.required_text("model_type")?)?;
        Self::of_family(fields, family, None)
    }

    /// Reads a model of this family, whose positions have the given axes or one.
    pub(super) fn of_family(
        fields: &Fields,
        family: TextFamily,
        axes: Option<&Axes>,
    ) -> Result<Self> {
        fields.absent_or("hidden_act", "silu")?;
        let (hidden, heads) = (
            fields.size("hidden_size")?,
            fields.size("num_attention_heads")?,
        );
        let kv_heads = fields.size_or("num_key_value_heads", heads)?;
        divides(
            "num_key_value_heads",
            kv_heads,
            "num_attention_heads",
            heads,
        )?;
        let head_dim = head_dim(fields, family, hidden, heads)?;
        fields.absent_or("partial_rotary_factor", 1.0)?;
        divides("rotary pairs of 2", 2, "head size", head_dim)?;
        whole_window(fields)?;
        let [attention_bias, mlp_bias] = family.biases();
        Ok(Self {
            family,
            hidden,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            ffn: fields.size("intermediate_size")?,
            vocabulary: fields.size("vocab_size")?,
            norm_eps: fields.number("rms_norm_eps")?,
            rope: rope::settings(fields, head_dim, family, axes)?,
            attention_bias: flag(fields, attention_bias)?,
            mlp_bias: flag(fields, mlp_bias)?,
            tied_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        })
    }
}

fn head_dim(fields: &Fields, family: TextFamily, hidden: usize, heads: usize) -> Result<usize> {
    match family.head_size() {
        HeadSize::Key { default } => fields.size_or("head_dim", default),
        HeadSize::Share => {
            divides("num_attention_heads", heads, "hidden_size", hidden)?;
            fields.absent_or("head_dim", hidden / heads)?;
            Ok(hidden / heads)
        }
    }
}

fn flag(fields: &Fields, flag: Flag) -> Result<bool> {
    match flag {
        Flag::Fixed(value) => Ok(value),
        Flag::Key { name, default } => fields.flag_or(name, default),
    }
}

/// Accepts windows that every conversation fits into; narrower ones are not supported.
fn whole_window(fields: &Fields) -> Result<()> {
    full_attention(fields)?;
    if fields.get("use_sliding_window").is_some() {
        return fields.absent_or("use_sliding_window", false);
    }
    if fields.get("sliding_window").is_none() {
        return Ok(());
    }
    let (window, positions) = (
        fields.size("sliding_window")?,
        fields.size("max_position_embeddings")?,
    );
    if window < positions {
        return Err(Error::invalid(format!(
            "sliding_window: {window} is not supported (supported: at least max_position_embeddings, {positions})"
        )));
    }
    Ok(())
}

/// Refuses layers of another kind of attention, such as sliding windows or linear attention.
fn full_attention(fields: &Fields) -> Result<()> {
    const FULL: &str = "full_attention";
    let kinds = fields.get("layer_types").and_then(Value::as_array);
    let mut others = kinds.into_iter().flatten().filter(|kind| *kind != FULL);
    match others.next() {
        None => Ok(()),
        Some(kind) => Err(Error::invalid(format!(
            "layer_types: {kind} is not supported (supported: {FULL} alone)"
        ))),
    }
}
