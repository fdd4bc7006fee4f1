//! A prompt that is tokenised once for all of its responses.
//!
//! Text is cut at a template's tokens, so the ids before the last token of the response's header are the same for every
//! response. They are those of the prompt followed by this token alone; the others are those of the text that begins with
//! it. In the same way one token stands for all of an image until its id is repeated. [`Tokenizer::cuts_before`] says
//! which tokenizers do so. Where a text hides the token or spells one of an image's, whole conversations are tokenised.
//!
//! [`Tokenizer::cuts_before`]: crate::tokenizer::Tokenizer::cuts_before

use super::conversation::Conversation;
use super::encoder::Encoder;
use super::script::{Script, bytes};
use crate::chat::{Message, Role};
use crate::image::Extent;
use crate::tokenizer::{Piece, Tokens};
use crate::{Error, Result, Text};

/// A prompt and its images, tokenised as far as no response changes it.
#[derive(Debug)]
pub struct SharedPrompt<'a> {
    encoder: &'a Encoder,
    seam: Option<&'a Seam>,
    messages: Vec<Message>,
    images: &'a [Extent],
    /// The number of the images' tokens.
    image_tokens: usize,
    /// `None` where responses may change it.
    opening: Option<Opening>,
}

/// The tokens before the last one of the response's header.
#[derive(Debug, Default)]
struct Opening {
    ids: Vec<u32>,
    image_tokens: Vec<usize>,
}

/// The last token of the response's header, which begins the second part of a conversation.
#[derive(Debug)]
pub(super) struct Seam {
    id: u32,
    /// The number of tokens that the tokenizer puts before a text that begins with it.
    added_before: usize,
}

/// The tokens of a conversation of any length.
struct Whole {
    ids: Vec<u32>,
    response_start: usize,
    image_tokens: Vec<usize>,
}

impl Seam {
    /// `None` if this template or tokenizer has none.
    pub(super) fn of(encoder: &Encoder) -> Option<Self> {
        let markup = encoder.settings.template.markup();
        let images = markup.images.as_ref();
        let images = images.filter(|_| encoder.settings.tokens_per_tile > 0);
        let header = markup.frame(Role::Assistant).header.iter().rev();
        let mut tokens = header.filter_map(|piece| match piece {
            Piece::Token(token) => Some(*token),
            Piece::Text(_) => None,
        });
        let token = tokens.next()?;
        let mut cuts = images
            .map(|images| images.context)
            .into_iter()
            .chain([token]);
        if !cuts.all(|token| encoder.tokenizer.cuts_before(token)) {
            return None;
        }
        let id = encoder.tokenizer.id(token)?;
        let alone = encoder.encode(&[Piece::Token(token)]).ok()?.ids;
        let first = alone.iter().position(|&other| other == id)?;
        let is_only = !alone[first + 1..].contains(&id);
        is_only.then_some(Self {
            id,
            added_before: first,
        })
    }
}

impl Opening {
    fn of(encoder: &Encoder, seam: &Seam, messages: &[Message], images: &[Extent]) -> Option<Self> {
        let markup = encoder.settings.template.markup();
        let script = Script::new(markup, messages, "", vec![1; images.len()]);
        let at = script.last_token()?;
        let tokens = encoder.encode(&script.pieces[..=at]).ok()?;
        let start = bytes(&script.pieces[..at]);
        let is_seam = |(&id, &place): (&u32, &usize)| id == seam.id && place == start;
        let end = tokens.ids.iter().zip(&tokens.starts).position(is_seam)?;
        let counts = images.iter().map(|image| encoder.image_tokens_of(image));
        Self::with_images(&tokens.ids[..end], encoder.context_id(), counts)
    }

    /// Repeats the token of each image; `None` if they are not as many as the images.
    fn with_images(
        ids: &[u32],
        context: Option<u32>,
        mut counts: impl Iterator<Item = usize>,
    ) -> Option<Self> {
        let mut opening = Self::default();
        for &id in ids {
            let mut count = 1;
            if Some(id) == context {
                count = counts.next()?;
                let first = opening.ids.len();
                opening.image_tokens.extend(first..first + count);
            }
            opening.ids.extend(std::iter::repeat_n(id, count));
        }
        counts.next().is_none().then_some(opening)
    }
}

impl<'a> SharedPrompt<'a> {
    pub(super) fn new(
        (encoder, seam): (&'a Encoder, Option<&'a Seam>),
        messages: Vec<Message>,
        images: &'a [Extent],
        image_tokens: usize,
    ) -> Self {
        Self {
            opening: seam.and_then(|seam| Opening::of(encoder, seam, &messages, images)),
            encoder,
            seam,
            messages,
            images,
            image_tokens,
        }
    }

    /// The ids of the conversation that ends with `response`.
    ///
    /// # Errors
    /// A literal `<IMG_CONTEXT>` (unless special tokens are literal), or image tokens that `max_length` cuts.
    pub fn conversation(&self, response: &str) -> Result<Conversation> {
        let joined = self.opening.as_ref();
        let joined = joined.and_then(|opening| self.joined(opening, response));
        let whole = match joined {
            Some(whole) => whole,
            None => self.whole(response)?,
        };
        self.check_placeholders(&whole)?;
        self.cut(whole)
    }

    /// The opening and the text after it. `None` if its first token, or all of it, cannot be found.
    fn joined(&self, opening: &Opening, response: &str) -> Option<Whole> {
        let seam = self.seam?;
        let script = self.script(response, vec![1; self.images.len()]);
        let at = script.last_token()?;
        let tokens = self.encoder.encode(&script.pieces[at..]).ok()?;
        let Tokens { ids, starts } = &tokens;
        let first = seam.added_before;
        if (ids.get(first), starts.get(first)) != (Some(&seam.id), Some(&0)) {
            return None;
        }
        let response_byte = bytes(&script.pieces[at..script.response]);
        let before = opening.ids.len();
        let own = &ids[first..];
        let images = self.encoder.image_tokens(own);
        Some(Whole {
            ids: [&opening.ids[..], own].concat(),
            response_start: before + first_after(&starts[first..], response_byte),
            image_tokens: [
                &opening.image_tokens[..],
                &images.map(|token| before + token).collect::<Vec<_>>(),
            ]
            .concat(),
        })
    }

    /// All of the conversation at once.
    fn whole(&self, response: &str) -> Result<Whole> {
        let images = self.images.iter();
        let counts = images.map(|image| self.encoder.image_tokens_of(image));
        let script = self.script(response, counts.collect());
        let tokens = self.encoder.encode(&script.pieces)?;
        let response_byte = bytes(&script.pieces[..script.response]);
        Ok(Whole {
            response_start: first_after(&tokens.starts, response_byte),
            image_tokens: self.encoder.image_tokens(&tokens.ids).collect(),
            ids: tokens.ids,
        })
    }

    fn script<'s>(&'s self, response: &'s str, image_tokens: Vec<usize>) -> Script<'s> {
        let markup = self.encoder.settings.template.markup();
        Script::new(markup, &self.messages, response, image_tokens)
    }

    /// Refuses texts that add image tokens to those of the images.
    fn check_placeholders(&self, whole: &Whole) -> Result<()> {
        let found = &whole.image_tokens;
        if found.len() == self.image_tokens {
            return Ok(());
        }
        let last = found.last();
        let text = match last.is_some_and(|&last| last >= whole.response_start) {
            true => Text::Response,
            false => Text::Prompt,
        };
        let token = self.encoder.image_context.map_or("", |(token, _)| token);
        Err(Error::ContextToken { token, text })
    }

    /// At most `max_length` tokens.
    fn cut(&self, whole: Whole) -> Result<Conversation> {
        let Whole {
            mut ids,
            response_start,
            image_tokens,
        } = whole;
        let length = ids.len().min(self.encoder.settings.max_length);
        if image_tokens.last().is_some_and(|&last| last >= length) {
            return Err(self.encoder.images_cut(self.image_tokens));
        }
        let truncated = length < ids.len();
        ids.truncate(length);
        Ok(Conversation {
            ids,
            response_start: response_start.min(length),
            truncated,
            image_tokens,
            images: self.images.to_vec(),
        })
    }
}

/// The index of the first token that starts at `byte` or later; their number if no token does.
fn first_after(starts: &[usize], byte: usize) -> usize {
    let first = starts.iter().position(|&start| start >= byte);
    first.unwrap_or(starts.len())
}

#[cfg(test)]
mod tests;
