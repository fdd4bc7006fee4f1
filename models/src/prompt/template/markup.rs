//! A template as data.

use super::reasoning::{self, Place};
use crate::chat::{Role, TagStyle};
use crate::tokenizer::Piece::{self, Text, Token};
use crate::tokenizer::is_python_space;

/// A template: one file and one entry of [`TEMPLATES`](super::TEMPLATES) add one.
pub(in super::super) struct TemplateSpec {
    /// Its published name.
    pub(super) name: &'static str,
    /// The sha256 of the Jinja texts, without white space at their ends, that print the same.
    pub(super) jinja: &'static [&'static str],
    /// The text and tokens around messages.
    pub(super) markup: Markup,
}

/// The text and tokens that a template puts around messages.
pub(in super::super) struct Markup {
    /// Before everything.
    pub(in super::super) opening: &'static [Piece<'static>],
    /// The system message of a conversation that has none; `None`: it has no system turn then.
    pub(super) system_message: Option<&'static str>,
    /// The frame of the system message, which is complete around an empty one too.
    pub(super) system: Frame,
    pub(super) user: Frame,
    pub(super) assistant: Frame,
    /// Between the header of a turn and a message that is not empty.
    pub(in super::super) gap: &'static str,
    /// The tokens of an image, at the place of an `<image>`; without them that is text like any other.
    pub(in super::super) images: Option<ImageMarkup>,
    /// Whether turns lose white space at their ends.
    pub(super) strips: bool,
    /// Whether the system message does.
    pub(super) strips_system: bool,
    /// Whether an empty message has its end, and not the header alone.
    pub(in super::super) closes_empty: bool,
    /// Whether the template writes the reasoning of answers in a separate place.
    pub(in super::super) reasons: bool,
}

/// What a template writes for an image.
pub(in super::super) struct ImageMarkup {
    /// Before its tokens.
    pub(in super::super) start: &'static str,
    /// Each of its tokens.
    pub(in super::super) context: &'static str,
    /// After its tokens.
    pub(in super::super) end: &'static str,
    /// The place of an image without a tag.
    pub(in super::super) tags: TagStyle,
}

/// InternVL's.
pub(super) const INTERNVL: ImageMarkup = ImageMarkup {
    start: "<img>",
    context: "<IMG_CONTEXT>",
    end: "</img>",
    tags: TagStyle::Line,
};

/// The frame of the messages of one role.
pub(in super::super) struct Frame {
    pub(in super::super) header: &'static [Piece<'static>],
    pub(in super::super) end: &'static [Piece<'static>],
}

impl Markup {
    pub(in super::super) fn frame(&self, role: Role) -> &Frame {
        match role {
            Role::System => &self.system,
            Role::User => &self.user,
            Role::Assistant => &self.assistant,
        }
    }

    /// The system turn: with `message`, unless it is empty.
    pub(in super::super) fn system_turn<'a>(&self, message: &'a str) -> Vec<Piece<'a>> {
        let given = Some(message).filter(|message| !message.is_empty());
        let Some(message) = given.or(self.system_message) else {
            return Vec::new();
        };
        let message = [Text(stripped(message, self.strips_system))];
        [self.system.header, &message, self.system.end].concat()
    }

    /// The message of a turn as the template prints it.
    pub(in super::super) fn message<'a>(&self, text: &'a str) -> &'a str {
        stripped(text, self.strips)
    }

    /// The answer at `place` of the conversation as the template prints it; nothing if it is empty.
    pub(in super::super) fn answer<'a>(&self, text: &'a str, place: Place) -> Vec<Piece<'a>> {
        let text = self.message(text);
        match self.reasons {
            true => reasoning::pieces(text, place),
            false if text.is_empty() => Vec::new(),
            false => vec![Text(text)],
        }
    }

    /// The tokens that the template is made of.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &'static str> {
        let frames = [&self.system, &self.user, &self.assistant];
        let frames = frames.map(|frame| frame.header.iter().chain(frame.end));
        let reasoning = reasoning::TOKENS.iter().filter(|_| self.reasons);
        let pieces = frames.into_iter().flatten().chain(self.opening);
        let pieces = pieces.chain(reasoning);
        pieces.filter_map(|piece| match piece {
            Token(token) => Some(*token),
            Text(_) => None,
        })
    }
}

fn stripped(text: &str, strips: bool) -> &str {
    match strips {
        true => text.trim_matches(is_python_space),
        false => text,
    }
}
