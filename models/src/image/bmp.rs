//! 16-bit BMPs: their 5 or 6 bits per colour become 8 as Pillow widens them.

/// Bits per pixel, the kind of compression, and the masks of red, green and blue, by their offsets in the file.
const DEPTH: usize = 28;
const COMPRESSION: usize = 30;
const MASKS: usize = 54;
/// The compression of files with masks.
const BITFIELDS: u32 = 3;

/// Rounds the colours of the 16-bit BMP in `bytes` down, as Pillow does: the decoder has rounded them to the nearest
/// value. Other files are unchanged.
pub(super) fn round_down(bytes: &[u8], rgb: &mut [u8]) {
    let Some(highest) = highest_levels(bytes) else {
        return;
    };
    for pixel in rgb.chunks_exact_mut(3) {
        for (value, highest) in pixel.iter_mut().zip(highest) {
            let level = (u16::from(*value) * highest + 127) / 255;
            *value = (level * 255 / highest) as u8;
        }
    }
}

/// The highest level of red, green and blue in a 16-bit BMP of one of the two layouts that Pillow reads.
fn highest_levels(bytes: &[u8]) -> Option<[u16; 3]> {
    let number = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if bytes.get(DEPTH..DEPTH + 2)? != [16, 0] {
        return None;
    }
    if number(COMPRESSION)? != BITFIELDS {
        return Some([31; 3]);
    }
    match [number(MASKS)?, number(MASKS + 4)?, number(MASKS + 8)?] {
        [0x7c00, 0x3e0, 0x1f] => Some([31; 3]),
        [0xf800, 0x7e0, 0x1f] => Some([31, 63, 31]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(depth: u8, compression: u8, green: u32) -> Vec<u8> {
        let mut bytes = vec![0; MASKS];
        (bytes[DEPTH], bytes[COMPRESSION]) = (depth, compression);
        let red = if green == 0x7e0 { 0xf800u32 } else { 0x7c00 };
        bytes.extend([red, green, 0x1f].map(u32::to_le_bytes).as_flattened());
        bytes
    }

    #[test]
    fn levels_are_those_of_the_two_layouts() {
        assert_eq!(highest_levels(&header(16, 0, 0)), Some([31; 3]));
        assert_eq!(highest_levels(&header(16, 3, 0x3e0)), Some([31; 3]));
        assert_eq!(highest_levels(&header(16, 3, 0x7e0)), Some([31, 63, 31]));
        assert_eq!(highest_levels(&header(16, 3, 0xf0)), None);
        assert_eq!(highest_levels(&header(24, 0, 0)), None);
        assert_eq!(highest_levels(b"BM"), None);
    }

    #[test]
    fn every_level_is_rounded_down() {
        for level in 0..=63u16 {
            let nearest =
                |highest: u16| ((level.min(highest) * 510 + highest) / (2 * highest)) as u8;
            let mut pixel = [nearest(31), nearest(63), nearest(31)];
            round_down(&header(16, 3, 0x7e0), &mut pixel);
            let down = |highest: u16| (level.min(highest) * 255 / highest) as u8;
            assert_eq!(pixel, [down(31), down(63), down(31)], "{level}");
        }
    }
}
