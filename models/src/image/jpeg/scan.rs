//! Scans: which components and coefficients one holds, and the walk over its blocks.

use super::damage::{Decoded, broken};
use super::frame::Frame;
use super::plane::Channel;
use super::reader::{Coded, Reader};
use super::tables::Block;
use crate::Result;

/// A start of scan.
pub(super) struct Scan {
    pub(super) members: Vec<Member>,
    /// The first and the last coefficient in the order of the file.
    pub(super) band: (usize, usize),
    /// The lowest bit that the scans before it sent; zero for the first scan of the band.
    pub(super) high: u8,
    /// The lowest bit that it sends.
    pub(super) low: u8,
    pub(super) pass: Pass,
}

/// A component of a scan.
pub(super) struct Member {
    /// Its place in the frame.
    pub(super) component: usize,
    pub(super) dc: u8,
    pub(super) ac: u8,
}

/// What a scan says of each of its blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// All coefficients: the only kind where a frame is not progressive.
    Whole,
    DcFirst,
    DcRefinement,
    AcFirst,
    AcRefinement,
}

/// Decodes the blocks of a scan, one after the other.
pub(super) trait Coder<'a> {
    /// Begins with the data up to the next marker.
    fn begin(&mut self, coded: Coded<'a>);

    /// Adds to a block what the scan says of it; `member` is the place of its component in the scan.
    ///
    /// # Errors
    /// Data that end early or decode to nothing.
    fn block(&mut self, member: usize, block: &mut Block) -> Decoded;

    /// Ends the data.
    ///
    /// # Errors
    /// Data that have proved too short.
    fn end(&self) -> Decoded;
}

impl Scan {
    /// The scan of a segment.
    ///
    /// # Errors
    /// A malformed segment, components that the frame has not, or a band that no scan may have.
    pub(super) fn read(segment: &[u8], frame: &Frame) -> Result<Self> {
        let malformed = || broken("the JPEG has a malformed scan header");
        let (&count, rest) = segment.split_first().ok_or_else(malformed)?;
        let (members, band) = rest
            .split_at_checked(2 * usize::from(count))
            .ok_or_else(malformed)?;
        let members = members.as_chunks().0.iter();
        let members = members.map(|member| Member::read(*member, frame));
        let members = members.collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
        let band = band.try_into().map_err(|_| malformed())?;
        let scan = Self::of_band(members, band, frame.is_progressive);
        scan.filter(|scan| scan.is_sound(frame))
            .ok_or_else(malformed)
    }

    fn of_band(
        members: Vec<Member>,
        [first, last, bits]: [u8; 3],
        is_progressive: bool,
    ) -> Option<Self> {
        // Where a frame is not progressive, the numbers mean nothing.
        let (band, high, low) = if is_progressive {
            ((first.into(), last.into()), bits >> 4, bits & 15)
        } else {
            ((0, 63), 0, 0)
        };
        let pass = match (is_progressive, band, high) {
            (false, ..) => Pass::Whole,
            (true, (0, 0), 0) => Pass::DcFirst,
            (true, (0, 0), _) => Pass::DcRefinement,
            (true, (1..=63, last), _) if !(band.0..=63).contains(&last) => return None,
            (true, (1..=63, _), 0) => Pass::AcFirst,
            (true, (1..=63, _), _) => Pass::AcRefinement,
            _ => return None,
        };
        Some(Self {
            members,
            band,
            high,
            low,
            pass,
        })
    }

    fn is_sound(&self, frame: &Frame) -> bool {
        let components = || self.members.iter().map(|member| member.component);
        let repeats =
            components().any(|one| components().filter(|other| one == *other).count() > 1);
        let blocks = components().map(|component| {
            let [h, v] = frame.components[component].sampling;
            h * v
        });
        let is_ac = self.band.0 > 0;
        let is_small = self.members.len() == 1 || (blocks.sum::<usize>() <= 10 && !is_ac);
        let is_bit_right = self.low <= 13 && (self.high == 0 || self.low + 1 == self.high);
        !self.members.is_empty() && !repeats && is_small && is_bit_right
    }

    /// Decodes every block into the channels of the frame.
    ///
    /// # Errors
    /// Lost blocks, or a restart marker that is missing or another one.
    pub(super) fn decode<'a>(
        &self,
        frame: &Frame,
        reader: &mut Reader<'a>,
        coder: &mut dyn Coder<'a>,
        interval: u32,
        channels: &mut [Channel],
    ) -> Result<()> {
        let ([columns, rows], sampling) = self.mcus(frame);
        let mut coded = reader.coded();
        coder.begin(coded);
        for mcu in 0..columns * rows {
            if interval > 0 && mcu > 0 && mcu % interval as usize == 0 {
                coder
                    .end()
                    .map_err(|damage| damage.error(coded.ends_file))?;
                let restarts = mcu / interval as usize - 1;
                check_restart(reader.marker(), restarts)?;
                coded = reader.coded();
                coder.begin(coded);
            }
            let (row, column) = (mcu / columns, mcu % columns);
            for (place, (member, [h, v])) in self.members.iter().zip(&sampling).enumerate() {
                let channel = &mut channels[member.component];
                for y in row * v..(row + 1) * v {
                    for x in column * h..(column + 1) * h {
                        channel
                            .update(x, y, |block| coder.block(place, block))
                            .map_err(|damage| damage.error(coded.ends_file))?;
                    }
                }
            }
        }
        coder.end().map_err(|damage| damage.error(coded.ends_file))
    }

    /// Columns and rows of MCUs, and the blocks of an MCU for every member. A single component has MCUs of one block,
    /// none of which only fills.
    fn mcus(&self, frame: &Frame) -> ([usize; 2], Vec<[usize; 2]>) {
        let components = self
            .members
            .iter()
            .map(|member| &frame.components[member.component]);
        match &self.members[..] {
            [only] => (frame.components[only.component].blocks, vec![[1, 1]]),
            _ => (
                frame.mcus,
                components.map(|component| component.sampling).collect(),
            ),
        }
    }
}

impl Member {
    /// `None` if the frame has no such component.
    fn read([id, tables]: [u8; 2], frame: &Frame) -> Option<Self> {
        let mut components = frame.components.iter();
        Some(Self {
            component: components.position(|component| component.id == id)?,
            dc: tables >> 4,
            ac: tables & 15,
        })
    }
}

fn check_restart(marker: Option<u8>, restarts: usize) -> Result<()> {
    match marker {
        Some(code) if code == 0xD0 + (restarts % 8) as u8 => Ok(()),
        _ => Err(broken(
            "the JPEG has lost blocks: a restart marker is missing or out of order",
        )),
    }
}
