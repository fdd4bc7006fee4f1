//! A template as data.

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

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Role {
    User,
    Assistant,
}

/// The text and tokens that a template puts around messages.
pub(in super::super) struct Markup {
    /// Before the first turn.
    pub(in super::super) opening: &'static [Piece<'static>],
    pub(super) user: Frame,
    pub(super) assistant: Frame,
    /// Between a header and a message that is not empty.
    pub(in super::super) gap: &'static str,
    /// Whether messages may have images, at the place of an `<image>`; otherwise that is text like any other.
    pub(in super::super) has_images: bool,
    /// Whether messages lose white space at their ends.
    pub(super) strips: bool,
    /// Whether an empty message has its end, and not the header alone.
    pub(in super::super) closes_empty: bool,
}

/// The frame of the messages of one role.
pub(in super::super) struct Frame {
    pub(in super::super) header: &'static [Piece<'static>],
    pub(in super::super) end: &'static [Piece<'static>],
}

impl Markup {
    pub(in super::super) fn frame(&self, role: Role) -> &Frame {
        match role {
            Role::User => &self.user,
            Role::Assistant => &self.assistant,
        }
    }

    /// The message as the template prints it.
    pub(in super::super) fn message<'a>(&self, text: &'a str) -> &'a str {
        if self.strips {
            text.trim_matches(is_python_space)
        } else {
            text
        }
    }

    /// The tokens that the template is made of.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &'static str> {
        let frames = [&self.user, &self.assistant];
        let frames = frames.map(|frame| frame.header.iter().chain(frame.end));
        let pieces = self.opening.iter().chain(frames.into_iter().flatten());
        pieces.filter_map(|piece| match piece {
            Token(token) => Some(*token),
            Text(_) => None,
        })
    }
}
