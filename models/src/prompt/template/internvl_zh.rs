//! `internvl_zh`: without a system message.

use super::markup::{Frame, INTERNVL, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "internvl_zh",
    jinja: &[],
    markup: Markup {
        opening: &[],
        system_message: Some(""),
        system: Frame {
            header: &[],
            end: &[Text(" ")],
        },
        user: Frame {
            header: &[Text("<human>:")],
            end: &[Text(" ")],
        },
        assistant: Frame {
            header: &[Text("<bot>:")],
            end: &[Token("</s>")],
        },
        gap: " ",
        images: Some(INTERNVL),
        strips: false,
        strips_system: false,
        closes_empty: false,
        reasons: false,
    },
};
