//! The interface of a tokenizer, and its values.

use crate::{Error, Result};

/// The tokens that the published code adds to a language model's vocabulary, in its order.
pub const VISION_TOKENS: [&str; 9] = [
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
];

/// What a tokenizer adds to its files' tokens and to texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Additions {
    /// As InternVL's published code: the missing [`VISION_TOKENS`], and the tokens that the files add to every text.
    Published,
    /// Nothing: a chat template of transformers has every token that a conversation needs.
    None,
}

impl Additions {
    pub(super) fn vision_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Published => &VISION_TOKENS,
            Self::None => &[],
        }
    }
}

/// The reading of special tokens that are spelled in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// They become the special tokens, as in the published code.
    Parsed,
    /// They are text like any other.
    AsText,
}

/// A part of a text with known special tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Exactly one added token of the vocabulary.
    Token(&'a str),
    /// Text, even if it spells a token.
    Text(&'a str),
}

impl<'a> Piece<'a> {
    pub(crate) fn as_str(&self) -> &'a str {
        match self {
            Self::Token(text) | Self::Text(text) => text,
        }
    }
}

/// Token ids, each with its first byte in the text (0 for a token without text).
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) starts: Vec<usize>,
}

impl Tokens {
    pub(super) fn push(&mut self, id: u32, start: usize) {
        self.ids.push(id);
        self.starts.push(start);
    }
}

/// One kind of tokenizer.
pub(super) trait Engine: Send + Sync {
    /// `text` with every special token in it parsed.
    fn encode_parsed(&self, text: &str) -> Result<Tokens>;
    /// The concatenated `pieces`, in which nothing but the tokens among them is special.
    fn encode_pieces(&self, pieces: &[Piece]) -> Result<Tokens>;
    /// The id of a token, an added one or not.
    fn id(&self, token: &str) -> Option<u32>;
    /// Whether the token is an added one.
    fn adds(&self, token: &str) -> bool;
    /// Whether a text is cut before this added token, so that what stands before it and what follows have no influence
    /// on each other's ids.
    fn cuts_before(&self, token: &str) -> bool;
    /// One more than the largest id.
    fn vocabulary(&self) -> usize;
    /// The number of [`VISION_TOKENS`] that no file has.
    fn new_tokens(&self) -> usize;
}

/// Whether some of the `added` tokens could be found across the beginning of `token`, or in its place. The first character of
/// a token must not join one before it either, which those of ASCII do not.
pub(super) fn is_crossed<'a>(token: &str, added: impl IntoIterator<Item = &'a String>) -> bool {
    let crosses = |other: &String| {
        let later = other.char_indices().skip(1).map(|(at, _)| &other[at..]);
        let mut later = later.map(|rest| rest.starts_with(token) || token.starts_with(rest));
        later.any(|crosses| crosses) || (other != token && other.starts_with(token))
    };
    !token.starts_with(|c: char| c.is_ascii()) || added.into_iter().any(crosses)
}

pub(super) fn no_token(name: &str) -> Error {
    Error::invalid(format!("the tokenizer has no token {name}"))
}

/// A refusal of the tokenizers crate.
pub(super) fn refused(error: tokenizers::Error) -> Error {
    Error::invalid(format!("tokenizer: {error}"))
}
