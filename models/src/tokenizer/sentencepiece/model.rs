//! A SentencePiece BPE model: its pieces, and how it normalises text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};

use super::super::aligned::Aligned;
use super::super::files::read_file;
use super::super::words::BLANK;
use super::proto::{Kind, ModelProto, Piece};
use crate::{Error, Result};

const BPE: u64 = 2;

/// The pieces that text may consist of.
pub(super) struct Reading {
    user_defined: AhoCorasick,
    hidden: HashSet<u32>,
}

impl Reading {
    /// All pieces except `hidden` and those that text never contains.
    pub(super) fn new(pieces: &[Piece], hidden: HashSet<u32>) -> Result<Self> {
        let shown = (0..).zip(pieces).filter(|(id, _)| !hidden.contains(id));
        let symbols = shown.filter(|(_, piece)| piece.kind == Kind::UserDefined);
        let user_defined = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(symbols.map(|(_, piece)| &piece.text))
            .map_err(Error::invalid)?;
        Ok(Self {
            user_defined,
            hidden,
        })
    }

    pub(super) fn user_defined<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> {
        self.user_defined.find_iter(text).map(|found| found.range())
    }
}

/// A model from its file.
pub(in super::super) struct Model {
    pub(super) pieces: Vec<Piece>,
    pub(super) ids: HashMap<String, u32>,
    pub(super) parsed: Reading,
    pub(super) as_text: Reading,
    pub(super) unknown: u32,
    /// The pieces of the 256 bytes, which an unknown character falls back to.
    pub(super) bytes: Option<Vec<u32>>,
    pub(super) dummy_prefix: bool,
    pub(super) squeeze_blanks: bool,
}

impl Model {
    pub(in super::super) fn read(file: &Path) -> Result<Self> {
        let model = ModelProto::parse(&read_file(file)?).and_then(Self::new);
        model.map_err(|e| e.at(file.display()))
    }

    fn new(proto: ModelProto) -> Result<Self> {
        refuse_unsupported(&proto)?;
        let ids = ids(&proto.pieces)?;
        let unknown = proto.pieces.iter().position(|p| p.kind == Kind::Unknown);
        let unknown = unknown.ok_or_else(|| Error::invalid("no piece is the unknown one"))?;
        let bytes = (0..=u8::MAX).map(|byte| byte_piece(&ids, byte));
        let bytes = proto.byte_fallback.then(|| bytes.collect::<Result<_>>());
        Ok(Self {
            ids,
            parsed: Reading::new(&proto.pieces, HashSet::new())?,
            as_text: Reading::new(&proto.pieces, HashSet::new())?,
            unknown: u32::try_from(unknown).map_err(Error::invalid)?,
            bytes: bytes.transpose()?,
            dummy_prefix: proto.dummy_prefix,
            squeeze_blanks: proto.squeeze_blanks,
            pieces: proto.pieces,
        })
    }

    pub(super) fn piece(&self, id: u32) -> &Piece {
        &self.pieces[id as usize]
    }

    /// The id of a piece that text may consist of.
    pub(super) fn mergeable(&self, text: &str, reading: &Reading) -> Option<u32> {
        let id = self.ids.get(text).copied();
        id.filter(|id| {
            let kind = self.piece(*id).kind;
            matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused)
                && !reading.hidden.contains(id)
        })
    }

    /// Makes blanks visible; the model may require one in front, and no others at the ends or in a row.
    pub(super) fn normalise(&self, text: &str) -> Aligned {
        let mut normal = Aligned::with_capacity(text.len() + text.len() / 2);
        let leading = |c: char| self.squeeze_blanks && c == ' ';
        let skipped = text.len() - text.trim_start_matches(leading).len();
        if self.dummy_prefix && skipped < text.len() {
            normal.push(BLANK, skipped);
        }
        let mut after_blank = self.squeeze_blanks;
        for (at, c) in text.char_indices() {
            if !(c == ' ' && after_blank) {
                normal.push(if c == ' ' { BLANK } else { c }, at);
            }
            after_blank = self.squeeze_blanks && c == ' ';
        }
        if self.squeeze_blanks {
            normal.trim_end_matches(BLANK);
        }
        normal
    }
}

fn refuse_unsupported(proto: &ModelProto) -> Result<()> {
    let kind = match proto.model_type {
        BPE => None,
        1 => Some("unigram"),
        3 => Some("word"),
        4 => Some("char"),
        _ => Some("an unknown one"),
    };
    if let Some(kind) = kind {
        return Err(Error::invalid(format!(
            "model_type: expected BPE, got {kind}"
        )));
    }
    let refused = [
        (proto.charsmap > 0, "a normalisation of characters"),
        (proto.blank_as_suffix, "white space as suffix"),
        (!proto.escape_blanks, "white space that is not escaped"),
    ];
    match refused.iter().find(|(has, _)| *has) {
        Some((_, what)) => Err(Error::invalid(format!(
            "{what} is not supported: no published model has it"
        ))),
        None => Ok(()),
    }
}

fn ids(pieces: &[Piece]) -> Result<HashMap<String, u32>> {
    let mut ids = HashMap::with_capacity(pieces.len());
    for (id, piece) in (0..).zip(pieces) {
        if let Some(first) = ids.insert(piece.text.clone(), id) {
            let text = &piece.text;
            return Err(Error::invalid(format!(
                "pieces {first} and {id} are both {text:?}"
            )));
        }
    }
    Ok(ids)
}

fn byte_piece(ids: &HashMap<String, u32>, byte: u8) -> Result<u32> {
    let name = format!("<0x{byte:02X}>");
    let id = ids.get(&name).copied();
    id.ok_or_else(|| {
        Error::invalid(format!(
            "byte fallback needs the piece {name}, which is missing"
        ))
    })
}
