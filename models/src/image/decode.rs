//! Bytes of an image file → RGB, like Pillow's `convert("RGB")`.
//!
//! Alpha is dropped, not composited: colours of transparent pixels appear; or, as transformers does, transparent pixels
//! lie over white. Palettes are resolved. EXIF orientation and ICC profiles are ignored. Of an animation, the first frame is used.
//!
//! Two differences: a file without all of its blocks, which the published code fills with grey, is an error; and the part of
//! a GIF's screen that its first frame does not cover is black, not the palette's first or transparent colour.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use image::{RgbImage, Rgba, RgbaImage};

use super::rgb::{Rgb, check_not_empty};
use super::{bmp, jpeg};
use crate::kinds::Transparency;
use crate::{Error, ImageFault, Result};

/// The default limit of pixels: above it Pillow too refuses an image as a decompression bomb. Just under 512 MiB of RGB.
pub const DEFAULT_MAX_PIXELS: u64 = 178_956_970;

/// Longest side of an image, whatever its area: 16 times the limit of JPEG. A longer one would only exhaust memory in a
/// resize that stretches the other side.
pub const MAX_SIDE: u32 = 1 << 20;

/// The first bytes, in which nearly every image has its size; in a JPEG, metadata may come before it.
const HEADER_BYTES: u64 = 64 << 10;

/// Width and height, read from the header alone.
///
/// # Errors
/// Not a PNG, JPEG, WebP, GIF or BMP image, or a broken header.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32)> {
    let (width, height) = if jpeg::is_jpeg(bytes) {
        jpeg::dimensions(bytes)?
    } else {
        open(bytes, format(bytes)?)?.dimensions()
    };
    check_not_empty(width, height)?;
    Ok((width, height))
}

/// Width and height of the image file at `path`, with the limits of [`decode`]. If the header allows it, only the
/// beginning of the file is read.
///
/// # Errors
/// No such file, or as [`dimensions`]; more than `max_pixels`, or a side over [`MAX_SIDE`].
pub fn file_dimensions(path: &Path, max_pixels: u64) -> Result<(u32, u32)> {
    let read = |bytes: u64| {
        let mut beginning = Vec::new();
        let file = File::open(path).map(|file| file.take(bytes));
        file.and_then(|mut file| file.read_to_end(&mut beginning))
            .map_err(|e| Error::io(path, e))?;
        Ok(beginning)
    };
    let (width, height) = dimensions(&read(HEADER_BYTES)?)
        .or_else(|_| dimensions(&read(u64::MAX)?))
        .map_err(|e| e.at(path.display()))?;
    check_size(width, height, max_pixels).map_err(|e| e.at(path.display()))?;
    Ok((width, height))
}

/// The image in `bytes`: a PNG, JPEG, WebP, GIF or BMP file.
///
/// # Errors
/// Another format; broken or truncated content; more than `max_pixels`, or a side over [`MAX_SIDE`], by the header, before
/// memory is allocated.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb> {
    decode_with(bytes, max_pixels, Transparency::Dropped)
}

/// The same with a choice of what becomes of transparent pixels.
///
/// # Errors
/// As [`decode`].
pub fn decode_with(bytes: &[u8], max_pixels: u64, transparency: Transparency) -> Result<Rgb> {
    let (width, height) = dimensions(bytes)?;
    check_size(width, height, max_pixels)?;
    if jpeg::is_jpeg(bytes) {
        return jpeg::decode(bytes);
    }
    let format = format(bytes)?;
    let mut image = DynamicImage::from_decoder(open(bytes, format)?).map_err(invalid)?;
    if transparency == Transparency::White {
        image = over_white(image);
    }
    let mut rgb = rgb_bytes(image, is_gray16_png(bytes, format));
    if format == ImageFormat::Bmp {
        bmp::round_down(bytes, &mut rgb);
    }
    Rgb::new(width, height, rgb)
}

fn format(bytes: &[u8]) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::image(
            ImageFault::Format,
            "expected an image, got an empty file",
        ));
    }
    match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => Ok(format),
        _ => Err(Error::image(
            ImageFault::Format,
            "not an image of a known format: expected PNG, JPEG, WebP, GIF or BMP",
        )),
    }
}

fn open(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder> {
    ImageReader::with_format(Cursor::new(bytes), format)
        .into_decoder()
        .map_err(invalid)
}

/// Some of the decoders' messages end in a line break.
fn invalid(error: ImageError) -> Error {
    let message = error.to_string();
    let words: Vec<&str> = message.split_whitespace().collect();
    Error::image(ImageFault::Content, words.join(" "))
}

fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<()> {
    if width.max(height) > MAX_SIDE {
        let problem =
            format!("expected sides of at most {MAX_SIDE} pixels, got {width} x {height}");
        return Err(Error::image(ImageFault::TooLarge, problem));
    }
    if u64::from(width) * u64::from(height) > max_pixels {
        let problem = format!("expected at most {max_pixels} pixels, got {width} x {height}");
        return Err(Error::image(ImageFault::TooLarge, problem));
    }
    Ok(())
}

/// 16-bit grey without an alpha channel, by bit depth and colour type of the header. With a transparent grey value, the
/// decoder returns it as grey with alpha, which follows another rule.
fn is_gray16_png(bytes: &[u8], format: ImageFormat) -> bool {
    format == ImageFormat::Png && bytes.get(24..26) == Some(&[16, 0])
}

/// The 8-bit colours of a decoded image, its alpha channel dropped.
fn rgb_bytes(image: DynamicImage, is_gray16: bool) -> Vec<u8> {
    let depth = if is_gray16 { clipped } else { high_byte };
    match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => colors::<_, 4>(&image, |value| value),
        DynamicImage::ImageLuma8(image) => grays::<_, 1>(&image, |value| value),
        DynamicImage::ImageLumaA8(image) => grays::<_, 2>(&image, |value| value),
        DynamicImage::ImageLuma16(image) => grays::<_, 1>(&image, depth),
        DynamicImage::ImageLumaA16(image) => grays::<_, 2>(&image, depth),
        DynamicImage::ImageRgb16(image) => colors::<_, 3>(&image, high_byte),
        DynamicImage::ImageRgba16(image) => colors::<_, 4>(&image, high_byte),
        other => other.into_rgb8().into_raw(),
    }
}

/// An image without alpha channel: its colours over white.
fn over_white(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let rgba = match image {
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageLumaA16(_) => {
            let wide = image.into_rgba16();
            RgbaImage::from_fn(wide.width(), wide.height(), |x, y| {
                Rgba(wide.get_pixel(x, y).0.map(high_byte))
            })
        }
        narrow => narrow.into_rgba8(),
    };
    let rgb = RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [colors @ .., alpha] = rgba.get_pixel(x, y).0;
        image::Rgb(colors.map(|color| mixed_with_white(color, alpha)))
    });
    DynamicImage::ImageRgb8(rgb)
}

/// The nearest integer to the weighted mean of a colour and white.
fn mixed_with_white(color: u8, alpha: u8) -> u8 {
    let [color, alpha] = [color, alpha].map(u32::from);
    ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn colors<T: Copy, const CHANNELS: usize>(samples: &[T], to_byte: fn(T) -> u8) -> Vec<u8> {
    let pixels = samples.chunks_exact(CHANNELS);
    pixels
        .flat_map(|p| [p[0], p[1], p[2]].map(to_byte))
        .collect()
}

fn grays<T: Copy, const CHANNELS: usize>(samples: &[T], to_byte: fn(T) -> u8) -> Vec<u8> {
    let pixels = samples.chunks_exact(CHANNELS);
    pixels.flat_map(|p| [to_byte(p[0]); 3]).collect()
}

/// Pillow uses the high byte of 16-bit colour, and of 16-bit grey with alpha.
fn high_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

/// Pillow clips 16-bit grey to 255: nearly all of such an image is white.
fn clipped(value: u16) -> u8 {
    value.min(255) as u8
}
