//! `llama3` and `llama3.1`, whose system message has the dates that the published template has by default.

use super::markup::{Frame, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const LLAMA3: TemplateSpec = TemplateSpec {
    name: "llama3",
    jinja: &[
        "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122",
        "4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c",
    ],
    markup: Markup {
        opening: &[Token("<|begin_of_text|>")],
        system_message: None,
        system: Frame {
            header: &[
                Token("<|start_header_id|>"),
                Text("system"),
                Token("<|end_header_id|>"),
                Text("\n\n"),
            ],
            end: &[Token("<|eot_id|>")],
        },
        user: Frame {
            header: &[
                Token("<|start_header_id|>"),
                Text("user"),
                Token("<|end_header_id|>"),
                Text("\n\n"),
            ],
            end: &[Token("<|eot_id|>")],
        },
        assistant: Frame {
            header: &[
                Token("<|start_header_id|>"),
                Text("assistant"),
                Token("<|end_header_id|>"),
                Text("\n\n"),
            ],
            end: &[Token("<|eot_id|>")],
        },
        gap: "",
        images: None,
        strips: true,
        strips_system: true,
        closes_empty: true,
        reasons: false,
    },
};

const DATES: &str = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

pub(super) const LLAMA3_1: TemplateSpec = TemplateSpec {
    name: "llama3.1",
    jinja: &["93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7"],
    markup: Markup {
        system_message: Some(""),
        system: Frame {
            header: &[
                Token("<|start_header_id|>"),
                Text("system"),
                Token("<|end_header_id|>"),
                Text("\n\n"),
                Text(DATES),
            ],
            end: &[Token("<|eot_id|>")],
        },
        ..LLAMA3.markup
    },
};
