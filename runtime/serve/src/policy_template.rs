//! The templates of policies: trainers that send templated text send the conversation in it. Known headers are taken off;
//! anything else that looks like one is an error, never text to score.

use std::str::FromStr;

use seeward_models::chat::{IMAGE_TAG, Role};

use crate::errors::Refusal;

/// Placeholders of images, each with the token that is repeated in it.
const PLACEHOLDERS: [(&str, &str, &str); 3] = [
    ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
    ("<img>", "<IMG_CONTEXT>", "</img>"),
    ("<|vision_start|>", "<|image|>", "<|vision_end|>"),
];

/// Marks that no text of a conversation has.
const MARKS: [&str; 12] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<IMG_CONTEXT>",
    "<|endoftext|>",
];

/// How a policy's trainer writes conversations as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PolicyTemplate {
    /// One of the others, by the marks in the text.
    #[default]
    Auto,
    /// `<|im_start|>role\n…<|im_end|>`: Qwen, InternVL.
    Chatml,
    /// `<|start_header_id|>role<|end_header_id|>\n\n…<|eot_id|>`.
    Llama3,
    /// Text without a template.
    None,
}

/// A message of a templated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// The marks around a message.
struct Markup {
    opening: &'static str,
    start: &'static str,
    gap: &'static str,
    end: &'static str,
}

const CHATML: Markup = Markup {
    opening: "",
    start: "<|im_start|>",
    gap: "\n",
    end: "<|im_end|>",
};
const LLAMA3: Markup = Markup {
    opening: "<|begin_of_text|>",
    start: "<|start_header_id|>",
    gap: "<|end_header_id|>\n\n",
    end: "<|eot_id|>",
};

impl FromStr for PolicyTemplate {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "chatml" => Ok(Self::Chatml),
            "llama3" => Ok(Self::Llama3),
            "none" => Ok(Self::None),
            _ => Err("expected auto, chatml, llama3 or none".to_owned()),
        }
    }
}

impl PolicyTemplate {
    /// The messages of a prompt; without a template, one of the user.
    ///
    /// # Errors
    /// A text of another template.
    pub(crate) fn turns(self, prompt: &str) -> Result<Vec<Turn>, Refusal> {
        let Some(markup) = self.markup(prompt) else {
            let content = with_tags(prompt);
            check(&content)?;
            return Ok(vec![Turn {
                role: Role::User,
                content,
            }]);
        };
        let mut turns = split(prompt, markup)?;
        // The header of the response.
        turns.pop_if(|turn| turn.role == Role::Assistant && turn.content.is_empty());
        Ok(turns)
    }

    /// The response of a sample that begins with `prompt`.
    ///
    /// # Errors
    /// It begins with another one.
    pub(crate) fn response(self, sample: &str, prompt: &str) -> Result<String, Refusal> {
        if self.markup(sample).is_some() {
            return self.last_turn(sample);
        }
        let (sample, prompt) = (with_tags(sample), with_tags(prompt));
        let response = sample.strip_prefix(&prompt).ok_or_else(|| {
            Refusal::unprocessable("query: expected the prompt at its beginning, got another text")
        })?;
        check(response)?;
        Ok(response.to_owned())
    }

    /// The response of a sample: its last turn, which is the assistant's.
    ///
    /// # Errors
    /// A text of another template, or that ends with another turn.
    pub(crate) fn last_turn(self, sample: &str) -> Result<String, Refusal> {
        let no_template = || {
            Refusal::unprocessable(
                "query: expected a conversation in the template chatml or llama3",
            )
        };
        let markup = self.markup(sample).ok_or_else(no_template)?;
        match split(sample, markup)?.pop() {
            Some(turn) if turn.role == Role::Assistant => Ok(turn.content),
            _ => Err(Refusal::unprocessable(
                "query: expected the assistant's message at its end",
            )),
        }
    }

    fn markup(self, text: &str) -> Option<&'static Markup> {
        match self {
            Self::None => None,
            Self::Chatml => Some(&CHATML),
            Self::Llama3 => Some(&LLAMA3),
            Self::Auto => [&CHATML, &LLAMA3]
                .into_iter()
                .find(|markup| text.contains(markup.start)),
        }
    }
}

fn split(text: &str, markup: &Markup) -> Result<Vec<Turn>, Refusal> {
    let text = text.strip_prefix(markup.opening).unwrap_or(text);
    let mut parts = text.split(markup.start);
    if parts.next().is_some_and(|before| !before.trim().is_empty()) {
        let problem = format!("prompt: expected {} at its beginning", markup.start);
        return Err(Refusal::unprocessable(problem));
    }
    parts.map(|part| turn(part, markup)).collect()
}

fn turn(part: &str, markup: &Markup) -> Result<Turn, Refusal> {
    let (role, content) = part.split_once(markup.gap).unwrap_or((part, ""));
    let role = match role.trim() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let problem =
                format!("prompt: expected a turn of user, assistant or system, got {other}");
            return Err(Refusal::unprocessable(problem));
        }
    };
    // A response that was cut off has no end; after an end come white space and the end of the text.
    let content = match content.split_once(markup.end) {
        Some((content, rest)) => {
            check(rest.trim_start_matches("<|endoftext|>"))?;
            content
        }
        None => content,
    };
    let content = with_tags(content);
    check(&content)?;
    Ok(Turn { role, content })
}

/// The text with a tag for each run of an image's placeholders.
fn with_tags(text: &str) -> String {
    let mut text = text.to_owned();
    for (start, token, end) in PLACEHOLDERS {
        let mut from = 0;
        while let Some(at) = text[from..].find(start).map(|at| from + at) {
            let inner = &text[at + start.len()..];
            let rest = inner.trim_start_matches(token);
            let is_run = rest.len() < inner.len() && rest.starts_with(end);
            from = at + start.len();
            if is_run {
                let length = text.len() - rest.len() + end.len() - at;
                text.replace_range(at..at + length, IMAGE_TAG);
                from = at + IMAGE_TAG.len();
            }
        }
    }
    text
}

fn check(text: &str) -> Result<(), Refusal> {
    match MARKS.iter().find(|mark| text.contains(**mark)) {
        None => Ok(()),
        Some(mark) => Err(Refusal::unprocessable(format!(
            "prompt: expected a text in the template chatml or llama3 (--policy-template), got {mark} in a message"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: Role, content: &str) -> Turn {
        Turn {
            role,
            content: content.to_owned(),
        }
    }

    const AUTO: PolicyTemplate = PolicyTemplate::Auto;
    const PROMPT: &str = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>\
                          <|vision_end|>what color?<|im_end|>\n<|im_start|>assistant\n";

    #[test]
    fn templates_are_taken_off() {
        let expected = [
            turn(Role::System, "Be brief."),
            turn(Role::User, "<image>what color?"),
        ];
        assert_eq!(AUTO.turns(PROMPT).unwrap(), expected);
        let llama = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|><|start_header_id|>\
                     assistant<|end_header_id|>\n\n";
        assert_eq!(AUTO.turns(llama).unwrap(), [turn(Role::User, "q")]);
        assert_eq!(AUTO.turns("plain").unwrap(), [turn(Role::User, "plain")]);
    }

    #[test]
    fn a_response_is_what_follows_the_prompt_however_often_images_are_padded() {
        let pads = "<|image_pad|>".repeat(7);
        for end in ["", "<|im_end|>", "<|im_end|>\n", "<|im_end|><|endoftext|>"] {
            let sample = PROMPT.replace("<|image_pad|>", &pads) + "Red.\n" + end;
            assert_eq!(AUTO.response(&sample, PROMPT).unwrap(), "Red.\n");
        }
        assert_eq!(AUTO.response("q? Red.", "q?").unwrap(), " Red.");
        let padded = "<img><IMG_CONTEXT><IMG_CONTEXT></img>q Red.";
        assert_eq!(AUTO.response(padded, "<image>q").unwrap(), " Red.");
        assert!(AUTO.response("other", "q?").is_err());
        assert!(
            AUTO.response(PROMPT.split("<|im_start|>assistant").next().unwrap(), "")
                .is_err()
        );
    }

    #[test]
    fn marks_of_another_template_are_refused() {
        for text in [
            "<|im_start|>tool\nx<|im_end|>",
            "x<|im_start|>user\nq<|im_end|>",
            "<|im_start|>user\na<|eot_id|><|im_end|>",
            "<|im_start|>user\n<|vision_start|><|vision_end|><|im_end|>",
            "<|im_start|>user\na<|im_end|>b<|im_end|>",
        ] {
            assert!(AUTO.turns(text).is_err(), "{text}");
        }
        assert!(PolicyTemplate::None.turns(PROMPT).is_err());
        assert!("qwen".parse::<PolicyTemplate>().is_err());
    }
}
