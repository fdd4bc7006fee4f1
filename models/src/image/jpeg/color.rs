//! Colours of components as R G B.

use multiversion::multiversion;

use super::frame::Frame;

/// What the components of a JPEG are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Gray,
    Rgb,
    YCbCr,
    /// Inks, inverted as Adobe stores them.
    Cmyk,
    /// The same with its first three as luma and chroma.
    Ycck,
}

/// What segments before the first scan say of colours.
#[derive(Default)]
pub(super) struct ColorMarks {
    is_jfif: bool,
    /// Adobe's code of the transform.
    adobe: Option<u8>,
}

impl ColorMarks {
    /// Reads a segment of JFIF (APP0) or Adobe (APP14); others say nothing of colours.
    pub(super) fn read(&mut self, code: u8, segment: &[u8]) {
        match code {
            0xE0 => self.is_jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
            0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                self.adobe = Some(segment[11]);
            }
            _ => {}
        }
    }

    /// By the rules of libjpeg.
    pub(super) fn color(&self, frame: &Frame) -> Color {
        let ids: Vec<u8> = frame
            .components
            .iter()
            .map(|component| component.id)
            .collect();
        match (&ids[..], self.adobe) {
            ([_], _) => Color::Gray,
            ([_, _, _], Some(0)) if !self.is_jfif => Color::Rgb,
            (b"RGB", None) if !self.is_jfif => Color::Rgb,
            ([_, _, _], _) => Color::YCbCr,
            (_, None | Some(0)) => Color::Cmyk,
            (_, Some(_)) => Color::Ycck,
        }
    }
}

impl Color {
    /// Writes a row of pixels from the rows of the components.
    pub(super) fn convert(self, rows: &[&[u8]], out: &mut [u8]) {
        let pixels = out.as_chunks_mut().0;
        match (self, rows) {
            (Self::Rgb, [r, g, b]) => interleave(r, g, b, pixels),
            (Self::YCbCr, [y, cb, cr]) => from_ycc(y, cb, cr, pixels),
            (Self::Cmyk, [c, m, y, k]) => {
                interleave(c, m, y, pixels);
                darken(k, pixels);
            }
            (Self::Ycck, [y, cb, cr, k]) => {
                from_ycc(y, cb, cr, pixels);
                darken_inverted(k, pixels);
            }
            (_, [gray, ..]) => interleave(gray, gray, gray, pixels),
            (_, []) => {}
        }
    }
}

fn interleave(r: &[u8], g: &[u8], b: &[u8], pixels: &mut [[u8; 3]]) {
    for (((pixel, &r), &g), &b) in pixels.iter_mut().zip(r).zip(g).zip(b) {
        *pixel = [r, g, b];
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn from_ycc(y: &[u8], cb: &[u8], cr: &[u8], pixels: &mut [[u8; 3]]) {
    const HALF: i32 = 1 << 15;
    for (((pixel, &y), &cb), &cr) in pixels.iter_mut().zip(y).zip(cb).zip(cr) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        // 1.402, 0.34414, 0.71414 and 1.772 with 16 fractional bits.
        let r = y + ((91881 * cr + HALF) >> 16);
        let g = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
        let b = y + ((116130 * cb + HALF) >> 16);
        *pixel = [
            r.clamp(0, 255) as u8,
            g.clamp(0, 255) as u8,
            b.clamp(0, 255) as u8,
        ];
    }
}

/// Pillow inverts the inks C, M, Y and K of the file; light that passes an ink passes black too.
fn darken(k: &[u8], pixels: &mut [[u8; 3]]) {
    for (pixel, &k) in pixels.iter_mut().zip(k) {
        *pixel = pixel.map(|stored| light(255 - stored, k));
    }
}

/// As [`darken`] for inks that are the complements of the colours given.
fn darken_inverted(k: &[u8], pixels: &mut [[u8; 3]]) {
    for (pixel, &k) in pixels.iter_mut().zip(k) {
        *pixel = pixel.map(|color| light(color, k));
    }
}

/// What an ink leaves of the light that black leaves.
fn light(ink: u8, white: u8) -> u8 {
    let product = u32::from(ink) * u32::from(white) + 128;
    white - (((product >> 8) + product) >> 8) as u8
}
