//! From the bytes of a file to its pixels.

use super::arithmetic::ArithmeticScan;
use super::color::{Color, ColorMarks};
use super::damage::{broken, cut_off};
use super::frame::Frame;
use super::huffman_scan::HuffmanScan;
use super::plane::Channel;
use super::progress::Progress;
use super::reader::Reader;
use super::scan::{Coder, Scan};
use super::tables::Tables;
use super::upsample::Upsampler;
use crate::Result;
use crate::image::rgb::Rgb;

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;

/// Width and height by the frame header.
///
/// # Errors
/// No frame header, or one that is not decoded.
pub(in crate::image) fn dimensions(bytes: &[u8]) -> Result<(u32, u32)> {
    let mut decoder = Decoder::new(bytes)?;
    loop {
        if let Some(frame) = &decoder.frame {
            return Ok((frame.width, frame.height));
        }
        decoder.step()?;
    }
}

/// The image, as Pillow's `convert("RGB")` gives it.
///
/// # Errors
/// Broken, unsupported or lost content.
pub(in crate::image) fn decode(bytes: &[u8]) -> Result<Rgb> {
    let mut decoder = Decoder::new(bytes)?;
    loop {
        decoder.step()?;
        if let (Some(frame), Some(image)) = (&decoder.frame, &decoder.image)
            && image.progress.is_complete()
        {
            let image = decoder.image.take();
            return image.map_or_else(|| Err(cut_off()), |image| image.into_rgb(frame));
        }
    }
}

struct Decoder<'a> {
    reader: Reader<'a>,
    tables: Tables,
    marks: ColorMarks,
    frame: Option<Frame>,
    image: Option<Image>,
}

/// What of a frame is decoded, from its first scan on.
struct Image {
    color: Color,
    channels: Vec<Channel>,
    progress: Progress,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.marker() != Some(START_OF_IMAGE) {
            return Err(broken("the JPEG does not begin with its start marker"));
        }
        Ok(Self {
            reader,
            tables: Tables::new(),
            marks: ColorMarks::default(),
            frame: None,
            image: None,
        })
    }

    /// Reads the next marker and what belongs to it.
    ///
    /// # Errors
    /// The end of the image or of the file, or what the segment's reader refuses.
    fn step(&mut self) -> Result<()> {
        let code = self.reader.marker().ok_or_else(cut_off)?;
        // Markers without a segment: nothing, or a restart that no scan waits for.
        if matches!(code, 0x01 | 0xD0..=0xD7) {
            return Ok(());
        }
        if code == END_OF_IMAGE {
            return Err(broken(
                "the JPEG has lost blocks: it ends before its last scan",
            ));
        }
        let segment = self.reader.segment()?;
        match code {
            0xC4 => self.tables.define_huffman(segment),
            0xCC => self.tables.define_conditioning(segment),
            0xDB => self.tables.define_quantization(segment),
            0xDD => self.tables.define_restart_interval(segment),
            0xDA => self.scan(segment),
            _ if Frame::starts_at(code) => self.start(code, segment),
            0xE0..=0xEF | 0xDC | 0xFE => {
                self.marks.read(code, segment);
                Ok(())
            }
            _ => Err(broken(format!("the JPEG has an unknown marker {code:#x}"))),
        }
    }

    fn start(&mut self, code: u8, segment: &[u8]) -> Result<()> {
        if self.frame.is_some() {
            return Err(broken("the JPEG has more than one frame"));
        }
        self.frame = Some(Frame::read(code, segment)?);
        Ok(())
    }

    fn scan(&mut self, segment: &[u8]) -> Result<()> {
        let frame = self.frame.as_ref();
        let frame = frame.ok_or_else(|| broken("the JPEG has a scan before its frame header"))?;
        let scan = Scan::read(segment, frame)?;
        let image = self
            .image
            .get_or_insert_with(|| Image::new(frame, self.marks.color(frame)));
        for member in &scan.members {
            let divisors = &mut image.channels[member.component].quantization;
            if divisors.is_none() {
                let number = frame.components[member.component].quantization;
                *divisors = Some(self.tables.quantization(number)?);
            }
        }
        let mut coder: Box<dyn Coder<'a>> = if frame.is_arithmetic {
            Box::new(ArithmeticScan::new(&scan, &self.tables))
        } else {
            Box::new(HuffmanScan::new(&scan, &self.tables)?)
        };
        image.progress.add(&scan)?;
        let interval = self.tables.restart_interval;
        scan.decode(
            frame,
            &mut self.reader,
            &mut *coder,
            interval,
            &mut image.channels,
        )
    }
}

impl Image {
    fn new(frame: &Frame, color: Color) -> Self {
        let channels = frame.components.iter();
        let channels = channels.map(|component| Channel::new(component, frame.is_progressive));
        Self {
            color,
            channels: channels.collect(),
            progress: Progress::new(frame.components.len()),
        }
    }

    fn into_rgb(self, frame: &Frame) -> Result<Rgb> {
        let (width, height) = (frame.width as usize, frame.height as usize);
        let channels = self.channels.into_iter().zip(&frame.components);
        let upsampler = |(channel, component): (Channel, &super::frame::Component)| {
            Upsampler::new(channel.into_plane(), component.ratio)
        };
        let mut upsamplers: Vec<Upsampler> = channels.map(upsampler).collect();
        let mut pixels = vec![0; width * height * 3];
        for (y, out) in pixels.chunks_exact_mut(width * 3).enumerate() {
            let rows = upsamplers.iter_mut().map(|upsampler| upsampler.row(y));
            let rows: Vec<&[u8]> = rows.collect();
            self.color.convert(&rows, out);
        }
        Rgb::new(frame.width, frame.height, pixels)
    }
}
