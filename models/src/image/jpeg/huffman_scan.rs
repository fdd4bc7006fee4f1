//! Scans in Huffman codes.

use std::rc::Rc;

use super::bits::Bits;
use super::damage::{Damage, Decoded};
use super::huffman::HuffmanTable;
use super::reader::Coded;
use super::scan::{Coder, Member, Pass, Scan};
use super::tables::{Block, Tables, ZIGZAG};
use crate::Result;

/// Decodes the blocks of one scan.
pub(super) struct HuffmanScan<'a> {
    bits: Bits<'a>,
    members: Vec<Codes>,
    pass: Pass,
    /// The first and the last coefficient.
    band: (usize, usize),
    /// The place of the lowest bit that the scan sends.
    low: u8,
    /// Blocks to come, this one included, whose band has ended.
    ended: u32,
}

/// The tables of a component, those that the scan uses, and its last DC.
struct Codes {
    dc: Option<Rc<HuffmanTable>>,
    ac: Option<Rc<HuffmanTable>>,
    last_dc: i32,
}

impl Codes {
    fn new(member: &Member, pass: Pass, tables: &Tables) -> Result<Self> {
        let uses_dc = matches!(pass, Pass::Whole | Pass::DcFirst);
        let uses_ac = matches!(pass, Pass::Whole | Pass::AcFirst | Pass::AcRefinement);
        Ok(Self {
            dc: uses_dc.then(|| tables.dc(member.dc)).transpose()?,
            ac: uses_ac.then(|| tables.ac(member.ac)).transpose()?,
            last_dc: 0,
        })
    }

    fn dc(&mut self, bits: &mut Bits) -> Decoded<i32> {
        let table = self.dc.as_deref().ok_or(Damage::BadCode)?;
        let (_, difference) = table.symbol_and_value(bits)?;
        self.last_dc = self.last_dc.wrapping_add(difference.into());
        Ok(self.last_dc)
    }

    fn ac(&self) -> Decoded<&HuffmanTable> {
        self.ac.as_deref().ok_or(Damage::BadCode)
    }
}

impl HuffmanScan<'_> {
    /// # Errors
    /// A table that is not defined.
    pub(super) fn new(scan: &Scan, tables: &Tables) -> Result<Self> {
        let members = scan.members.iter();
        let members = members.map(|member| Codes::new(member, scan.pass, tables));
        Ok(Self {
            bits: Bits::default(),
            members: members.collect::<Result<_>>()?,
            pass: scan.pass,
            band: scan.band,
            low: scan.low,
            ended: 0,
        })
    }

    fn whole(&mut self, member: usize, block: &mut Block) -> Decoded {
        let codes = &mut self.members[member];
        block[0] = codes.dc(&mut self.bits)? as i16;
        let table = codes.ac()?;
        let mut place = 1;
        while place < 64 {
            let (symbol, value) = table.symbol_and_value(&mut self.bits)?;
            let run = usize::from(symbol >> 4);
            if symbol & 15 != 0 {
                let at = ZIGZAG.get(place + run).ok_or(Damage::BadCode)?;
                block[usize::from(*at)] = value;
            } else if run < 15 {
                break;
            }
            place += run + 1;
        }
        Ok(())
    }

    fn ac_first(&mut self, block: &mut Block) -> Decoded {
        if self.ended > 0 {
            self.ended -= 1;
            return Ok(());
        }
        let (first, last) = self.band;
        let table = self.members[0].ac()?;
        let mut place = first;
        while place <= last {
            let (symbol, value) = table.symbol_and_value(&mut self.bits)?;
            let run = symbol >> 4;
            if symbol & 15 != 0 {
                let at = ZIGZAG[..=last].get(place + usize::from(run));
                let at = at.ok_or(Damage::BadCode)?;
                block[usize::from(*at)] = (i32::from(value) << self.low) as i16;
            } else if run < 15 {
                self.ended = ended(&mut self.bits, run)? - 1;
                break;
            }
            place += usize::from(run) + 1;
        }
        Ok(())
    }

    fn ac_refinement(&mut self, block: &mut Block) -> Decoded {
        let (mut place, last) = self.band;
        while self.ended == 0 && place <= last {
            let symbol = self.members[0].ac()?.symbol(&mut self.bits)?;
            let run = symbol >> 4;
            let new = match symbol & 15 {
                1 if self.bits.number(1)? == 1 => 1 << self.low,
                1 => -1 << self.low,
                0 if run == 15 => 0,
                0 => {
                    self.ended = ended(&mut self.bits, run)?;
                    break;
                }
                _ => return Err(Damage::BadCode),
            };
            place = self.refine(block, place, run.into())?;
            if new != 0 {
                let at = ZIGZAG[..=last].get(place).ok_or(Damage::BadCode)?;
                block[usize::from(*at)] = new;
            }
            place += 1;
        }
        if self.ended > 0 {
            self.refine(block, place, ZIGZAG.len())?;
            self.ended -= 1;
        }
        Ok(())
    }

    /// Reads a bit for every coefficient from `place` on that is not zero, until `zeros` zeros are passed; returns the
    /// place of the next zero.
    fn refine(&mut self, block: &mut Block, mut place: usize, mut zeros: usize) -> Decoded<usize> {
        let bit = 1 << self.low;
        while place <= self.band.1 {
            let coefficient = &mut block[usize::from(ZIGZAG[place])];
            if *coefficient != 0 {
                if self.bits.number(1)? == 1 && *coefficient & bit == 0 {
                    let step = if *coefficient < 0 { -bit } else { bit };
                    *coefficient = coefficient.wrapping_add(step);
                }
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            place += 1;
        }
        Ok(place)
    }
}

/// The number of blocks whose band ends here, this one included.
fn ended(bits: &mut Bits, size: u8) -> Decoded<u32> {
    Ok((1 << size) + bits.number(size.into())?)
}

impl<'a> Coder<'a> for HuffmanScan<'a> {
    fn begin(&mut self, coded: Coded<'a>) {
        self.bits = Bits::new(coded);
        self.ended = 0;
        self.members.iter_mut().for_each(|codes| codes.last_dc = 0);
    }

    fn block(&mut self, member: usize, block: &mut Block) -> Decoded {
        match self.pass {
            Pass::Whole => return self.whole(member, block),
            Pass::DcFirst => {
                let dc = self.members[member].dc(&mut self.bits)?;
                block[0] = (dc << self.low) as i16;
            }
            Pass::DcRefinement => block[0] |= (self.bits.number(1)? << self.low) as i16,
            Pass::AcFirst => self.ac_first(block)?,
            Pass::AcRefinement => self.ac_refinement(block)?,
        }
        Ok(())
    }

    fn end(&self) -> Decoded {
        Ok(())
    }
}
