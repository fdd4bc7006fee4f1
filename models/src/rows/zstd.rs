//! The frames of a zstd file, one after the other.

use std::io::{self, BufRead, ErrorKind, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window, in bytes, as `zstd -d --long` has it: 128 MB.
const MAX_WINDOW: u64 = 1 << 27;

/// The content of every frame; a checksum that does not fit is an error.
pub(super) struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun.
    open: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            input,
            decoder,
            open: false,
        }
    }

    /// Begins the next frame with data. Returns whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length.into())?,
                Err(e) => return Err(damaged(e)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.input).take(length), &mut io::sink())? {
            skipped if skipped == length => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn check(&self) -> io::Result<()> {
        let expected = self.decoder.get_checksum_from_data();
        match expected.is_none() || expected == self.decoder.get_calculated_checksum() {
            true => Ok(()),
            false => Err(damaged("the checksum differs")),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.open {
                self.open = self.begin()?;
                if !self.open {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.input, one);
                decoded.map_err(damaged)?;
            }
            match self.decoder.read(buffer)? {
                0 if !buffer.is_empty() => {
                    self.check()?;
                    self.open = false;
                }
                length => return Ok(length),
            }
        }
    }
}

fn damaged(problem: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem.to_string())
}
