//! Prompt, response and image tiles → the token ids that the network reads.
//!
//! The string is the published one: the family's template, each `<image>` tag replaced by the tokens of its image, in
//! InternVL `<img>`, `tokens_per_tile` times `<IMG_CONTEXT>` for every tile, `</img>`. The published code continues with a sequence whose image tokens do
//! not match its images; here that is an error.

mod template;

use std::slice;

use serde::{Deserialize, Serialize};

pub use template::Template;
use template::{ImageMarkup, Markup, Place};

use crate::chat::{IMAGE_TAG, Message, Prompt, Role};
use crate::image::Extent;
use crate::tokenizer::{Piece, Tokenizer, Tokens};
use crate::{Error, Result, Text};

/// All settings that decide the ids, except the tokenizer. Recorded in checkpoints and bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSettings {
    /// The conversation template.
    pub template: Template,
    /// Image tokens for one [unit](Extent::units) of an image: of a tile, or 1 in a grid of tokens; 0 for a model without
    /// vision, which sees the prompt without its `<image>` tags.
    pub tokens_per_tile: usize,
    /// The maximal number of tokens; the rest is cut off on the right.
    pub max_length: usize,
    /// Whether special tokens in a prompt or response are read as text; the published code parses them.
    pub literal_special_tokens: bool,
}

/// A tokenised conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// At most `max_length` of them.
    pub ids: Vec<u32>,
    /// The first token that lies wholly in the response (which includes its closing separator); `ids.len()` if the
    /// response is empty or cut off entirely. Labels of supervised training begin here.
    pub response_start: usize,
    /// Whether `max_length` cut tokens off.
    pub truncated: bool,
    /// Indices of the image tokens in `ids`, in order of the images, their tiles and the tokens of a tile.
    pub image_tokens: Vec<usize>,
    /// The extents of the images.
    pub images: Vec<Extent>,
}

/// Tokenises prompts and responses as conversations. Threads may share it.
#[derive(Debug)]
pub struct Prompter {
    tokenizer: Tokenizer,
    settings: PromptSettings,
    /// Name and id of the image tokens; `None` where no text is one.
    image_context: Option<(&'static str, u32)>,
}

impl Prompter {
    /// # Errors
    /// The tokenizer lacks a token of the template or of image tags, or a size is zero.
    pub fn new(tokenizer: Tokenizer, settings: PromptSettings) -> Result<Self> {
        check_sizes(&settings)?;
        check_tokens(&tokenizer, settings.template)?;
        Ok(Self {
            image_context: image_context(&tokenizer, &settings)?,
            tokenizer,
            settings,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The settings.
    pub fn settings(&self) -> &PromptSettings {
        &self.settings
    }

    /// The ids of one conversation about images of these extents.
    ///
    /// [`Prompt`] says where the images stand. What an empty message leaves depends on the template.
    ///
    /// # Errors
    /// `<image>` tags that do not match the images, messages in an order that no template has, a literal `<IMG_CONTEXT>`
    /// (unless special tokens are literal), or image tokens that `max_length` cuts.
    pub fn conversation(
        &self,
        prompt: &Prompt,
        response: &str,
        images: &[Extent],
    ) -> Result<Conversation> {
        let needed = self.count_image_tokens(images)?;
        let messages = self.messages(prompt, images.len())?;
        let script = self.script(&messages, response, images);
        let tokens = self.encode(&script)?;
        let conversation = self.cut(&tokens, script.response_byte(), needed)?;
        Ok(Conversation {
            images: images.to_vec(),
            ..conversation
        })
    }

    /// The string before tokenisation.
    ///
    /// # Errors
    /// Those of [`Self::conversation`] that concern the string.
    pub fn text(&self, prompt: &Prompt, response: &str, images: &[Extent]) -> Result<String> {
        self.count_image_tokens(images)?;
        let messages = self.messages(prompt, images.len())?;
        Ok(self.script(&messages, response, images).text())
    }

    fn messages(&self, prompt: &Prompt, images: usize) -> Result<Vec<Message>> {
        let template = self.settings.template;
        match (self.settings.tokens_per_tile, images) {
            (0, 0) if template.markup().images.is_none() => prompt.as_it_is(),
            (0, 0) => prompt.untagged(),
            (0, _) => Err(Error::NoVision { images }),
            _ => prompt.tagged(images, template.tag_style()),
        }
    }

    /// The number of image tokens, which must be within the length limit.
    fn count_image_tokens(&self, images: &[Extent]) -> Result<usize> {
        let units = images.iter().map(|image| image.units());
        if let Some(image) = units.clone().position(|units| units == 0) {
            return Err(Error::invalid(format!("image {} has no tiles", image + 1)));
        }
        let units = units.fold(0usize, usize::saturating_add);
        let needed = units.saturating_mul(self.settings.tokens_per_tile);
        if needed > self.settings.max_length {
            return Err(self.images_cut(needed));
        }
        Ok(needed)
    }

    fn images_cut(&self, needed: usize) -> Error {
        Error::ImageTokensCut {
            needed,
            max_length: self.settings.max_length,
        }
    }

    fn script<'a>(
        &self,
        messages: &'a [Message],
        response: &'a str,
        images: &'a [Extent],
    ) -> Script<'a> {
        let (system, turns) = match messages {
            [first, turns @ ..] if first.role == Role::System => (&*first.content, turns),
            turns => ("", turns),
        };
        let markup = self.settings.template.markup();
        let mut images = Images {
            extents: images.iter(),
            tokens_per_tile: self.settings.tokens_per_tile,
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

    fn encode(&self, script: &Script) -> Result<Tokens> {
        if self.settings.literal_special_tokens {
            self.tokenizer.encode_pieces(&script.pieces)
        } else {
            self.tokenizer.encode_parsed(&script.text())
        }
    }

    fn cut(&self, tokens: &Tokens, response_byte: usize, needed: usize) -> Result<Conversation> {
        let in_response = |&start: &usize| start >= response_byte;
        let first = tokens.starts.iter().position(in_response);
        let response_start = first.unwrap_or(tokens.ids.len());
        let image_tokens = self.image_tokens(&tokens.ids);
        self.check_placeholders(&image_tokens, needed, response_start)?;
        let length = tokens.ids.len().min(self.settings.max_length);
        if image_tokens.last().is_some_and(|&last| last >= length) {
            return Err(self.images_cut(needed));
        }
        Ok(Conversation {
            ids: tokens.ids[..length].to_vec(),
            response_start: response_start.min(length),
            truncated: length < tokens.ids.len(),
            image_tokens,
            images: Vec::new(),
        })
    }

    fn image_tokens(&self, ids: &[u32]) -> Vec<usize> {
        let context = self.image_context.map(|(_, id)| id);
        let is_image = |(at, &id): (usize, &u32)| (Some(id) == context).then_some(at);
        ids.iter().enumerate().filter_map(is_image).collect()
    }

    /// Refuses texts that add image tokens to those of the images.
    fn check_placeholders(
        &self,
        found: &[usize],
        needed: usize,
        response_start: usize,
    ) -> Result<()> {
        if found.len() == needed {
            return Ok(());
        }
        let in_response = found.last().is_some_and(|&last| last >= response_start);
        let text = match in_response {
            true => Text::Response,
            false => Text::Prompt,
        };
        let token = self.image_context.map_or("", |(token, _)| token);
        Err(Error::ContextToken { token, text })
    }
}

/// A conversation in pieces: the template's and the images' tokens, and text.
struct Script<'a> {
    pieces: Vec<Piece<'a>>,
    /// The index of the last message's first piece.
    response: usize,
}

impl<'a> Script<'a> {
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

    fn text(&self) -> String {
        self.pieces.iter().map(Piece::as_str).collect()
    }

    fn response_byte(&self) -> usize {
        let before = &self.pieces[..self.response];
        before.iter().map(|piece| piece.as_str().len()).sum()
    }
}

/// The images that have no tag yet.
struct Images<'a> {
    extents: slice::Iter<'a, Extent>,
    tokens_per_tile: usize,
    markup: Option<&'static ImageMarkup>,
}

impl Images<'_> {
    /// A message with the next image for each tag; nothing if it is empty.
    fn placed<'a>(&mut self, mut text: &'a str) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        if text.is_empty() {
            return pieces;
        }
        while let Some((before, after)) = text.split_once(IMAGE_TAG)
            && let Some(markup) = self.markup
            && let Some(image) = self.extents.next()
        {
            let context = Piece::Token(markup.context);
            let tokens = image.units() * self.tokens_per_tile;
            pieces.extend([Piece::Text(before), Piece::Token(markup.start)]);
            pieces.extend(std::iter::repeat_n(context, tokens));
            pieces.push(Piece::Token(markup.end));
            text = after;
        }
        pieces.push(Piece::Text(text));
        pieces
    }
}

fn check_sizes(settings: &PromptSettings) -> Result<()> {
    match settings.max_length {
        0 => Err(Error::invalid("max_length: expected at least 1, got 0")),
        _ => Ok(()),
    }
}

fn check_tokens(tokenizer: &Tokenizer, template: Template) -> Result<()> {
    let lacks = |token: &&str| !tokenizer.adds(token);
    match template.tokens().find(lacks) {
        Some(token) => Err(Error::invalid(format!(
            "template {template} needs the token {token}, which the tokenizer lacks (is it another model's template?)"
        ))),
        None => Ok(()),
    }
}

/// Name and id of image tokens, if the template has images.
fn image_context(
    tokenizer: &Tokenizer,
    settings: &PromptSettings,
) -> Result<Option<(&'static str, u32)>> {
    let (template, sees) = (settings.template, settings.tokens_per_tile > 0);
    let Some(images) = &template.markup().images else {
        return match sees {
            false => Ok(None),
            true => Err(Error::invalid(format!(
                "template {template} has no images, but the model has a vision encoder"
            ))),
        };
    };
    match tokenizer.id(images.context) {
        None if sees => {
            let problem = format!("the tokenizer has no token {}", images.context);
            Err(Error::invalid(problem))
        }
        id => Ok(id.map(|id| (images.context, id))),
    }
}
