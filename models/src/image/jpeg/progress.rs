//! What scans have sent so far.

use super::damage::broken;
use super::scan::Scan;
use crate::Result;

/// The lowest bit that has arrived of every coefficient of every component.
pub(super) struct Progress(Vec<[u8; 64]>);

const NOTHING: u8 = u8::MAX;

impl Progress {
    pub(super) fn new(components: usize) -> Self {
        Self(vec![[NOTHING; 64]; components])
    }

    /// Adds what a scan sends.
    ///
    /// # Errors
    /// It refines bits that did not arrive.
    pub(super) fn add(&mut self, scan: &Scan) -> Result<()> {
        let (first, last) = scan.band;
        for member in &scan.members {
            let band = &mut self.0[member.component][first..=last];
            if scan.high > 0 && band.iter().any(|&low| low != scan.high) {
                return Err(broken(
                    "the JPEG has lost blocks: a scan refines what no scan before it sent",
                ));
            }
            band.fill(scan.low);
        }
        Ok(())
    }

    /// Whether every bit of every coefficient has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.0.iter().flatten().all(|&low| low == 0)
    }
}
