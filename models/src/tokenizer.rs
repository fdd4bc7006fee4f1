//! Text to token ids, exactly as the published models' own tokenizers do it. What defines a tokenizer is a file beside
//! the checkpoint; each kind of file is one entry of [`SOURCES`].

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::{
    AddedToken, Encoding, Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString,
    PreTokenizer, Token, normalizer,
};

use crate::{Error, Result};

type Read = fn(&Path) -> Result<tokenizers::Tokenizer>;

/// What a tokenizer can be made from, best first.
const SOURCES: [(&str, Read); 1] = [("tokenizer.json", read_json)];

/// Files that other programs read a tokenizer from. They travel with it.
const COMPANIONS: [&str; 6] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// How special tokens that are written out in a text are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// They become the special tokens, as in the published code.
    Parsed,
    /// They are text like any other.
    AsText,
}

/// A part of a text whose special tokens are known beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Exactly one added token of the vocabulary.
    Token(&'a str),
    /// Text; whatever it looks like.
    Text(&'a str),
}

impl<'a> Piece<'a> {
    pub(crate) fn as_str(&self) -> &'a str {
        match self {
            Self::Token(text) | Self::Text(text) => text,
        }
    }
}

/// Token ids, and for each the byte of the text that it starts at (0 for one that stands for no text).
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) starts: Vec<usize>,
}

/// The tokenizer of one checkpoint or bundle. Threads may share it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    added: HashMap<String, AddedToken>,
    vocabulary: usize,
    files: Vec<PathBuf>,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`.
    ///
    /// # Errors
    /// No known tokenizer file there, or one that is malformed.
    pub fn open(folder: &Path) -> Result<Self> {
        let (file, read) = find_source(folder)?;
        let inner = read(&file)?;
        Ok(Self::new(inner, files_beside(folder, file)))
    }

    fn new(mut inner: tokenizers::Tokenizer, files: Vec<PathBuf>) -> Self {
        // Cutting and padding are the prompt's and the batch's affair.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        let last = inner.get_vocab(true).into_values().max();
        Self {
            added: added_tokens(&inner),
            vocabulary: last.map_or(0, |id| id as usize + 1),
            inner,
            files,
        }
    }

    /// The ids of `text`, with whatever the tokenizer puts around every text (InternLM2, Phi3: a leading `<s>`).
    ///
    /// # Errors
    /// The tokenizer has no id for some part of the text (one without unknown token and byte fallback).
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let tokens = match specials {
            Specials::Parsed => self.encode_parsed(text),
            Specials::AsText => self.encode_pieces(&[Piece::Text(text)]),
        };
        Ok(tokens?.ids)
    }

    /// `text` with every special token in it parsed.
    pub(crate) fn encode_parsed(&self, text: &str) -> Result<Tokens> {
        self.inner.encode(text, true).map(tokens).map_err(refused)
    }

    /// The concatenated `pieces`, in which nothing but the tokens among them is special. Where a text has no special
    /// tokens of its own, this gives what [`Self::encode_parsed`] does.
    pub(crate) fn encode_pieces(&self, pieces: &[Piece]) -> Result<Tokens> {
        let text: String = pieces.iter().map(Piece::as_str).collect();
        let cuts = self.cuts(&text, pieces)?;
        self.encode_cut(&text, &cuts).map(tokens).map_err(refused)
    }

    fn encode_cut(&self, text: &str, cuts: &[Cut]) -> tokenizers::Result<Encoding> {
        let mut parts = PreTokenizedString::from(text);
        parts.split(|_, whole| split(&whole, cuts))?;
        if let Some(normalizer) = self.inner.get_normalizer() {
            parts.normalize(|part| normalizer.normalize(part))?;
        }
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        parts.tokenize(|part| self.inner.get_model().tokenize(part.get()))?;
        let encoding = parts.into_encoding(None, 0, OffsetType::Byte)?;
        self.inner.post_process(encoding, None, true)
    }

    /// Where the tokens among `pieces` lie in `text`, in order.
    fn cuts(&self, text: &str, pieces: &[Piece]) -> Result<Vec<Cut>> {
        let mut cuts: Vec<Cut> = Vec::new();
        let mut start = 0;
        for piece in pieces {
            let end = start + piece.as_str().len();
            if let Piece::Token(token) = piece {
                let free = cuts.last().map_or(0, |cut| cut.range.end);
                cuts.push(self.cut(text, free, start..end, token)?);
            }
            start = end;
        }
        Ok(cuts)
    }

    /// One token, with the white space that its `lstrip` and `rstrip` swallow; nothing before `free`.
    fn cut(&self, text: &str, free: usize, token: Range<usize>, name: &str) -> Result<Cut> {
        let missing = || Error::invalid(format!("the tokenizer has no token {name}"));
        let added = self.added.get(name).ok_or_else(missing)?;
        let id = self.id(name).ok_or_else(missing)?;
        let Range { mut start, mut end } = token;
        if added.lstrip {
            start = start.min(free.max(text[..start].trim_end().len()));
        }
        if added.rstrip {
            end = text.len() - text[end..].trim_start().len();
        }
        let range = start..end;
        Ok(Cut { range, id })
    }

    /// The id of `token`, an added one or not.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether `token` is an added one: it stays whole wherever a text has it.
    pub(crate) fn adds(&self, token: &str) -> bool {
        self.added.contains_key(token)
    }

    /// The rows that an embedding table needs: one more than the largest id, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// What to copy so that this tokenizer can be opened elsewhere: the file it was read from, then its companions
    /// for other programs, as far as there are any.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// A token that lies at a known place of a text.
struct Cut {
    range: Range<usize>,
    id: u32,
}

type Part = (NormalizedString, Option<Vec<Token>>);

/// Cuts `whole` into its tokens and the text between them.
fn split(whole: &NormalizedString, cuts: &[Cut]) -> tokenizers::Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut done = 0;
    for cut in cuts {
        parts.push((slice(whole, done..cut.range.start)?, None));
        let part = slice(whole, cut.range.clone())?;
        let token = Token::new(cut.id, part.get().to_owned(), (0, cut.range.len()));
        parts.push((part, Some(vec![token])));
        done = cut.range.end;
    }
    parts.push((slice(whole, done..whole.get().len())?, None));
    Ok(parts)
}

fn slice(whole: &NormalizedString, range: Range<usize>) -> tokenizers::Result<NormalizedString> {
    let place = normalizer::Range::Normalized(range.clone());
    let outside = || format!("no text at {range:?}").into();
    whole.slice(place).ok_or_else(outside)
}

fn tokens(encoding: Encoding) -> Tokens {
    Tokens {
        ids: encoding.get_ids().to_vec(),
        starts: encoding.get_offsets().iter().map(|o| o.0).collect(),
    }
}

fn refused(error: tokenizers::Error) -> Error {
    Error::invalid(format!("tokenizer: {error}"))
}

fn find_source(folder: &Path) -> Result<(PathBuf, Read)> {
    let candidates = SOURCES.map(|(name, read)| (folder.join(name), read));
    let found = candidates.into_iter().find(|(file, _)| file.is_file());
    found.ok_or_else(|| {
        let wanted = SOURCES.map(|(name, _)| name).join(", ");
        Error::invalid(format!(
            "no tokenizer: expected {wanted} (the form that `save_pretrained` of a fast tokenizer writes)"
        ))
        .at(folder.display())
    })
}

fn files_beside(folder: &Path, source: PathBuf) -> Vec<PathBuf> {
    let companions = COMPANIONS.map(|name| folder.join(name));
    let present = companions.into_iter().filter(|file| file.is_file());
    std::iter::once(source).chain(present).collect()
}

fn added_tokens(inner: &tokenizers::Tokenizer) -> HashMap<String, AddedToken> {
    let tokens = inner.get_added_tokens_decoder().into_values();
    tokens.map(|token| (token.content.clone(), token)).collect()
}

fn read_json(file: &Path) -> Result<tokenizers::Tokenizer> {
    let bytes = fs::read(file).map_err(|e| Error::io(file, e))?;
    parse_json(&bytes).map_err(|e| e.at(file.display()))
}

fn parse_json(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(Error::invalid)?;
    let declared = serde_json::from_slice::<Declared>(bytes).map_err(Error::invalid)?;
    declared.check(&inner)?;
    Ok(inner)
}

/// What a tokenizer.json says about its added tokens. An id that does not follow from the vocabulary is only logged
/// by the tokenizers crate, and every id after it would pick the wrong embedding.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

impl Declared {
    fn check(&self, inner: &tokenizers::Tokenizer) -> Result<()> {
        for DeclaredToken { id, content } in &self.added_tokens {
            let got = inner.token_to_id(content);
            if got != Some(*id) {
                let got = got.map_or("none".into(), |id| id.to_string());
                return Err(Error::invalid(format!(
                    "added token {content}: expected id {id}, but its place in the vocabulary gives {got}"
                )));
            }
        }
        Ok(())
    }
}
