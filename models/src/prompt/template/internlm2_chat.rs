//! `internlm2-chat`: InternVL2 2B, 8B and 26B. The only template that strips messages.

use super::hermes_2;
use super::markup::{Markup, TemplateSpec};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "internlm2-chat",
    jinja: &[],
    markup: Markup {
        strips: true,
        ..hermes_2::TEMPLATE.markup
    },
};
