//! Files that are refused, and what is said of them.

use seeward_models::image::{DEFAULT_MAX_PIXELS, MAX_SIDE, decode, dimensions};
use seeward_models::{Error, ImageFault};

use crate::{Golden, golden, read};

fn decode_error(bytes: &[u8]) -> String {
    decode(bytes, DEFAULT_MAX_PIXELS).unwrap_err().to_string()
}

#[test]
fn files_that_are_not_images_are_refused() {
    let tiff = b"II*\0\x08\0\0\0\0\0\0\0\0\0\0\0";
    let unknown = "not an image of a known format: expected PNG, JPEG, WebP, GIF or BMP";
    for (bytes, expected) in [
        (&b""[..], "expected an image, got an empty file"),
        (b"no image at all", unknown),
        (tiff, unknown),
    ] {
        assert_eq!(decode_error(bytes), expected);
        assert_eq!(dimensions(bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn callers_can_match_the_fault_of_an_image() {
    let fault = |bytes: &[u8], max_pixels| match decode(bytes, max_pixels).unwrap_err().cause() {
        Error::Image { fault, .. } => *fault,
        other => panic!("{other}"),
    };
    assert_eq!(fault(b"text", 1), ImageFault::Format);
    let truncated = read("images/truncated.jpg");
    assert_eq!(fault(&truncated, DEFAULT_MAX_PIXELS), ImageFault::Content);
    assert_eq!(fault(&read("images/rgb.png"), 1), ImageFault::TooLarge);
}

#[test]
fn a_cut_off_jpeg_is_refused() {
    assert_eq!(
        decode_error(&read("images/truncated.jpg")),
        "the JPEG ends before its last block: the file was cut off"
    );
}

#[test]
fn an_end_marker_inside_a_segment_does_not_end_a_jpeg() {
    let whole = read("images/photo_444.jpg");
    let thumbnail = [
        &whole[..2],
        b"\xFF\xE1\x00\x06\xFF\xD8\xFF\xD9",
        &whole[2..],
    ]
    .concat();
    assert!(decode(&thumbnail, DEFAULT_MAX_PIXELS).is_ok());
    assert!(decode(&thumbnail[..thumbnail.len() / 2], DEFAULT_MAX_PIXELS).is_err());
}

#[test]
fn cut_off_files_of_other_formats_are_refused() {
    for file in [
        "rgb.png",
        "interlaced.png",
        "rgb24.bmp",
        "photo_lossless.webp",
        "animated.gif",
    ] {
        let whole = read(&format!("images/{file}"));
        let first_quarter = &whole[..whole.len() / 4];
        assert!(decode(first_quarter, DEFAULT_MAX_PIXELS).is_err(), "{file}");
    }
}

/// The PNG with another size in its header; the checksum is right, so that only the size is judged.
pub(crate) fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = read("images/tiny_1x1.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn sizes_are_judged_by_the_header() {
    assert_eq!(
        dimensions(&png_claiming(70_000, 60_000)).unwrap(),
        (70_000, 60_000)
    );
    let error = decode_error(&png_claiming(70_000, 60_000));
    assert_eq!(
        error,
        "expected at most 178956970 pixels, got 70000 x 60000"
    );
    let error = decode_error(&png_claiming(MAX_SIDE + 1, 1));
    assert_eq!(
        error,
        "expected sides of at most 1048576 pixels, got 1048577 x 1"
    );
    assert!(dimensions(&png_claiming(0, 5)).is_err());
    let error = decode(&read("images/rgb.png"), 256 * 256 - 1)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "expected at most 65535 pixels, got 256 x 256");
}

#[test]
fn damaged_files_never_panic() {
    let golden: Golden = golden("golden.json");
    for image in golden
        .images
        .iter()
        .filter(|image| image.width * image.height < 100_000)
    {
        let bytes = read(&format!("images/{}", image.file));
        for i in 0..12 {
            let at = bytes.len() * i / 12;
            let _ = decode(&bytes[..at], 1 << 20);
            let mut damaged = bytes.clone();
            damaged[at..]
                .iter_mut()
                .step_by(97)
                .for_each(|byte| *byte ^= 0x5A);
            let _ = decode(&damaged, 1 << 20);
        }
    }
}
