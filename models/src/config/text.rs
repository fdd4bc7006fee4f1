//! `llm_config`: the language model.

use super::fields::{Fields, divides};
use super::rope;
use crate::family::{Flag, TextFamily};
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
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        let family = TextFamily::named(fields.first_text("architectures")?)?;
        fields.absent_or("hidden_act", "silu")?;
        let (hidden, heads) = (
            fields.size("hidden_size")?,
            fields.size("num_attention_heads")?,
        );
        divides("num_attention_heads", heads, "hidden_size", hidden)?;
        let kv_heads = fields.size_or("num_key_value_heads", heads)?;
        divides(
            "num_key_value_heads",
            kv_heads,
            "num_attention_heads",
            heads,
        )?;
        let head_dim = hidden / heads;
        fields.absent_or("head_dim", head_dim)?;
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
            ffn: fields.size("intermediate_size")?,
            vocabulary: fields.size("vocab_size")?,
            norm_eps: fields.number("rms_norm_eps")?,
            rope: rope::settings(fields, head_dim, family)?,
            attention_bias: flag(fields, attention_bias)?,
            mlp_bias: flag(fields, mlp_bias)?,
            tied_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        })
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
