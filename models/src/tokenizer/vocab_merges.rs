//! Byte-level BPE from vocab.json and merges.txt: Qwen2's tokenizer.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::engine::{Specials, refused};
use super::files::read_file;
use super::settings::Settings;
use super::words::Words;
use crate::{Error, Result};

/// The regular expression by which Qwen2 cuts text into words, within which it merges.
pub const QWEN2_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);

type Vocabulary = HashMap<String, u32>;
type Merges = Vec<(String, String)>;

pub(super) struct ByteLevel {
    model: BPE,
    words: Sequence,
    length: usize,
}

impl ByteLevel {
    /// `merges` join words of `vocabulary` to words of it.
    pub(super) fn new(vocabulary: Vocabulary, merges: Merges) -> Result<Self> {
        let pattern = SplitPattern::Regex(QWEN2_WORDS.to_owned());
        let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        let bytes = byte_level::ByteLevel::new(false, false, false);
        let steps: Vec<PreTokenizerWrapper> = vec![words.map_err(refused)?.into(), bytes.into()];
        Ok(Self {
            length: vocabulary.len(),
            model: BPE::new(vocabulary.into_iter().collect(), merges),
            words: Sequence::new(steps),
        })
    }

    fn cut(&self, text: &str) -> tokenizers::Result<tokenizers::Encoding> {
        let mut parts = PreTokenizedString::from(text);
        self.words.pre_tokenize(&mut parts)?;
        parts.tokenize(|part| self.model.tokenize(part.get()))?;
        parts.into_encoding(None, 0, OffsetType::Byte)
    }
}

impl Words for ByteLevel {
    fn encode(&self, text: &str, _: Specials, into: &mut Vec<(u32, usize)>) -> Result<()> {
        let encoding = self.cut(text).map_err(refused)?;
        let starts = encoding.get_offsets().iter().map(|offsets| offsets.0);
        into.extend(encoding.get_ids().iter().copied().zip(starts));
        Ok(())
    }

    fn id(&self, word: &str) -> Option<u32> {
        self.model.token_to_id(word)
    }

    fn len(&self) -> usize {
        self.length
    }
}

/// vocab.json: every id below the number of words once, and a word for every byte.
pub(super) fn read_vocabulary(file: &Path) -> Result<Vocabulary> {
    let parsed = serde_json::from_slice(&read_file(file)?).map_err(Error::invalid);
    let checked = parsed.and_then(|vocabulary| check_vocabulary(&vocabulary).map(|()| vocabulary));
    checked.map_err(|e| e.at(file.display()))
}

fn check_vocabulary(vocabulary: &Vocabulary) -> Result<()> {
    let mut taken = vec![false; vocabulary.len()];
    for id in vocabulary.values() {
        if let Some(place) = taken.get_mut(*id as usize) {
            *place = true;
        }
    }
    if let Some(id) = taken.iter().position(|taken| !taken) {
        let words = vocabulary.len();
        return Err(Error::invalid(format!(
            "expected the ids 0 to {} of its {words} words, but none has id {id}",
            words.saturating_sub(1)
        )));
    }
    let alphabet = byte_level::ByteLevel::alphabet();
    let lacks = |symbol: &char| !vocabulary.contains_key(symbol.encode_utf8(&mut [0; 4]));
    match alphabet.into_iter().filter(lacks).min() {
        Some(symbol) => Err(Error::invalid(format!(
            "expected a word for each of the 256 bytes, but {symbol:?} is missing"
        ))),
        None => Ok(()),
    }
}

/// merges.txt: a head line `#version…`, then two words of `vocabulary` on each line, in order of priority. They make every
/// word that is neither a byte nor a special token.
pub(super) fn read_merges(
    file: &Path,
    vocabulary: &Vocabulary,
    settings: &Settings,
) -> Result<Merges> {
    let text = String::from_utf8(read_file(file)?);
    let text = text.map_err(|e| Error::invalid(e).at(file.display()))?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if (number == 0 && line.starts_with("#version:")) || line.trim().is_empty() {
            continue;
        }
        let merge = parse_merge(line, vocabulary);
        merges.push(merge.map_err(|e| e.at(format!("{}:{}", file.display(), number + 1)))?);
    }
    check_complete(&merges, vocabulary, settings).map_err(|e| e.at(file.display()))?;
    Ok(merges)
}

/// Merges that are cut short leave words that no text can have.
fn check_complete(merges: &Merges, vocabulary: &Vocabulary, settings: &Settings) -> Result<()> {
    let mut made: HashSet<String> = merges
        .iter()
        .map(|(left, right)| format!("{left}{right}"))
        .collect();
    made.extend(settings.special_tokens().map(str::to_owned));
    let is_byte = |word: &str| word.chars().nth(1).is_none();
    let missing = vocabulary
        .iter()
        .filter(|(word, _)| !is_byte(word) && !made.contains(*word));
    let missing: Vec<_> = missing.map(|(word, &id)| (id, word)).collect();
    match missing.iter().min() {
        Some((id, word)) => Err(Error::invalid(format!(
            "no merge makes {} of the vocabulary's words, such as {word:?} (id {id}): the file is cut short or of another \
             tokenizer",
            missing.len()
        ))),
        None => Ok(()),
    }
}

fn parse_merge(line: &str, vocabulary: &Vocabulary) -> Result<(String, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [left, right] = words[..] else {
        let count = words.len();
        return Err(Error::invalid(format!("expected two words, got {count}")));
    };
    for word in [left, right, &format!("{left}{right}")] {
        if !vocabulary.contains_key(word) {
            return Err(Error::invalid(format!(
                "merge of {left:?} and {right:?}: the vocabulary has no {word:?}"
            )));
        }
    }
    Ok((left.to_owned(), right.to_owned()))
}
