//! Coded data as bits.

use super::damage::{Damage, Decoded};
use super::reader::Coded;

/// Bits from the highest of the first byte on; zeros follow the last one, which only [`Bits::peek`] may look at.
#[derive(Default)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bits, the first one highest.
    buffer: u64,
    /// Bits of `buffer` that are there to be consumed.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(coded: Coded<'a>) -> Self {
        Self {
            data: coded.data,
            ..Self::default()
        }
    }

    /// Loads at least 56 bits, or all that are left.
    #[inline]
    pub(super) fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        match self.data.first_chunk() {
            Some(bytes) if !has_stuffing(u64::from_be_bytes(*bytes)) => {
                self.buffer |= u64::from_be_bytes(*bytes) >> self.count;
                let taken = (63 - self.count) / 8;
                self.data = &self.data[taken as usize..];
                self.count += taken * 8;
            }
            _ => self.refill_slowly(),
        }
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.count <= 56
            && let Some(byte) = self.byte()
        {
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next byte; one zero is stuffed after 0xFF.
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.data.split_first()?;
        self.data = rest;
        if byte == 0xFF {
            // More than one 0xFF before the zero count once.
            let fill = self.data.iter().take_while(|&&byte| byte == 0xFF).count();
            self.data = self.data.get(fill + 1..).unwrap_or_default();
        }
        Some(byte)
    }

    /// The next `count` bits, 1 to 16, which stay unread.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.buffer >> (64 - count)) as usize
    }

    /// # Errors
    /// The data have fewer bits.
    #[inline]
    pub(super) fn consume(&mut self, count: u32) -> Decoded {
        self.count = self.count.checked_sub(count).ok_or(Damage::DataEnd)?;
        self.buffer <<= count;
        Ok(())
    }

    /// The next `count` bits, 0 to 16, as a number.
    ///
    /// # Errors
    /// The data have fewer bits.
    #[inline]
    pub(super) fn number(&mut self, count: u32) -> Decoded<u32> {
        if count == 0 {
            return Ok(0);
        }
        self.refill();
        let number = self.peek(count) as u32;
        self.consume(count)?;
        Ok(number)
    }
}

/// Whether one of the bytes is 0xFF.
fn has_stuffing(bytes: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let inverted = !bytes;
    (inverted.wrapping_sub(ONES) & !inverted & (ONES << 7)) != 0
}
