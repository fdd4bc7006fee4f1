//! `llm_config`: the language model.

use super::fields::{Fields, divides};
use super::rope;
use crate::rope::RopeSettings;
use crate::{Error, Result};

/// A family of language models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFamily {
    /// Qwen2 and Qwen2.5: q/k/v biases.
    Qwen2,
    /// Llama and Yi.
    Llama,
    /// InternLM2 and InternLM2.5: q/k/v packed by key head.
    InternLm2,
    /// Phi-3: q/k/v packed, gate and up packed.
    Phi3,
}

impl TextFamily {
    const ALL: [Self; 4] = [Self::Qwen2, Self::Llama, Self::InternLm2, Self::Phi3];

    /// Its class in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
            Self::InternLm2 => "InternLM2ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
        }
    }

    fn named(architecture: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|family| family.architecture() == architecture)
            .ok_or_else(|| {
                let supported = Self::ALL.map(Self::architecture).join(", ");
                Error::invalid(format!(
                    "architecture {architecture} is not supported (supported: {supported})"
                ))
            })
    }

    /// The kinds of `rope_scaling` that its published code computes.
    fn rope(self) -> rope::Supported {
        let scalings: &[_] = match self {
            Self::Qwen2 => &["dynamic"],
            Self::Llama => &["linear", "dynamic", "llama3"],
            Self::InternLm2 => &["linear", "dynamic"],
            Self::Phi3 => &["su", "longrope"],
        };
        rope::Supported {
            architecture: self.architecture(),
            scalings,
        }
    }
}

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
    /// How positions turn queries and keys.
    pub rope: RopeSettings,
    /// Whether the attention's q/k/v projections have biases; its output projection has one too, but in Qwen2.
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
        let (attention_bias, mlp_bias) = biases(fields, family)?;
        Ok(Self {
            family,
            hidden,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads,
            ffn: fields.size("intermediate_size")?,
            vocabulary: fields.size("vocab_size")?,
            norm_eps: fields.number("rms_norm_eps")?,
            rope: rope::settings(fields, head_dim, family.rope())?,
            attention_bias,
            mlp_bias,
            tied_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        })
    }
}

/// Of attention and MLP, with the defaults of the published classes.
fn biases(fields: &Fields, family: TextFamily) -> Result<(bool, bool)> {
    Ok(match family {
        TextFamily::Qwen2 => (true, false),
        TextFamily::Phi3 => (false, false),
        TextFamily::InternLm2 => (fields.flag_or("bias", true)?, false),
        TextFamily::Llama => (
            fields.flag_or("attention_bias", false)?,
            fields.flag_or("mlp_bias", false)?,
        ),
    })
}

/// A window that every conversation fits into hides nothing; a narrower one is not built.
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
