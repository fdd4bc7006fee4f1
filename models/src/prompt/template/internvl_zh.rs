//! `internvl_zh`: without a system message.

use super::markup::{Frame, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "internvl_zh",
    jinja: &[],
    markup: Markup {
        opening: &[Text(" ")],
        user: Frame {
            header: &[Text("<human>:")],
            end: &[Text(" ")],
        },
        assistant: Frame {
            header: &[Text("<bot>:")],
            end: &[Token("</s>")],
        },
        gap: " ",
        has_images: true,
        strips: false,
        closes_empty: false,
    },
};
