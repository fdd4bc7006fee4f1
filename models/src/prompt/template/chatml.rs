//! `chatml`: no system message unless one is given, every message on its lines.

use super::markup::{Frame, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "chatml",
    jinja: &[
        "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3",
        "fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e",
    ],
    markup: Markup {
        opening: &[],
        user: Frame {
            header: &[Token("<|im_start|>"), Text("user\n")],
            end: &[Token("<|im_end|>"), Text("\n")],
        },
        assistant: Frame {
            header: &[Token("<|im_start|>"), Text("assistant\n")],
            end: &[Token("<|im_end|>"), Text("\n")],
        },
        gap: "",
        has_images: false,
        strips: false,
        closes_empty: true,
    },
};
