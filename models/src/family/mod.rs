//! The families of language models as data: one file each, and the table of all.

mod internlm2;
mod layout;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod spec;

use std::fmt;

use crate::{Error, Result};
pub(crate) use layout::{Layout, Linear, LinearBias, Packing, Projections};
use spec::FamilySpec;
pub(crate) use spec::{Flag, HeadSize};

/// Every family.
static FAMILIES: [FamilySpec; 5] = [
    qwen2::FAMILY,
    qwen3::FAMILY,
    llama::FAMILY,
    internlm2::FAMILY,
    phi3::FAMILY,
];

/// A family of language models, by its architecture.
#[derive(Clone, Copy)]
pub struct TextFamily(&'static FamilySpec);

impl TextFamily {
    /// The family of this class in `architectures`.
    ///
    /// # Errors
    /// An architecture that is not supported.
    pub fn named(architecture: &str) -> Result<Self> {
        Self::find("architecture", architecture, |family| family.architecture)
    }

    /// The family of this `model_type`.
    ///
    /// # Errors
    /// A type that is not supported.
    pub(crate) fn of_type(model_type: &str) -> Result<Self> {
        Self::find("model_type", model_type, |family| family.model_type)
    }

    fn find(what: &str, name: &str, of: fn(&FamilySpec) -> &'static str) -> Result<Self> {
        let found = FAMILIES.iter().find(|family| of(family) == name);
        found.map(Self).ok_or_else(|| {
            let supported: Vec<_> = FAMILIES.iter().map(of).collect();
            let (reason, supported) = (reason(name), supported.join(", "));
            Error::invalid(format!(
                "{what} {name} is not supported{reason} (supported: {supported})"
            ))
        })
    }

    /// Its class in `architectures`.
    pub fn architecture(self) -> &'static str {
        self.0.architecture
    }

    /// The width of a head.
    pub(crate) fn head_size(self) -> HeadSize {
        self.0.head_size
    }

    /// The kinds of `rope_scaling` that its published code computes.
    pub(crate) fn scalings(self) -> &'static [&'static str] {
        self.0.scalings
    }

    /// Whether attention and MLP have biases.
    pub(crate) fn biases(self) -> [Flag; 2] {
        [self.0.attention_bias, self.0.mlp_bias]
    }

    /// Names and packing of its tensors.
    pub(crate) fn layout(self) -> &'static Layout {
        &self.0.layout
    }
}

/// Why a family is not supported, if its name has it.
fn reason(name: &str) -> &'static str {
    let name = name.to_lowercase().replace('_', "");
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if is(&["moe", "gptoss", "mixtral"]) {
        ": a mixture of experts"
    } else if is(&["qwen35", "qwen3next"]) {
        ": layers of linear attention"
    } else {
        ""
    }
}

impl PartialEq for TextFamily {
    fn eq(&self, other: &Self) -> bool {
        self.architecture() == other.architecture()
    }
}

impl Eq for TextFamily {}

impl fmt::Debug for TextFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextFamily({})", self.architecture())
    }
}
