//! The part of SentencePiece's `ModelProto` (a protocol buffer) that decides ids.

use crate::{Error, Result};

/// The kind of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    /// Never found in a text.
    Control,
    /// Found in a text before anything else.
    UserDefined,
    /// Part of merges, but not of results.
    Unused,
    /// One byte of a character that no piece has.
    Byte,
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// A whole model. The defaults are the format's.
#[derive(Clone, Debug)]
pub(super) struct ModelProto {
    pub(super) pieces: Vec<Piece>,
    pub(super) model_type: u64,
    pub(super) byte_fallback: bool,
    pub(super) blank_as_suffix: bool,
    pub(super) charsmap: usize,
    pub(super) dummy_prefix: bool,
    pub(super) squeeze_blanks: bool,
    pub(super) escape_blanks: bool,
}

impl ModelProto {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            blank_as_suffix: false,
            charsmap: 0,
            dummy_prefix: true,
            squeeze_blanks: true,
            escape_blanks: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => {
                    let place = model.pieces.len();
                    let piece = parse_piece(piece);
                    let piece = piece.map_err(|e| e.at(format!("piece {place}")))?;
                    model.pieces.push(piece);
                }
                (2, Value::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        Ok(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in Fields(bytes) {
            match field? {
                (3, Value::Integer(n)) => self.model_type = n,
                (24, Value::Integer(n)) => self.blank_as_suffix = n != 0,
                (35, Value::Integer(n)) => self.byte_fallback = n != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in Fields(bytes) {
            match field? {
                (2, Value::Bytes(charsmap)) => self.charsmap = charsmap.len(),
                (3, Value::Integer(n)) => self.dummy_prefix = n != 0,
                (4, Value::Integer(n)) => self.squeeze_blanks = n != 0,
                (5, Value::Integer(n)) => self.escape_blanks = n != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse_piece(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) => {
                piece.text = String::from_utf8(text.to_vec()).map_err(Error::invalid)?;
            }
            (2, Value::Four(bits)) => piece.score = f32::from_le_bytes(bits),
            (3, Value::Integer(kind)) => piece.kind = parse_kind(kind)?,
            _ => {}
        }
    }
    if piece.text.is_empty() || piece.score.is_nan() {
        return Err(Error::invalid("expected a text and a score"));
    }
    Ok(piece)
}

fn parse_kind(kind: u64) -> Result<Kind> {
    Ok(match kind {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        other => {
            return Err(Error::invalid(format!(
                "type: expected 1 to 6, got {other}"
            )));
        }
    })
}

/// The value of a field, in one of the four wire types.
enum Value<'a> {
    Integer(u64),
    Eight,
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

/// The fields of a message: their numbers and values.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let key = self.integer()?;
        let value = match key & 7 {
            0 => Value::Integer(self.integer()?),
            1 => self.take(8).map(|_| Value::Eight)?,
            2 => {
                let length = self.integer()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(Error::invalid)?)?)
            }
            5 => Value::Four(self.take(4)?.try_into().map_err(Error::invalid)?),
            other => {
                return Err(Error::invalid(format!(
                    "not a SentencePiece model: no field has wire type {other}"
                )));
            }
        };
        Ok((key >> 3, value))
    }

    /// Seven bits a byte, the lowest first; the eighth marks that more follow.
    fn integer(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::invalid(
            "not a SentencePiece model: an integer of more than 64 bits",
        ))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| {
            let left = self.0.len();
            Error::invalid(format!(
                "truncated, or not a SentencePiece model: expected {count} more bytes, got {left}"
            ))
        })?;
        self.0 = rest;
        Ok(taken)
    }
}
