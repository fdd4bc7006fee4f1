//! `phi3-chat`: InternVL2 4B.

use super::hermes_2::SYSTEM_MESSAGE;
use super::markup::{Frame, INTERNVL, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "phi3-chat",
    jinja: &[],
    markup: Markup {
        opening: &[],
        system_message: Some(SYSTEM_MESSAGE),
        system: Frame {
            header: &[Token("<|system|>"), Text("\n")],
            end: &[Token("<|end|>")],
        },
        user: Frame {
            header: &[Token("<|user|>"), Text("\n")],
            end: &[Token("<|end|>")],
        },
        assistant: Frame {
            header: &[Token("<|assistant|>"), Text("\n")],
            end: &[Token("<|end|>")],
        },
        gap: "",
        images: Some(INTERNVL),
        strips: false,
        strips_system: false,
        closes_empty: false,
        reasons: false,
    },
};
