//! The frame of a JPEG: size, components, and how their blocks lie.

use super::damage::broken;
use crate::image::rgb::check_not_empty;
use crate::{Error, Result};

/// A start of frame.
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) is_progressive: bool,
    pub(super) is_arithmetic: bool,
    pub(super) components: Vec<Component>,
    /// MCUs of a scan of several components: columns and rows.
    pub(super) mcus: [usize; 2],
}

/// A colour component. Pairs are horizontal and vertical.
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of an MCU of several components.
    pub(super) sampling: [usize; 2],
    /// The number of its quantization table.
    pub(super) quantization: u8,
    /// Samples that belong to the image.
    pub(super) samples: [usize; 2],
    /// Blocks that hold them.
    pub(super) blocks: [usize; 2],
    /// Blocks with those that only fill MCUs.
    pub(super) padded: [usize; 2],
    /// Pixels of the image for each sample.
    pub(super) ratio: [usize; 2],
}

const SIDE: usize = 8;

impl Frame {
    /// Whether the marker of this code starts a frame.
    pub(super) fn starts_at(code: u8) -> bool {
        matches!(code, 0xC0..=0xCF) && !matches!(code, 0xC4 | 0xC8 | 0xCC)
    }

    /// The frame of a marker and its segment.
    ///
    /// # Errors
    /// A kind or depth that is not decoded; an empty image; components that are malformed or none of 1, 3 and 4; sampling
    /// ratios that are not whole numbers.
    pub(super) fn read(code: u8, segment: &[u8]) -> Result<Self> {
        let malformed = || broken("the JPEG has a malformed frame header");
        let (&[depth, h0, h1, w0, w1, count], components) =
            segment.split_first_chunk().ok_or_else(malformed)?;
        let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
        check_kind(code, depth)?;
        check_not_empty(width.into(), height.into())?;
        let (components, rest) = components.as_chunks();
        if components.len() != usize::from(count) || !rest.is_empty() {
            return Err(malformed());
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(broken(format!(
                "expected a JPEG of 1, 3 or 4 components, got {count}"
            )));
        }
        let most = largest_sampling(components).ok_or_else(malformed)?;
        let size = [usize::from(width), usize::from(height)];
        let mcus = [0, 1].map(|axis| size[axis].div_ceil(most[axis] * SIDE));
        let components = components.iter();
        let components = components.map(|component| Component::read(*component, size, most, mcus));
        Ok(Self {
            width: width.into(),
            height: height.into(),
            is_progressive: matches!(code, 0xC2 | 0xCA),
            is_arithmetic: matches!(code, 0xC9 | 0xCA),
            components: components.collect::<Result<_>>()?,
            mcus,
        })
    }
}

impl Component {
    fn read(
        [id, factors, quantization]: [u8; 3],
        size: [usize; 2],
        most: [usize; 2],
        mcus: [usize; 2],
    ) -> Result<Self> {
        let sampling = sampling(factors);
        let samples = [0, 1].map(|axis| (size[axis] * sampling[axis]).div_ceil(most[axis]));
        if [0, 1]
            .iter()
            .any(|&axis| !most[axis].is_multiple_of(sampling[axis]))
        {
            return Err(fractional(sampling, most));
        }
        Ok(Self {
            id,
            sampling,
            quantization,
            samples,
            blocks: samples.map(|count| count.div_ceil(SIDE)),
            padded: [0, 1].map(|axis| mcus[axis] * sampling[axis]),
            ratio: [0, 1].map(|axis| most[axis] / sampling[axis]),
        })
    }
}

fn check_kind(code: u8, depth: u8) -> Result<()> {
    if !matches!(code, 0xC0..=0xC2 | 0xC9 | 0xCA) {
        return Err(broken(
            "a lossless or hierarchical JPEG is not supported (save it again, for instance as PNG)",
        ));
    }
    if depth != 8 {
        return Err(broken(format!("expected a JPEG of 8 bits, got {depth}")));
    }
    Ok(())
}

fn sampling(factors: u8) -> [usize; 2] {
    [usize::from(factors >> 4), usize::from(factors & 15)]
}

/// The largest sampling factors; `None` if one is not from 1 to 4.
fn largest_sampling(components: &[[u8; 3]]) -> Option<[usize; 2]> {
    let mut most = [1, 1];
    for [_, factors, _] in components {
        for (most, factor) in most.iter_mut().zip(sampling(*factors)) {
            *most = (1..=4).contains(&factor).then(|| factor.max(*most))?;
        }
    }
    Some(most)
}

fn fractional(sampling: [usize; 2], most: [usize; 2]) -> Error {
    let [[h, v], [h_most, v_most]] = [sampling, most];
    broken(format!(
        "a JPEG with components sampled {h}x{v} and {h_most}x{v_most} is not supported: the ratio is not a whole number \
         (save it again, for instance as PNG)"
    ))
}
