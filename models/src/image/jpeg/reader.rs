//! A file as markers, segments and coded data.

use super::damage::{broken, cut_off};
use crate::Result;

/// Reads a file from its beginning.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Coded data between two markers, zero bytes still stuffed after each 0xFF.
#[derive(Clone, Copy, Default)]
pub(super) struct Coded<'a> {
    pub(super) data: &'a [u8],
    /// No marker follows: the file ends with the data.
    pub(super) ends_file: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The code of the next marker; bytes before it are skipped. `None` at the end of the file.
    pub(super) fn marker(&mut self) -> Option<u8> {
        let code = self.next_code().unwrap_or(self.bytes.len());
        self.at = (code + 1).min(self.bytes.len());
        self.bytes.get(code).copied()
    }

    /// The segment that follows a marker, without its length.
    ///
    /// # Errors
    /// It is truncated.
    pub(super) fn segment(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest.first_chunk().ok_or_else(cut_off)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            return Err(broken(
                "the JPEG has a segment that is shorter than its length",
            ));
        }
        let segment = rest.get(2..length).ok_or_else(cut_off)?;
        self.at += length;
        Ok(segment)
    }

    /// The coded data up to the next marker, which stays unread.
    pub(super) fn coded(&mut self) -> Coded<'a> {
        let code = self.next_code();
        // Fill bytes before the code belong to the marker.
        let mut end = code.unwrap_or(self.bytes.len());
        while end > self.at && code.is_some() && self.bytes[end - 1] == 0xFF {
            end -= 1;
        }
        let data = &self.bytes[self.at..end];
        self.at = end;
        Coded {
            data,
            ends_file: code.is_none(),
        }
    }

    /// Where the next marker has its code: after 0xFF any number of times, and not zero.
    fn next_code(&self) -> Option<usize> {
        let mut at = self.at;
        loop {
            at += self.bytes[at..].iter().position(|&byte| byte == 0xFF)?;
            at += self.bytes[at..].iter().position(|&byte| byte != 0xFF)?;
            if self.bytes[at] != 0 {
                return Some(at);
            }
        }
    }
}
