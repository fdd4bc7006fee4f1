//! `qwen3`: ChatML with the reasoning of answers.

use super::chatml;
use super::markup::{Markup, TemplateSpec};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "qwen3",
    jinja: &["a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8"],
    markup: Markup {
        reasons: true,
        ..chatml::TEMPLATE.markup
    },
};
