//! `qwen2.5`: ChatML with Qwen2.5's system message.

use super::chatml;
use super::markup::{Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

const SYSTEM_MESSAGE: &str = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

pub(super) const TEMPLATE: TemplateSpec = TemplateSpec {
    name: "qwen2.5",
    jinja: &["55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a"],
    markup: Markup {
        opening: &[
            Token("<|im_start|>"),
            Text("system\n"),
            Text(SYSTEM_MESSAGE),
            Token("<|im_end|>"),
            Text("\n"),
        ],
        ..chatml::TEMPLATE.markup
    },
};
