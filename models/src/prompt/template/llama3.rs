//! `llama3` and `llama3.1`, whose system message has the dates that the published template has by default.

use super::markup::{Frame, Markup, TemplateSpec};
use crate::tokenizer::Piece::{Text, Token};

pub(super) const LLAMA3: TemplateSpec = TemplateSpec {
    name: "llama3",
    jinja: &["ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122"],
    markup: Markup {
        opening: &[Token("<|begin_of_text|>")],
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
        has_images: false,
        strips: true,
        closes_empty: true,
    },
};

const DATES: &str = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

pub(super) const LLAMA3_1: TemplateSpec = TemplateSpec {
    name: "llama3.1",
    jinja: &["93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7"],
    markup: Markup {
        opening: &[
            Token("<|begin_of_text|>"),
            Token("<|start_header_id|>"),
            Text("system"),
            Token("<|end_header_id|>"),
            Text("\n\n"),
            Text(DATES),
            Token("<|eot_id|>"),
        ],
        ..LLAMA3.markup
    },
};
