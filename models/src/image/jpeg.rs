//! What a JPEG's markers say that its decoder does not: whether the file was cut off (the decoder would fill the rest
//! with grey), and whether the inks of a CMYK picture are coded as the decoder takes for granted.

use crate::{Error, Result};

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const APP14: u8 = 0xEE;

/// # Errors
/// No end marker, or four components without the Adobe marker.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let markers: Vec<Marker> = Markers { rest: bytes }.collect();
    if markers
        .last()
        .is_none_or(|marker| marker.code != END_OF_IMAGE)
    {
        return Err(Error::invalid(
            "the JPEG ends before its end marker: the file was cut off",
        ));
    }
    let is_cmyk = markers.iter().any(|marker| marker.components() == Some(4));
    if is_cmyk && !markers.iter().any(Marker::is_adobe) {
        return Err(Error::invalid(
            "a JPEG of four components without the Adobe marker, which says how they are coded (convert it to RGB)",
        ));
    }
    Ok(())
}

/// A marker and the segment that belongs to it, without its length.
struct Marker<'a> {
    code: u8,
    segment: &'a [u8],
}

impl Marker<'_> {
    fn is_adobe(&self) -> bool {
        self.code == APP14 && self.segment.starts_with(b"Adobe")
    }

    /// The number of colour components, if this is a start of frame.
    fn components(&self) -> Option<u8> {
        let is_frame = matches!(self.code, 0xC0..=0xCF) && !matches!(self.code, 0xC4 | 0xC8 | 0xCC);
        is_frame.then(|| self.segment.get(5).copied()).flatten()
    }

    fn has_segment(code: u8) -> bool {
        !matches!(code, 0x01 | START_OF_IMAGE | END_OF_IMAGE)
    }
}

/// The markers up to the end of the image. Between them lie coded pixels, in which 0xFF is followed by zero or by a
/// restart marker.
struct Markers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Markers<'a> {
    type Item = Marker<'a>;

    fn next(&mut self) -> Option<Marker<'a>> {
        let is_marker =
            |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
        let start = self.rest.windows(2).position(is_marker)?;
        let code = self.rest[start + 1];
        let after = &self.rest[start + 2..];
        let length = if Marker::has_segment(code) {
            usize::from(u16::from_be_bytes(*after.first_chunk()?)).max(2)
        } else {
            0
        };
        let segment = after.get(length.min(2)..length)?;
        self.rest = if code == END_OF_IMAGE {
            &[]
        } else {
            &after[length..]
        };
        Some(Marker { code, segment })
    }
}
