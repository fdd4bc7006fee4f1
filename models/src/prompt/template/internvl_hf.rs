//! `internvl-hf`: InternVL3 and 3.5 in transformers, without the system message of the published code.

use super::chatml;
use super::markup::{INTERNVL, Markup, TemplateSpec};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "internvl-hf",
    jinja: &[
        "b3e3fa7cdeceec1d3dfe0d17b77724baf3857714e688f3a700261567e96140eb",
        "201195cf8a29e2f5148c8f6f4aac7fe29b88643b175bbefa4df5595110e8c63a",
    ],
    markup: Markup {
        images: Some(INTERNVL),
        ..chatml::TEMPLATE.markup
    },
};
