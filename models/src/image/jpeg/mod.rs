//! JPEG, decoded as Pillow does, to the bit: the integers of libjpeg-turbo's accurate inverse transform, its triangle
//! filter for subsampled chroma ("fancy upsampling") and its colour conversion.
//!
//! All of the format that Pillow reads: baseline, extended and progressive files, Huffman and arithmetic coding, any order
//! of scans, integral sampling ratios, restart markers, grey, RGB, CMYK and YCCK. A block that is missing or cannot be
//! decoded is an error, where libjpeg would fill it in. Bytes that no block needs are skipped, and the file may end
//! right after its last block.

mod arithmetic;
mod arithmetic_states;
mod bits;
mod color;
mod damage;
mod decoder;
mod frame;
mod huffman;
mod huffman_scan;
mod huffman_standard;
mod idct;
mod plane;
mod progress;
mod reader;
mod scan;
mod tables;
mod upsample;

pub(super) use decoder::{decode, dimensions};

/// Whether a file begins as a JPEG does.
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}
