//! The choice of a folder's tokenizer files.

use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::json::Json;
use super::sentencepiece::{self, SentencePiece};
use super::settings::Settings;
use super::slow::{Rules, Slow};
use super::vocab_merges::{self, ByteLevel};
use crate::{Error, Result};

const TOKENIZER_JSON: &str = "tokenizer.json";
const TOKENIZER_MODEL: &str = "tokenizer.model";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// Every file that a tokenizer may consist of. They are copied together: another folder with the same files gives the
/// same ids. The last two are the Python code that InternLM2's tokenizer_config.json refers to.
const FILES: [&str; 9] = [
    TOKENIZER_MODEL,
    VOCAB,
    MERGES,
    TOKENIZER_JSON,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenization_internlm2.py",
    "tokenization_internlm2_fast.py",
];

/// Those of [`FILES`] that `folder` has.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let files = FILES.map(|name| folder.join(name));
    files.into_iter().filter(|file| file.is_file()).collect()
}

/// The source of a tokenizer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    SentencePiece,
    VocabMerges,
    Json,
}

impl Source {
    /// Best first: the slow tokenizers' files before the fast ones'.
    const ALL: [Self; 3] = [Self::SentencePiece, Self::VocabMerges, Self::Json];

    fn files(self) -> &'static [&'static str] {
        match self {
            Self::SentencePiece => &[TOKENIZER_MODEL],
            Self::VocabMerges => &[VOCAB, MERGES],
            Self::Json => &[TOKENIZER_JSON],
        }
    }

    /// The one that the Python class `name` reads. Any other class than these slow ones may have other rules for the
    /// same files; a `tokenizer.json` holds all rules, so it needs one.
    fn of_class(name: &str, folder: &Path) -> Result<Self> {
        match name {
            "InternLM2Tokenizer" | "LlamaTokenizer" => Ok(Self::SentencePiece),
            "Qwen2Tokenizer" => Ok(Self::VocabMerges),
            other if other.ends_with("Fast") || Self::Json.is_in(folder)? => Ok(Self::Json),
            other => Err(Error::invalid(format!(
                "tokenizer_class: expected InternLM2Tokenizer, LlamaTokenizer, Qwen2Tokenizer, or a {TOKENIZER_JSON} next \
                 to it, got {other}"
            ))),
        }
    }

    /// Its files that `folder` has, and those that it lacks.
    fn sort(self, folder: &Path) -> (Vec<&'static str>, Vec<&'static str>) {
        let files = self.files().iter().copied();
        files.partition(|name| folder.join(name).is_file())
    }

    /// Whether `folder` has its files.
    ///
    /// # Errors
    /// Some are there and some are missing.
    fn is_in(self, folder: &Path) -> Result<bool> {
        match self.sort(folder) {
            (has, lacks) if has.is_empty() || lacks.is_empty() => Ok(lacks.is_empty()),
            (has, lacks) => {
                let problem = format!("{} is missing next to {}", lacks[0], has[0]);
                Err(Error::invalid(problem).at(folder.display()))
            }
        }
    }
}

/// The tokenizer of the class in tokenizer_config.json; without a class, of the best files in the folder. Qwen2's three
/// files give the same ids, so that any will do; SentencePiece's model is not replaced by a
/// tokenizer.json, whose ids may differ.
pub(super) fn read(folder: &Path) -> Result<Box<dyn Engine>> {
    let settings = Settings::read(folder)?;
    match choose(folder, &settings)? {
        Source::SentencePiece => sentencepiece_engine(folder, &settings),
        Source::VocabMerges => vocab_merges_engine(folder, &settings),
        Source::Json => Ok(Box::new(Json::read(&folder.join(TOKENIZER_JSON))?)),
    }
}

fn choose(folder: &Path, settings: &Settings) -> Result<Source> {
    let class = settings
        .class()
        .map(|name| Ok((name, Source::of_class(name, folder)?)));
    let class = class.transpose().map_err(|e| settings.place(e))?;
    if let Some((name, own)) = class {
        if own.is_in(folder)? {
            return Ok(own);
        }
        if own == Source::SentencePiece && Source::Json.is_in(folder)? {
            return Err(no_model(folder, name));
        }
    }
    for source in Source::ALL {
        if source.is_in(folder)? {
            return Ok(source);
        }
    }
    Err(missing(folder))
}

fn no_model(folder: &Path, class: &str) -> Error {
    Error::invalid(format!(
        "{class} reads {TOKENIZER_MODEL}, which is missing; {TOKENIZER_JSON} may give other ids (to use it \
         anyway, name the class that ends in Fast in tokenizer_config.json)"
    ))
    .at(folder.display())
}

fn sentencepiece_engine(folder: &Path, settings: &Settings) -> Result<Box<dyn Engine>> {
    settings.refuse_unsupported()?;
    let file = folder.join(TOKENIZER_MODEL);
    let rules = if settings.is_legacy() {
        Rules::SENTENCEPIECE
    } else {
        Rules::llama_not_legacy(settings.adds_prefix_space())
    };
    let model = sentencepiece::Model::read(&file)?;
    let words =
        SentencePiece::new(model, settings.is_legacy()).map_err(|e| e.at(file.display()))?;
    Ok(Box::new(Slow::new(Box::new(words), rules, settings)?))
}

fn vocab_merges_engine(folder: &Path, settings: &Settings) -> Result<Box<dyn Engine>> {
    settings.refuse_unsupported()?;
    let vocabulary = vocab_merges::read_vocabulary(&folder.join(VOCAB))?;
    let merges = vocab_merges::read_merges(&folder.join(MERGES), &vocabulary, settings)?;
    let words = ByteLevel::new(vocabulary, merges)?;
    Ok(Box::new(Slow::new(
        Box::new(words),
        Rules::QWEN2,
        settings,
    )?))
}

/// The error that lists the expected and the present files.
fn missing(folder: &Path) -> Error {
    let sources = Source::ALL.map(|source| source.files().join(" with "));
    let present = files(folder);
    let names = present.iter().filter_map(|file| file.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let got = if names.is_empty() {
        "none of them, nor any companion".to_owned()
    } else {
        names.join(", ")
    };
    Error::invalid(format!(
        "no tokenizer: expected {}; got {got}",
        sources.join(", or ")
    ))
    .at(folder.display())
}
