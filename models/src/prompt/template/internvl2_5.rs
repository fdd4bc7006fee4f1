//! `internvl2_5`: InternVL2.5 and 3.

use super::markup::{Frame, INTERNVL, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

const SYSTEM_MESSAGE: &str = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。";

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "internvl2_5",
    jinja: &[],
    markup: Markup {
        opening: &[],
        system_message: Some(SYSTEM_MESSAGE),
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
        images: Some(INTERNVL),
        strips: false,
        strips_system: false,
        closes_empty: false,
        reasons: false,
    },
};
