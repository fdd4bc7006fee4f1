//! Huffman codes.

use super::bits::Bits;
use super::damage::{Damage, Decoded, broken};
use crate::Result;

/// Bits that one look at the table decodes: most symbols together with the value that follows.
const LOOK: u32 = 10;
const LONGEST: u32 = 16;

/// A code, and how values follow its symbols: as many bits as the low half of the symbol says.
pub(super) struct HuffmanTable {
    look: Vec<Look>,
    /// One more than the largest code of every length, as its first 16 bits; zero for lengths without a code.
    limits: [u32; LONGEST as usize + 1],
    /// What is added to a code of a length to give its place in `symbols`.
    offsets: [i32; LONGEST as usize + 1],
    symbols: Vec<u8>,
}

/// What some first bits begin with.
#[derive(Clone, Copy, Default)]
struct Look {
    symbol: u8,
    /// Bits of the symbol; zero for codes longer than [`LOOK`].
    length: u8,
    /// Bits of symbol and value, if both are here; else zero.
    total: u8,
    value: i16,
}

impl HuffmanTable {
    /// The code with `counts[i]` symbols of `i + 1` bits.
    ///
    /// # Errors
    /// More codes than their lengths allow.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table = Self {
            look: vec![Look::default(); 1 << LOOK],
            limits: [0; LONGEST as usize + 1],
            offsets: [0; LONGEST as usize + 1],
            symbols: symbols.to_vec(),
        };
        let mut code = 0;
        let mut place = 0;
        for (length, &count) in (1..).zip(counts) {
            let first = code;
            table.offsets[length as usize] = place - first as i32;
            code += u32::from(count);
            place += i32::from(count);
            // No code is all ones.
            if code >= 1 << length {
                return Err(broken("the JPEG has a Huffman table with too many codes"));
            }
            if count > 0 {
                table.limits[length as usize] = code << (LONGEST - length);
            }
            for code in first..code {
                table.add_look(code, length);
            }
            code <<= 1;
        }
        Ok(table)
    }

    /// Whether every symbol is the size of a DC difference.
    pub(super) fn is_of_sizes(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol < 16)
    }

    fn add_look(&mut self, code: u32, length: u32) {
        let Some(free) = LOOK.checked_sub(length) else {
            return;
        };
        let symbol = self.symbols[(code as i32 + self.offsets[length as usize]) as usize];
        let size = u32::from(symbol & 15);
        for rest in 0..1 << free {
            let mut look = Look {
                symbol,
                length: length as u8,
                ..Look::default()
            };
            if size <= free {
                look.total = (length + size) as u8;
                look.value = extended(rest >> (free - size), size);
            }
            self.look[(code << free | rest) as usize] = look;
        }
    }

    /// The next symbol, and the value in as many bits as its low half says.
    #[inline]
    pub(super) fn symbol_and_value(&self, bits: &mut Bits) -> Decoded<(u8, i16)> {
        bits.refill();
        let look = self.look[bits.peek(LOOK)];
        if look.total > 0 {
            bits.consume(u32::from(look.total))?;
            return Ok((look.symbol, look.value));
        }
        let symbol = self.symbol(bits)?;
        let size = u32::from(symbol & 15);
        Ok((symbol, extended(bits.number(size)?, size)))
    }

    /// The next symbol alone.
    #[inline]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Decoded<u8> {
        bits.refill();
        let look = self.look[bits.peek(LOOK)];
        if look.length > 0 {
            bits.consume(u32::from(look.length))?;
            return Ok(look.symbol);
        }
        self.long_symbol(bits)
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits) -> Decoded<u8> {
        let next = bits.peek(LONGEST);
        let is_shorter = |&length: &u32| (next as u32) < self.limits[length as usize];
        let length = (LOOK + 1..=LONGEST).find(is_shorter);
        let length = length.ok_or(Damage::BadCode)?;
        let code = (next >> (LONGEST - length)) as i32;
        bits.consume(length)?;
        let place = code + self.offsets[length as usize];
        self.symbols
            .get(place as usize)
            .copied()
            .ok_or(Damage::BadCode)
    }
}

/// The value that `size` bits stand for: those that begin with 0 are negative.
#[inline]
fn extended(bits: u32, size: u32) -> i16 {
    let is_negative = size > 0 && bits >> (size - 1) == 0;
    let value = bits as i32;
    (if is_negative {
        value - (1 << size) + 1
    } else {
        value
    }) as i16
}
