//! `qwen2-vl` of Qwen2-VL and Qwen2.5-VL, and `qwen3-vl`, which has no system message unless one is given.

use super::chatml;
use super::markup::{ImageMarkup, Markup, TemplateSpec};
use crate::chat::TagStyle;

const SYSTEM_MESSAGE: &str = "You are a helpful assistant.";

const IMAGES: ImageMarkup = ImageMarkup {
    start: "<|vision_start|>",
    context: "<|image_pad|>",
    end: "<|vision_end|>",
    tags: TagStyle::Inline,
};

pub(super) const QWEN2_VL: TemplateSpec = TemplateSpec {
    name: "qwen2-vl",
    jinja: &["a0bc6f6fc7a29a80017a433e8f03a1cc1236e838a944a2d034295a60c4f2fddb"],
    markup: Markup {
        system_message: Some(SYSTEM_MESSAGE),
        images: Some(IMAGES),
        ..chatml::TEMPLATE.markup
    },
};

pub(super) const QWEN3_VL: TemplateSpec = TemplateSpec {
    name: "qwen3-vl",
    jinja: &["9d879ef91075acbfb2df7e441fd79d60bacfca989cf6d511d2af45c681e94f10"],
    markup: Markup {
        images: Some(IMAGES),
        ..chatml::TEMPLATE.markup
    },
};
