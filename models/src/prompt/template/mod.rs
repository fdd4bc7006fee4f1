//! The conversation templates of the published models, as data: one file each, and the table of all.

mod chatml;
mod hermes_2;
mod internlm2_chat;
mod internvl2_5;
mod internvl_hf;
mod internvl_zh;
mod llama3;
mod markup;
mod phi3_chat;
mod qwen2_5;
mod qwen3;
mod qwen_vl;
mod reasoning;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::chat::TagStyle;
use crate::hash::hash;
use crate::tokenizer::{Additions, Tokenizer};
use crate::{Error, Result};
use markup::{INTERNVL, TemplateSpec};
pub(super) use markup::{ImageMarkup, Markup};
pub(super) use reasoning::Place;

/// Every template.
static TEMPLATES: [TemplateSpec; 13] = [
    hermes_2::TEMPLATE,
    internlm2_chat::TEMPLATE,
    phi3_chat::TEMPLATE,
    internvl_zh::TEMPLATE,
    internvl2_5::TEMPLATE,
    internvl_hf::TEMPLATE,
    chatml::TEMPLATE,
    qwen2_5::TEMPLATE,
    qwen3::TEMPLATE,
    qwen_vl::QWEN2_VL,
    qwen_vl::QWEN3_VL,
    llama3::LLAMA3,
    llama3::LLAMA3_1,
];

/// A conversation template, by its published name. A model's config.json names the one that it needs.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Template(&'static TemplateSpec);

impl Template {
    /// The published names of all templates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|template| template.name)
    }

    /// The template that prints what this Jinja text prints, if it is a known one. Texts are compared, not interpreted.
    pub(crate) fn of_jinja(text: &str) -> Option<Self> {
        Self::of_hash(&hash(text.trim()))
    }

    fn of_hash(hash: &str) -> Option<Self> {
        let mut templates = TEMPLATES.iter();
        let found = templates.find(|template| template.jinja.contains(&hash));
        found.map(Self)
    }

    /// The published name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The added tokens of the template, some of them several times.
    pub fn tokens(self) -> impl Iterator<Item = &'static str> {
        self.markup().tokens()
    }

    /// Opens a folder's tokenizer for conversations in this template: one with InternVL's images adds the tokens that its
    /// published code adds.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn tokenizer(self, folder: &Path) -> Result<Tokenizer> {
        let images = self.markup().images.as_ref();
        let additions = match images.is_some_and(|images| images.context == INTERNVL.context) {
            true => Additions::Published,
            false => Additions::None,
        };
        Tokenizer::open_with(folder, additions)
    }

    /// Where an image stands that has no tag, or whether a tag of the only image stays in its text.
    pub fn tag_style(self) -> TagStyle {
        let images = self.markup().images.as_ref();
        images.map_or(TagStyle::Inline, |images| images.tags)
    }

    pub(super) fn markup(self) -> &'static Markup {
        &self.0.markup
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.name())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = TEMPLATES.iter().find(|template| template.name == name);
        found.map(Self).ok_or_else(|| {
            let known: Vec<_> = Self::names().collect();
            let known = known.join(", ");
            Error::invalid(format!("template: expected one of {known}, got {name:?}"))
        })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.name().to_owned()
    }
}

impl TryFrom<String> for Template {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

#[cfg(test)]
mod tests;
