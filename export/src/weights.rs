//! A graph's weights in their own file: each tensor once, at a multiple of 4096 bytes so that it can be mapped,
//! as fp32. First every place is decided, then the file is written from the checkpoint range by range, so that memory
//! does not grow with the model.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::rc::Rc;

use seeward_models::checkpoint::{Checkpoint, Dtype};
use seeward_models::{Error, Result};

/// Where tensors may begin.
const ALIGNMENT: u64 = 4096;
/// Most elements held at once.
const WINDOW: usize = 4 << 20;
const ELEMENT_BYTES: usize = size_of::<f32>();

/// How a tensor's elements are ordered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// As in the checkpoint.
    Stored,
    /// A matrix [output, input] as [input, output], which is what `MatMul` takes.
    Transposed,
}

/// A tensor's place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tensor: String,
    pub(crate) layout: Layout,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The weights that a graph asked for.
pub(crate) struct Weights {
    checkpoint: Rc<Checkpoint>,
    places: Vec<Place>,
    known: HashSet<(String, Layout)>,
}

impl Weights {
    pub(crate) fn new(checkpoint: Rc<Checkpoint>) -> Self {
        Self {
            checkpoint,
            places: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// Gives the tensor a place after the last one; `None` if it has one already.
    pub(crate) fn place(&mut self, tensor: &str, layout: Layout) -> Result<Option<&Place>> {
        let elements: usize = self.checkpoint.info(tensor)?.shape.iter().product();
        if !self.known.insert((tensor.to_owned(), layout)) {
            return Ok(None);
        }
        self.places.push(Place {
            tensor: tensor.to_owned(),
            layout,
            offset: self.end().next_multiple_of(ALIGNMENT),
            bytes: (elements * ELEMENT_BYTES) as u64,
        });
        Ok(self.places.last())
    }

    /// The tensor's dimensions in this layout.
    pub(crate) fn dims(&self, tensor: &str, layout: Layout) -> Result<Vec<i64>> {
        let info = self.checkpoint.info(tensor)?;
        let mut dims: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        if layout == Layout::Transposed {
            dims.reverse();
        }
        Ok(dims)
    }

    /// How many tensors there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Their bytes, without the gaps.
    pub(crate) fn bytes(&self) -> u64 {
        self.places.iter().map(|place| place.bytes).sum()
    }

    /// Writes the file; `wrote` hears of every piece's bytes.
    pub(crate) fn write(&self, path: &Path, wrote: &mut dyn FnMut(u64)) -> Result<()> {
        let failed = |e| Error::io(path, e);
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        let mut end = 0;
        for place in &self.places {
            let gap = vec![0; (place.offset - end) as usize];
            out.write_all(&gap).map_err(failed)?;
            self.stream(place, &mut |bytes| {
                wrote(bytes.len() as u64);
                out.write_all(bytes).map_err(failed)
            })?;
            end = place.offset + place.bytes;
        }
        out.flush().map_err(failed)
    }

    fn end(&self) -> u64 {
        self.places
            .last()
            .map_or(0, |last| last.offset + last.bytes)
    }

    fn stream(&self, place: &Place, sink: &mut Sink) -> Result<()> {
        match place.layout {
            Layout::Stored => stored(&self.checkpoint, &place.tensor, WINDOW, sink),
            Layout::Transposed => transposed(&self.checkpoint, &place.tensor, WINDOW, sink),
        }
    }
}

type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// The tensor in windows of so many elements.
fn stored(from: &Checkpoint, tensor: &str, window: usize, sink: &mut Sink) -> Result<()> {
    let elements: usize = from.info(tensor)?.shape.iter().product();
    let mut piece = Vec::new();
    for start in (0..elements).step_by(window) {
        piece.clear();
        read(
            from,
            tensor,
            start,
            window.min(elements - start),
            &mut piece,
        )?;
        sink(&piece)?;
    }
    Ok(())
}

/// The matrix's columns one after another: bands of columns, as many at once as fit into the window.
fn transposed(from: &Checkpoint, tensor: &str, window: usize, sink: &mut Sink) -> Result<()> {
    let [rows, columns] = from.info(tensor)?.shape[..] else {
        return Err(Error::invalid("expected a matrix").at(tensor));
    };
    let width = (window / rows.max(1)).max(1);
    let mut band = Vec::new();
    for first in (0..columns).step_by(width) {
        let width = width.min(columns - first);
        band.clear();
        for row in 0..rows {
            read(from, tensor, row * columns + first, width, &mut band)?;
        }
        sink(&turned(&band, width))?;
    }
    Ok(())
}

/// A matrix of rows of `width` elements, column by column.
fn turned(band: &[u8], width: usize) -> Vec<u8> {
    let (elements, _) = band.as_chunks::<ELEMENT_BYTES>();
    let column = |c: usize| elements[c..].iter().step_by(width).flatten().copied();
    let mut turned = Vec::with_capacity(band.len());
    (0..width).for_each(|c| turned.extend(column(c)));
    turned
}

/// Appends `count` elements from `start` on, as little-endian fp32.
fn read(
    from: &Checkpoint,
    tensor: &str,
    start: usize,
    count: usize,
    into: &mut Vec<u8>,
) -> Result<()> {
    let dtype = from.info(tensor)?.dtype;
    let mut bytes = vec![0; count * dtype.size()];
    from.read_range(tensor, start * dtype.size(), &mut bytes)?;
    widen(dtype, &bytes, into);
    Ok(())
}

/// Every 16-bit float is an fp32 number, so nothing is rounded.
fn widen(dtype: Dtype, bytes: &[u8], into: &mut Vec<u8>) {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => into.extend_from_slice(bytes),
        Dtype::Bf16 => into.extend(halves().flat_map(|&[low, high]| [0, 0, low, high])),
        Dtype::F16 => into.extend(halves().flat_map(|&half| f16_bits(half).to_le_bytes())),
    }
}

/// The bits of the fp32 number that a little-endian IEEE half is.
fn f16_bits(half: [u8; 2]) -> u32 {
    const SPECIAL: u32 = 0x7c00;
    /// The difference of the exponents' biases, 127 − 15.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(u16::from_le_bytes(half));
    let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
    let widened = if magnitude >= SPECIAL {
        0x7f80_0000 | (magnitude << 13)
    } else {
        // Exact for subnormals too: the shifted pattern, read as fp32, is the number times 2^-112.
        (f32::from_bits(magnitude << 13) * REBIAS).to_bits()
    };
    sign | widened
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::borrow::Cow;

    use seeward_models::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};

    use super::*;

    fn checkpoint(folder: &Path, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Checkpoint {
        let data = bytes.to_vec();
        let tensor = TensorData {
            name: "w".to_owned(),
            dtype,
            shape: shape.to_vec(),
            bytes: Box::new(move || Cow::Owned(data.clone())),
        };
        write_tensors(&folder.join(WEIGHTS_FILE), vec![tensor]).unwrap();
        Checkpoint::open(folder).unwrap()
    }

    type Stream = fn(&Checkpoint, &str, usize, &mut Sink) -> Result<()>;

    fn streamed(from: &Checkpoint, window: usize, stream: Stream) -> Vec<f32> {
        let mut bytes = Vec::new();
        stream(from, "w", window, &mut |piece| {
            assert!(piece.len() <= window.max(3) * ELEMENT_BYTES);
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        let (elements, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        elements.iter().map(|&e| f32::from_le_bytes(e)).collect()
    }

    #[test]
    fn every_window_streams_the_same_elements() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..15).map(|v| v as f32).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let from = checkpoint(folder.path(), Dtype::F32, &[3, 5], &bytes);
        let columns: Vec<f32> = (0..15).map(|i| (i % 3 * 5 + i / 3) as f32).collect();
        for window in [1, 4, 6, 7, 15, 100] {
            assert_eq!(streamed(&from, window, stored), values);
            assert_eq!(streamed(&from, window, transposed), columns);
        }
    }

    #[test]
    fn halves_are_widened_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc100, -2.5),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x83ff, -1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (half, expected) in cases {
            let got = f32::from_bits(f16_bits(u16::to_le_bytes(half)));
            assert_eq!(got.to_bits(), f32::to_bits(expected), "{half:#06x}");
        }
        assert!(f32::from_bits(f16_bits(u16::to_le_bytes(0x7e01))).is_nan());
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = [0x3f80_u16, 0xc020]
            .iter()
            .flat_map(|b| b.to_le_bytes())
            .collect();
        let from = checkpoint(folder.path(), Dtype::Bf16, &[2, 1], &bytes);
        assert_eq!(streamed(&from, 100, stored), [1.0, -2.5]);
    }

    #[test]
    fn places_are_aligned_and_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let from = checkpoint(folder.path(), Dtype::F16, &[2, 1], &[0; 4]);
        let mut weights = Weights::new(Rc::new(from));
        assert!(weights.place("w", Layout::Stored).unwrap().is_some());
        assert!(weights.place("w", Layout::Stored).unwrap().is_none());
        let second = weights.place("w", Layout::Transposed).unwrap().unwrap();
        assert_eq!((second.offset, second.bytes), (4096, 8));
        assert_eq!(weights.dims("w", Layout::Transposed).unwrap(), [1, 2]);
        let path = folder.path().join("w.data");
        weights.write(&path, &mut |_| ()).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), 4096 + 8);
        let text = weights.place("v", Layout::Stored).unwrap_err().to_string();
        assert!(text.ends_with("no tensor v"), "{text}");
    }
}
