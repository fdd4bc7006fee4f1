//! The families of language models as data: one file each, and the table of all.

mod internlm2;
mod layout;
mod llama;
mod phi3;
mod qwen2;
mod spec;

use std::fmt;

use crate::{Error, Result};
pub(crate) use layout::{Layout, Linear, LinearBias, Packing, Projections};
use spec::FamilySpec;
pub(crate) use spec::Flag;

/// Every family.
static FAMILIES: [FamilySpec; 4] = [
    qwen2::FAMILY,
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
        let found = FAMILIES
            .iter()
            .find(|family| family.architecture == architecture);
        found.map(Self).ok_or_else(|| {
            let supported: Vec<_> = FAMILIES.iter().map(|family| family.architecture).collect();
            let supported = supported.join(", ");
            Error::invalid(format!(
                "architecture {architecture} is not supported (supported: {supported})"
            ))
        })
    }

    /// Its class in `architectures`.
    pub fn architecture(self) -> &'static str {
        self.0.architecture
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
