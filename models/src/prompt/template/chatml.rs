//! `chatml`: no system message unless one is given, every message on its lines.

use super::markup::{Frame, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "chatml",
    jinja: &[
        "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3",
        "fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e",
        // Qwen3 of July 2025, which does not reason.
        "64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326",
    ],
    markup: Markup {
        opening: &[],
        system_message: None,
        system: Frame {
            header: &[Token("<|im_start|>"), Text("system\n")],
            end: &[Token("<|im_end|>"), Text("\n")],
        },
        user: Frame {
            header: &[Token("<|im_start|>"), Text("user\n")],
            end: &[Token("<|im_end|>"), Text("\n")],
        },
        assistant: Frame {
            header: &[Token("<|im_start|>"), Text("assistant\n")],
            end: &[Token("<|im_end|>"), Text("\n")],
        },
        gap: "",
        images: None,
        strips: false,
        strips_system: false,
        closes_empty: true,
        reasons: false,
    },
};
