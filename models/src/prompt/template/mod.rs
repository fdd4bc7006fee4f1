//! The conversation templates of the published models, as data: one file each, and the table of all.

mod hermes_2;
mod internlm2_chat;
mod internvl2_5;
mod internvl_zh;
mod markup;
mod phi3_chat;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};
pub(super) use markup::Markup;
use markup::TemplateSpec;

/// Every template.
static TEMPLATES: [TemplateSpec; 5] = [
    hermes_2::TEMPLATE,
    internlm2_chat::TEMPLATE,
    phi3_chat::TEMPLATE,
    internvl_zh::TEMPLATE,
    internvl2_5::TEMPLATE,
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

    /// The published name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The added tokens of the template, some of them several times.
    pub fn tokens(self) -> impl Iterator<Item = &'static str> {
        self.markup().tokens()
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
