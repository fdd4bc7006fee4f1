//! Words of a vocabulary, and the blanks between them.

use std::collections::HashSet;

use super::engine::Specials;
use crate::Result;

/// SentencePiece's blank.
pub(super) const BLANK: char = '\u{2581}';

/// A vocabulary, and how text without added tokens is cut into its words.
pub(super) trait Words: Send + Sync {
    /// Appends the ids of `text`, each with the byte that it starts at. With [`Specials::AsText`], special tokens
    /// of the vocabulary itself (SentencePiece's user-defined pieces) are not found.
    fn encode(&self, text: &str, specials: Specials, into: &mut Vec<(u32, usize)>) -> Result<()>;
    /// Declares the ids of special tokens.
    fn set_special(&mut self, _ids: HashSet<u32>) -> Result<()> {
        Ok(())
    }
    fn id(&self, word: &str) -> Option<u32>;
    /// The number of words; their ids are all below it.
    fn len(&self) -> usize;
}

/// Whether Python's `str.strip` removes `c`: Unicode white space and the four information separators.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
