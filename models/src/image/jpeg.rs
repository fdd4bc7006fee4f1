//! Checks of a JPEG's markers that its decoder does not make: whether the file is truncated (the decoder would fill the
//! rest with grey), whether the inks of a CMYK image are coded as the decoder assumes, and whether its layout
//! is one of those that the decoder turns into noise without an error.

use crate::{Error, ImageFault, Result};

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const APP14: u8 = 0xEE;
const START_OF_SCAN: u8 = 0xDA;

/// # Errors
/// No end marker, four components without the Adobe marker, or a layout that the decoder gets wrong.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let markers: Vec<Marker> = Markers { rest: bytes }.collect();
    if markers
        .last()
        .is_none_or(|marker| marker.code != END_OF_IMAGE)
    {
        return Err(Error::image(
            ImageFault::Content,
            "the JPEG ends before its end marker: the file was cut off",
        ));
    }
    check_layout(&markers)?;
    let is_cmyk = markers.iter().any(|marker| marker.components() == Some(4));
    if is_cmyk && !markers.iter().any(Marker::is_adobe) {
        return Err(Error::image(
            ImageFault::Content,
            "a JPEG of four components without the Adobe marker, which says how they are coded (convert it to RGB)",
        ));
    }
    Ok(())
}

/// # Errors
/// Luma sampled more coarsely than chroma; or, unless the JPEG is progressive, scans of some of the components where not
/// all have the same number of rows.
fn check_layout(markers: &[Marker]) -> Result<()> {
    let Some(frame) = markers.iter().find(|marker| marker.components().is_some()) else {
        return Ok(());
    };
    let (horizontal, vertical) = frame.sampling();
    let is_coarser = |factors: &[u8]| factors.iter().any(|factor| factors[0] < *factor);
    if is_coarser(&horizontal) || is_coarser(&vertical) {
        return Err(not_decoded("luma sampled more coarsely than chroma"));
    }
    let is_partial = |marker: &Marker| {
        marker.code == START_OF_SCAN
            && marker.segment.first().map(|&count| usize::from(count)) < Some(vertical.len())
    };
    let is_subsampled = vertical.iter().any(|factor| *factor != vertical[0]);
    if !frame.is_progressive() && is_subsampled && markers.iter().any(is_partial) {
        return Err(not_decoded(
            "one scan for each component and chroma sampled vertically",
        ));
    }
    Ok(())
}

fn not_decoded(layout: &str) -> Error {
    Error::image(
        ImageFault::Content,
        format!("a JPEG with {layout} is not supported (save it again, for instance as PNG)"),
    )
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

    /// Of a start of frame: the horizontal and vertical sampling factors of every component.
    fn sampling(&self) -> (Vec<u8>, Vec<u8>) {
        let components = self.segment.get(6..).unwrap_or_default().chunks_exact(3);
        let factors = components.map(|component| (component[1] >> 4, component[1] & 15));
        factors.unzip()
    }

    fn is_progressive(&self) -> bool {
        matches!(self.code, 0xC2 | 0xC6 | 0xCA | 0xCE)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of markers alone: a frame with these sampling factors, and scans of these numbers of components.
    fn jpeg(frame: u8, factors: &[u8], scans: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF, START_OF_IMAGE];
        let count = factors.len() as u8;
        bytes.extend([0xFF, frame, 0, 8 + 3 * count, 8, 0, 16, 0, 16, count]);
        for (component, factor) in factors.iter().enumerate() {
            bytes.extend([component as u8, *factor, 0]);
        }
        for scan in scans {
            bytes.extend([0xFF, START_OF_SCAN, 0, 3, *scan]);
        }
        bytes.extend([0xFF, END_OF_IMAGE]);
        bytes
    }

    #[test]
    fn layouts_that_the_decoder_gets_right_pass() {
        for (frame, factors, scans) in [
            (0xC0, &[0x22, 0x11, 0x11][..], &[3][..]),
            (0xC0, &[0x21, 0x11, 0x11], &[1, 1, 1]),
            (0xC0, &[0x11, 0x11, 0x11], &[1, 2]),
            (0xC2, &[0x22, 0x11, 0x11], &[3, 1, 1, 1]),
            (0xC0, &[0x22], &[1]),
        ] {
            check(&jpeg(frame, factors, scans)).expect("a layout that is decoded");
        }
    }

    #[test]
    fn layouts_that_the_decoder_gets_wrong_are_refused() {
        for (frame, factors, scans) in [
            (0xC0, [0x22, 0x11, 0x11], &[1, 1, 1][..]),
            (0xC1, [0x12, 0x11, 0x11], &[1, 2]),
            (0xC0, [0x11, 0x22, 0x22], &[3]),
            (0xC0, [0x11, 0x21, 0x21], &[3]),
            (0xC2, [0x11, 0x21, 0x21], &[3]),
        ] {
            let error = check(&jpeg(frame, &factors, scans)).expect_err("noise");
            assert!(error.to_string().starts_with("a JPEG with "), "{error}");
        }
    }
}
