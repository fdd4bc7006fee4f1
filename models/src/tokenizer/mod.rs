//! Text to token ids, exactly as the published models' own tokenizers do it.
//!
//! The published code asks for the *slow* Python tokenizers (`use_fast=False`), so their files come first: a
//! `tokenizer.json` next to them may differ (Phi3's drops the blank between `<s>` and `<|system|>`) and is then ignored.
//! `source` chooses the files; `slow` (a SentencePiece model, or a byte-level vocabulary with its merges) and `json` (a
//! `tokenizer.json`) read them.

mod added;
mod aligned;
mod engine;
mod files;
mod json;
mod sentencepiece;
mod settings;
mod slow;
mod source;
mod vocab_merges;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use engine::{Additions, Piece, Tokens};
pub use engine::{Specials, VISION_TOKENS};
pub use vocab_merges::QWEN2_WORDS;
pub(crate) use words::is_python_space;

use crate::Result;
use engine::Engine;

/// The tokenizer of one checkpoint or bundle. Threads may share it.
pub struct Tokenizer {
    engine: Box<dyn Engine>,
    files: Vec<PathBuf>,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`. Missing [`VISION_TOKENS`] are added after its vocabulary.
    ///
    /// # Errors
    /// No known tokenizer files there, or ones that are malformed or need an unsupported feature.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, Additions::Published)
    }

    /// The same with a choice of what is added.
    pub(crate) fn open_with(folder: &Path, additions: Additions) -> Result<Self> {
        Ok(Self {
            engine: source::read(folder, additions)?,
            files: source::files(folder),
        })
    }

    /// The ids of `text`, with the tokens that the tokenizer adds to every text (InternLM2, Phi3: a leading `<s>`).
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
        self.engine.encode_parsed(text)
    }

    /// The concatenated `pieces`, in which nothing but the tokens among them is special. If the texts spell no
    /// special tokens, the result is that of [`Self::encode_parsed`].
    pub(crate) fn encode_pieces(&self, pieces: &[Piece]) -> Result<Tokens> {
        self.engine.encode_pieces(pieces)
    }

    /// The id of `token`, an added one or not.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.engine.id(token)
    }

    /// Whether `token` is an added one: it stays whole wherever a text has it.
    pub(crate) fn adds(&self, token: &str) -> bool {
        self.engine.adds(token)
    }

    /// Whether a text is cut before the added `token`: its ids are then those of the text up to there, and those of the rest
    /// without what the tokenizer adds to every text.
    pub(crate) fn cuts_before(&self, token: &str) -> bool {
        self.engine.cuts_before(token)
    }

    /// The rows that an embedding table needs: one more than the largest id, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.engine.vocabulary()
    }

    /// The number of [`VISION_TOKENS`] that no file of the folder has: they were added here, with the last ids. The
    /// published code then resizes the embedding table to [`Self::vocabulary`] rows.
    pub fn new_tokens(&self) -> usize {
        self.engine.new_tokens()
    }

    /// The files to copy so that this tokenizer can be opened elsewhere, by this program and by others.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary())
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
