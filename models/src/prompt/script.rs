//! A conversation before tokenisation.

use std::vec;

use super::template::{ImageMarkup, Markup, Place};
use crate::chat::{IMAGE_TAG, Message, Role};
use crate::tokenizer::Piece;

/// A conversation in pieces: the template's and the images' tokens, and text.
pub(super) struct Script<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    /// The index of the last message's first piece.
    pub(super) response: usize,
}

impl<'a> Script<'a> {
    /// `messages`, maybe one of the system first, and the response to them; each image has its number of `image_tokens`.
    pub(super) fn new(
        markup: &'static Markup,
        messages: &'a [Message],
        response: &'a str,
        image_tokens: Vec<usize>,
    ) -> Self {
        let (system, turns) = match messages {
            [first, turns @ ..] if first.role == Role::System => (&*first.content, turns),
            turns => ("", turns),
        };
        let mut images = Images {
            tokens: image_tokens.into_iter(),
            markup: markup.images.as_ref(),
        };
        let mut script = Script {
            pieces: [markup.opening, &markup.system_turn(system)].concat(),
            response: 0,
        };
        let (places, last) = Place::all(turns);
        for (turn, place) in turns.iter().zip(places) {
            let message = match turn.role {
                Role::User => images.placed(markup.message(&turn.content)),
                _ => markup.answer(&turn.content, place),
            };
            script.write(markup, turn.role, message);
        }
        script.write(markup, Role::Assistant, markup.answer(response, last));
        script
    }

    /// Writes a turn.
    fn write(&mut self, markup: &Markup, role: Role, message: Vec<Piece<'a>>) {
        let (frame, is_empty) = (markup.frame(role), message.is_empty());
        self.pieces.extend(frame.header);
        if !is_empty {
            self.pieces.push(Piece::Text(markup.gap));
        }
        self.response = self.pieces.len();
        self.pieces.extend(message);
        if !is_empty || markup.closes_empty {
            self.pieces.extend(frame.end);
        }
    }

    /// The index of the last token before the response.
    pub(super) fn last_token(&self) -> Option<usize> {
        let is_token = |piece: &Piece| matches!(piece, Piece::Token(_));
        self.pieces[..self.response].iter().rposition(is_token)
    }

    pub(super) fn text(&self) -> String {
        text(&self.pieces)
    }
}

pub(super) fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(Piece::as_str).collect()
}

/// The length of the text in bytes.
pub(super) fn bytes(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.as_str().len()).sum()
}

/// The images that have no tag yet.
struct Images {
    tokens: vec::IntoIter<usize>,
    markup: Option<&'static ImageMarkup>,
}

impl Images {
    /// A message with the next image for each tag; nothing if it is empty.
    fn placed<'a>(&mut self, mut text: &'a str) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        if text.is_empty() {
            return pieces;
        }
        while let Some((before, after)) = text.split_once(IMAGE_TAG)
            && let Some(markup) = self.markup
            && let Some(tokens) = self.tokens.next()
        {
            let context = Piece::Token(markup.context);
            pieces.extend([Piece::Text(before), Piece::Token(markup.start)]);
            pieces.extend(std::iter::repeat_n(context, tokens));
            pieces.push(Piece::Token(markup.end));
            text = after;
        }
        pieces.push(Piece::Text(text));
        pieces
    }
}
