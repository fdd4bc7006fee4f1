//! Scans in arithmetic codes.

use super::arithmetic_states::Estimate;
use super::damage::{Damage, Decoded};
use super::reader::Coded;
use super::scan::{Coder, Member, Pass, Scan};
use super::tables::{Block, Conditioning, Tables, ZIGZAG};

/// Decodes the blocks of one scan.
pub(super) struct ArithmeticScan<'a> {
    decisions: Decisions<'a>,
    dc: [[Estimate; 64]; 4],
    ac: [[Estimate; 256]; 4],
    conditioning: [Conditioning; 4],
    members: Vec<State>,
    pass: Pass,
    band: (usize, usize),
    low: u8,
}

/// A component: its tables, its last DC, and where the estimates of the next difference are.
struct State {
    dc: usize,
    ac: usize,
    last_dc: i32,
    context: usize,
}

impl State {
    fn new(member: &Member) -> Self {
        Self {
            dc: usize::from(member.dc & 3),
            ac: usize::from(member.ac & 3),
            last_dc: 0,
            context: 0,
        }
    }
}

impl ArithmeticScan<'_> {
    pub(super) fn new(scan: &Scan, tables: &Tables) -> Self {
        Self {
            decisions: Decisions::new(Coded::default()),
            dc: [[Estimate::default(); 64]; 4],
            ac: [[Estimate::default(); 256]; 4],
            conditioning: tables.conditioning(),
            members: scan.members.iter().map(State::new).collect(),
            pass: scan.pass,
            band: scan.band,
            low: scan.low,
        }
    }

    fn dc(&mut self, member: usize) -> Decoded<i32> {
        let state = &mut self.members[member];
        let estimates = &mut self.dc[state.dc];
        let at = state.context;
        if !self.decisions.next(&mut estimates[at]) {
            state.context = 0;
            return Ok(state.last_dc);
        }
        let is_negative = self.decisions.next(&mut estimates[at + 1]);
        let mut at = at + 2 + usize::from(is_negative);
        let mut size = u32::from(self.decisions.next(&mut estimates[at]));
        if size > 0 {
            at = 20;
            (size, at) = self.decisions.size(estimates, size, at)?;
        }
        let sign = 4 * usize::from(is_negative);
        let (low, high) = self.conditioning[state.dc].dc;
        state.context = match size {
            _ if size < (1 << low) >> 1 => 0,
            _ if size > (1 << high) >> 1 => 12 + sign,
            _ => 4 + sign,
        };
        let value = self
            .decisions
            .value(&mut estimates[at + 14], size, is_negative);
        // As the standard has it, differences wrap at 16 bits.
        state.last_dc = (state.last_dc + value) & 0xFFFF;
        Ok(state.last_dc)
    }

    /// The coefficients of a block in a band, the end of the band included.
    fn ac(&mut self, member: usize, block: &mut Block) -> Decoded {
        let table = self.members[member].ac;
        let estimates = &mut self.ac[table];
        let (mut place, last) = (self.band.0.max(1), self.band.1);
        while place <= last {
            if self.decisions.next(&mut estimates[3 * (place - 1)]) {
                break;
            }
            while !self.decisions.next(&mut estimates[3 * (place - 1) + 1]) {
                place += 1;
                if place > last {
                    return Err(Damage::BadCode);
                }
            }
            let is_negative = self.decisions.even();
            let mut at = 3 * (place - 1) + 2;
            let mut size = u32::from(self.decisions.next(&mut estimates[at]));
            if size > 0 && self.decisions.next(&mut estimates[at]) {
                let is_low = place <= usize::from(self.conditioning[table].ac);
                at = if is_low { 189 } else { 217 };
                (size, at) = self.decisions.size(estimates, 2, at)?;
            }
            let value = self
                .decisions
                .value(&mut estimates[at + 14], size, is_negative);
            block[usize::from(ZIGZAG[place])] = (value << self.low) as i16;
            place += 1;
        }
        Ok(())
    }

    fn ac_refinement(&mut self, block: &mut Block) -> Decoded {
        let estimates = &mut self.ac[self.members[0].ac];
        let (mut place, last) = self.band;
        let is_set = |place: &usize| block[usize::from(ZIGZAG[*place])] != 0;
        // A band cannot end before the place where it ended so far.
        let ended = (1..=last).rev().find(is_set).unwrap_or(0);
        while place <= last {
            if place > ended && self.decisions.next(&mut estimates[3 * (place - 1)]) {
                break;
            }
            place = loop {
                let coefficient = &mut block[usize::from(ZIGZAG[place])];
                let estimates = &mut estimates[3 * (place - 1)..];
                if self
                    .decisions
                    .refines(coefficient, estimates, 1 << self.low)
                {
                    break place + 1;
                }
                place += 1;
                if place > last {
                    return Err(Damage::BadCode);
                }
            };
        }
        Ok(())
    }
}

impl<'a> Coder<'a> for ArithmeticScan<'a> {
    fn begin(&mut self, coded: Coded<'a>) {
        self.decisions = Decisions::new(coded);
        self.dc = [[Estimate::default(); 64]; 4];
        self.ac = [[Estimate::default(); 256]; 4];
        for state in &mut self.members {
            (state.last_dc, state.context) = (0, 0);
        }
    }

    fn block(&mut self, member: usize, block: &mut Block) -> Decoded {
        match self.pass {
            Pass::Whole => {
                block[0] = self.dc(member)? as i16;
                self.ac(member, block)?;
            }
            Pass::DcFirst => block[0] = (self.dc(member)? << self.low) as i16,
            Pass::DcRefinement => block[0] |= i16::from(self.decisions.even()) << self.low,
            Pass::AcFirst => self.ac(member, block)?,
            Pass::AcRefinement => self.ac_refinement(block)?,
        }
        self.end()
    }

    fn end(&self) -> Decoded {
        self.decisions.check()
    }
}

/// Coded data as binary decisions.
struct Decisions<'a> {
    coded: Coded<'a>,
    /// Bytes were read after the last one of the data.
    is_exhausted: bool,
    /// What of the code is left, above `shift` bits that are read ahead.
    code: u32,
    /// The size of the interval in which the code lies.
    interval: u32,
    shift: u32,
}

impl<'a> Decisions<'a> {
    fn new(coded: Coded<'a>) -> Self {
        let mut decisions = Self {
            coded,
            is_exhausted: false,
            code: 0,
            interval: 1 << 16,
            shift: 0,
        };
        decisions.code = decisions.byte() << 8;
        decisions.code |= decisions.byte();
        decisions
    }

    /// The next byte; after the last one, zeros.
    fn byte(&mut self) -> u32 {
        let Some((&byte, mut rest)) = self.coded.data.split_first() else {
            self.is_exhausted = true;
            return 0;
        };
        if byte == 0xFF {
            let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
            rest = rest.get(fill + 1..).unwrap_or_default();
        }
        self.coded.data = rest;
        byte.into()
    }

    /// Encoders omit zeros before a marker, however many. Where a file ends without one, any bytes may be lost.
    ///
    /// # Errors
    /// More was read than the file has.
    fn check(&self) -> Decoded {
        if self.is_exhausted && self.coded.ends_file {
            return Err(Damage::DataEnd);
        }
        Ok(())
    }

    fn next(&mut self, estimate: &mut Estimate) -> bool {
        while self.interval < 1 << 15 {
            if self.shift == 0 {
                self.code = self.code << 8 | self.byte();
                self.shift = 8;
            }
            self.shift -= 1;
            self.interval <<= 1;
        }
        let unlikely = estimate.interval();
        let likelier = estimate.likelier;
        self.interval -= unlikely;
        let is_upper = self.code >= self.interval << self.shift;
        // Where the less likely value has the larger interval, the two change places.
        let is_exchanged = self.interval < unlikely;
        if is_upper {
            self.code -= self.interval << self.shift;
            self.interval = unlikely;
        } else if self.interval >= 1 << 15 {
            return likelier;
        }
        if is_upper == is_exchanged {
            estimate.confirm();
            likelier
        } else {
            estimate.refute();
            !likelier
        }
    }

    /// A decision of even chances.
    fn even(&mut self) -> bool {
        self.next(&mut Estimate::EVEN.clone())
    }

    /// The highest bit of a magnitude, doubled from `size` as often as decisions from `at` on say, and where they ended.
    fn size(
        &mut self,
        estimates: &mut [Estimate],
        mut size: u32,
        mut at: usize,
    ) -> Decoded<(u32, usize)> {
        while self.next(&mut estimates[at]) {
            size <<= 1;
            at += 1;
            if size == 1 << 15 {
                return Err(Damage::BadCode);
            }
        }
        Ok((size, at))
    }

    /// A value whose magnitude less one has its highest bit at `size`.
    fn value(&mut self, estimate: &mut Estimate, size: u32, is_negative: bool) -> i32 {
        let mut magnitude = size;
        let mut bit = size >> 1;
        while bit > 0 {
            if self.next(estimate) {
                magnitude |= bit;
            }
            bit >>= 1;
        }
        let value = magnitude as i32 + 1;
        if is_negative { -value } else { value }
    }

    /// Adds `bit` to a coefficient; false for one that stays zero, after which the band continues.
    fn refines(&mut self, coefficient: &mut i16, estimates: &mut [Estimate], bit: i16) -> bool {
        let is_set = *coefficient != 0;
        if !self.next(&mut estimates[if is_set { 2 } else { 1 }]) {
            return is_set;
        }
        let is_negative = if is_set {
            *coefficient < 0
        } else {
            self.even()
        };
        let step = if is_negative { -bit } else { bit };
        *coefficient = coefficient.wrapping_add(step);
        true
    }
}
