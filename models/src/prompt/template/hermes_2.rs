//! `Hermes-2`: InternVL2 1B, 40B and 76B.

use super::markup::{Frame, INTERNVL, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const SYSTEM_MESSAGE: &str = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, \
                              是一个有用无害的人工智能助手。";

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "Hermes-2",
    jinja: &[],
    markup: Markup {
        opening: &[],
        system_message: Some(SYSTEM_MESSAGE),
        system: Frame {
            header: &[Token("<|im_start|>"), Text("system\n")],
            end: &[Token("<|im_end|>")],
        },
        user: Frame {
            header: &[Token("<|im_start|>"), Text("user\n")],
            end: &[Token("<|im_end|>")],
        },
        assistant: Frame {
            header: &[Token("<|im_start|>"), Text("assistant\n")],
            end: &[Token("<|im_end|>")],
        },
        gap: "",
        images: Some(INTERNVL),
        strips: false,
        strips_system: false,
        closes_empty: false,
        reasons: false,
    },
};
