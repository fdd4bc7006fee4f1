//! The tables that segments define for the scans after them.

use std::rc::Rc;

use super::damage::broken;
use super::huffman::HuffmanTable;
use super::huffman_standard::{standard_ac, standard_dc};
use crate::{Error, Result};

/// 64 coefficients or divisors, row by row.
pub(super) type Block<T = i16> = [T; 64];

/// The place in a [`Block`] of every coefficient in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// How an arithmetic decoder divides values into classes.
#[derive(Clone, Copy)]
pub(super) struct Conditioning {
    /// Differences of DC below and above which they count as zero and as large: exponents of two.
    pub(super) dc: (u8, u8),
    /// The last coefficient of the low frequencies.
    pub(super) ac: u8,
}

/// What is defined so far.
pub(super) struct Tables {
    quantization: [Option<Block<u16>>; 4],
    dc: [Option<Rc<HuffmanTable>>; 4],
    ac: [Option<Rc<HuffmanTable>>; 4],
    conditioning: [Conditioning; 4],
    /// MCUs between restart markers; zero for none.
    pub(super) restart_interval: u32,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            quantization: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            conditioning: [Conditioning { dc: (0, 1), ac: 5 }; 4],
            restart_interval: 0,
        }
    }

    /// # Errors
    /// No table was defined under the number.
    pub(super) fn quantization(&self, number: u8) -> Result<Block<u16>> {
        let table = self.quantization.get(usize::from(number));
        table.copied().flatten().ok_or_else(|| {
            broken(format!(
                "the JPEG uses quantization table {number}, which it does not define"
            ))
        })
    }

    /// The Huffman table of this number, the standard's if the file defines none.
    ///
    /// # Errors
    /// Neither has one.
    pub(super) fn dc(&self, number: u8) -> Result<Rc<HuffmanTable>> {
        defined(&self.dc, number)
            .or_else(|| standard_dc(number))
            .ok_or_else(|| undefined(number))
    }

    /// As [`Tables::dc`].
    ///
    /// # Errors
    /// As [`Tables::dc`].
    pub(super) fn ac(&self, number: u8) -> Result<Rc<HuffmanTable>> {
        defined(&self.ac, number)
            .or_else(|| standard_ac(number))
            .ok_or_else(|| undefined(number))
    }

    pub(super) fn conditioning(&self) -> [Conditioning; 4] {
        self.conditioning
    }

    /// Reads a segment of quantization tables.
    ///
    /// # Errors
    /// A truncated segment, or a number over 3.
    pub(super) fn define_quantization(&mut self, segment: &[u8]) -> Result<()> {
        let mut rest = segment;
        while let [kind, values @ ..] = rest {
            let bytes = 1 + usize::from(kind >> 4);
            let slot = self.quantization.get_mut(usize::from(kind & 15));
            let (Some(slot), Some((values, after)), 1..=2) =
                (slot, values.split_at_checked(64 * bytes), bytes)
            else {
                return Err(broken("the JPEG has a malformed quantization table"));
            };
            let divisors = values.chunks_exact(bytes);
            let divisors = divisors.map(|value| {
                value
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | u16::from(byte))
            });
            let mut table = [0; 64];
            for (place, divisor) in ZIGZAG.iter().zip(divisors) {
                table[usize::from(*place)] = divisor;
            }
            *slot = Some(table);
            rest = after;
        }
        Ok(())
    }

    /// Reads a segment of Huffman tables.
    ///
    /// # Errors
    /// A truncated segment, a number over 3 or an impossible table.
    pub(super) fn define_huffman(&mut self, segment: &[u8]) -> Result<()> {
        let malformed = || broken("the JPEG has a malformed Huffman table");
        let mut rest = segment;
        while let [kind, counts @ ..] = rest {
            let (counts, symbols) = counts.split_first_chunk().ok_or_else(malformed)?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, after) = symbols.split_at_checked(count).ok_or_else(malformed)?;
            let table = HuffmanTable::new(counts, symbols)?;
            let tables = match kind >> 4 {
                0 if table.is_of_sizes() => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(malformed()),
            };
            *tables
                .get_mut(usize::from(kind & 15))
                .ok_or_else(malformed)? = Some(Rc::new(table));
            rest = after;
        }
        Ok(())
    }

    /// Reads a segment of arithmetic conditioning.
    ///
    /// # Errors
    /// A truncated segment, or numbers out of range.
    pub(super) fn define_conditioning(&mut self, segment: &[u8]) -> Result<()> {
        let malformed = || broken("the JPEG has malformed arithmetic conditioning");
        let (pairs, rest) = segment.as_chunks();
        for &[kind, value] in pairs {
            let table = self.conditioning.get_mut(usize::from(kind & 15));
            let table = table.ok_or_else(malformed)?;
            let (low, high) = (value & 15, value >> 4);
            match kind >> 4 {
                0 if low <= high => table.dc = (low, high),
                1 => table.ac = value,
                _ => return Err(malformed()),
            }
        }
        rest.is_empty().then_some(()).ok_or_else(malformed)
    }

    /// Reads the segment of the restart interval.
    ///
    /// # Errors
    /// It has another length.
    pub(super) fn define_restart_interval(&mut self, segment: &[u8]) -> Result<()> {
        let interval = segment
            .try_into()
            .map_err(|_| broken("the JPEG has a malformed restart interval"))?;
        self.restart_interval = u32::from(u16::from_be_bytes(interval));
        Ok(())
    }
}

fn defined(tables: &[Option<Rc<HuffmanTable>>; 4], number: u8) -> Option<Rc<HuffmanTable>> {
    tables.get(usize::from(number)).cloned().flatten()
}

fn undefined(number: u8) -> Error {
    broken(format!(
        "the JPEG uses Huffman table {number}, which it does not define"
    ))
}
