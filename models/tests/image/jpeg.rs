//! JPEGs compared with golden hashes of Pillow, and JPEGs that have lost something.
//!
//! `scripts/golden/jpeg.py` creates the files and says which versions of Pillow decode them alike.

use std::collections::BTreeMap;

use seeward_models::image::{DEFAULT_MAX_PIXELS, Rgb, decode, dimensions};
use seeward_models::{Error, ImageFault, Result};
use sha2::{Digest, Sha256};

use crate::golden;

fn read(name: &str) -> Vec<u8> {
    crate::read(&format!("../jpeg/{name}.jpg"))
}

fn decoded(bytes: &[u8]) -> Result<Rgb> {
    decode(bytes, DEFAULT_MAX_PIXELS)
}

fn problem(bytes: &[u8]) -> String {
    let error = decoded(bytes).unwrap_err();
    let is_content = matches!(
        error,
        Error::Image {
            fault: ImageFault::Content,
            ..
        }
    );
    assert!(is_content, "{error:?}");
    error.to_string()
}

/// Where `marker` is, from the first place on.
fn places(bytes: &[u8], marker: u8) -> Vec<usize> {
    let pairs = bytes.windows(2).enumerate();
    let found = pairs.filter(|(_, pair)| *pair == [0xFF, marker]);
    found.map(|(place, _)| place).collect()
}

#[test]
fn every_kind_of_jpeg_decodes_to_pillows_pixels() {
    let hashes: BTreeMap<String, String> = golden("../jpeg/hashes.json");
    assert_eq!(hashes.len(), 49);
    for (file, expected) in hashes {
        let bytes = crate::read(&format!("../jpeg/{file}"));
        let image = decoded(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        let hash = Sha256::digest(image.pixels());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected, "{file}");
        let size = dimensions(&bytes).unwrap();
        assert_eq!(size, (image.width(), image.height()), "{file}");
    }
}

#[test]
fn a_jpeg_without_all_of_its_blocks_is_refused() {
    let ends_early = "the JPEG has lost blocks: a scan ends before its last block";
    let cut_off = "the JPEG ends before its last block: the file was cut off";
    for file in ["420", "progressive", "gray", "cmyk", "restarts"] {
        let whole = read(file);
        let half = &whole[..whole.len() * 2 / 3];
        assert_eq!(problem(half), cut_off, "{file}");
        let closed = [half, &[0xFF, 0xD9]].concat();
        assert!(problem(&closed).contains("has lost blocks"), "{file}");
    }
    let whole = read("420");
    let middle = places(&whole, 0xDA)[0] + 100;
    let hole = [&whole[..middle], &whole[middle + 200..]].concat();
    assert_eq!(problem(&hole), ends_early);
    let header = &whole[..places(&whole, 0xDA)[0]];
    assert_eq!(problem(header), cut_off);
}

#[test]
fn a_jpeg_without_all_of_its_scans_is_refused() {
    for file in ["each_alone", "progressive", "progressive_own_order"] {
        let whole = read(file);
        let scans = places(&whole, 0xDA);
        let first = [&whole[..scans[1]], &[0xFF, 0xD9]].concat();
        let expected = "the JPEG has lost blocks: it ends before its last scan";
        assert_eq!(problem(&first), expected, "{file}");
    }
    // The second scan sends what later ones refine.
    let whole = read("progressive");
    let scan = places(&whole, 0xDA)[1];
    let next = places(&whole, 0xC4)
        .into_iter()
        .find(|&place| place > scan)
        .unwrap();
    assert_eq!(
        problem(&[&whole[..scan], &whole[next..]].concat()),
        "the JPEG has lost blocks: a scan refines what no scan before it sent"
    );
}

#[test]
fn a_restart_marker_out_of_order_is_refused() {
    let mut changed = read("restarts");
    let second = places(&changed, 0xD1)[0];
    changed[second + 1] = 0xD3;
    assert_eq!(
        problem(&changed),
        "the JPEG has lost blocks: a restart marker is missing or out of order"
    );
    let whole = read("420");
    let middle = places(&whole, 0xDA)[0] + 300;
    let stray = [&whole[..middle], &[0xFF, 0xD0], &whole[middle..]].concat();
    assert_eq!(
        problem(&stray),
        "the JPEG has lost blocks: a scan ends before its last block"
    );
}

/// Its data may end in any number of zeros, which are not written, so nothing else shows that they are all there.
#[test]
fn an_arithmetic_jpeg_without_its_end_marker_is_refused() {
    for file in ["arithmetic", "arithmetic_progressive"] {
        let whole = read(file);
        let expected = "the JPEG ends before its last block: the file was cut off";
        assert_eq!(problem(&whole[..whole.len() - 2]), expected, "{file}");
    }
}

#[test]
fn kinds_that_pillow_does_not_read_are_refused() {
    let whole = read("420");
    let frame = places(&whole, 0xC0)[0];
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[frame + at] = value;
        problem(&bytes)
    };
    assert!(changed(1, 0xC3).starts_with("a lossless or hierarchical JPEG is not supported"));
    assert_eq!(changed(4, 12), "expected a JPEG of 8 bits, got 12");
    assert_eq!(
        changed(14, 0x31),
        "a JPEG with components sampled 2x2 and 3x2 is not supported: the ratio is not a whole number (save it again, for \
         instance as PNG)"
    );
    assert_eq!(changed(9, 2), "the JPEG has a malformed frame header");
    assert_eq!(changed(11, 0), "the JPEG has a malformed frame header");
}

#[test]
fn damaged_jpegs_never_panic() {
    for file in [
        "420",
        "progressive_own_order",
        "arithmetic_progressive",
        "restarts",
        "ycck",
    ] {
        let whole = read(file);
        for at in 2..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x15;
            let _ = decode(&damaged, 1 << 16);
        }
    }
}
