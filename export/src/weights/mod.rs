//! A graph's weights in their own file: each tensor once, aligned to 4096 bytes so that it can be memory-mapped. Every
//! place is reserved first; then the file is written from the checkpoint, window by window.

mod cast;
mod hashed_file;
pub(crate) mod layout;
mod pack;
mod quantize;
mod stream;
mod tensor;
mod transpose;

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use seeward_models::Result;
use seeward_models::checkpoint::Checkpoint;

use hashed_file::HashedFile;
use layout::{Part, WeightLayout};
use stream::{Streamer, WINDOW};
use tensor::Tensor;

/// Alignment of tensors in the file.
const ALIGNMENT: u64 = 4096;

/// The range of a tensor's part in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Place {
    fn end(self) -> u64 {
        self.offset + self.bytes
    }
}

/// A tensor of the checkpoint and the places of its parts.
struct Entry {
    tensor: String,
    layout: WeightLayout,
    places: Vec<Place>,
}

impl Entry {
    /// Reads the tensor once; the parts after the first stay in memory meanwhile.
    fn write(
        &self,
        checkpoint: &Checkpoint,
        streamer: &mut Streamer,
        file: &mut DataFile,
    ) -> Result<()> {
        let Some((first, others)) = self.places.split_first() else {
            return Ok(());
        };
        let tensor = Tensor {
            checkpoint,
            name: &self.tensor,
        };
        file.pad_to(first.offset)?;
        let small = streamer.run(tensor, self.layout, &mut |chunk| file.append(chunk))?;
        for (place, bytes) in others.iter().zip(&small) {
            file.pad_to(place.offset)?;
            file.append(bytes)?;
        }
        Ok(())
    }
}

/// The file being written.
struct DataFile<'a> {
    file: HashedFile,
    end: u64,
    wrote: &'a mut dyn FnMut(u64),
}

impl DataFile<'_> {
    fn pad_to(&mut self, offset: u64) -> Result<()> {
        let zeros = vec![0; (offset - self.end) as usize];
        self.end = offset;
        self.file.append(&zeros)
    }

    fn append(&mut self, chunk: &[u8]) -> Result<()> {
        (self.wrote)(chunk.len() as u64);
        self.end += chunk.len() as u64;
        self.file.append(chunk)
    }
}

/// The weights that a graph uses.
pub(crate) struct Weights {
    checkpoint: Rc<Checkpoint>,
    entries: Vec<Entry>,
    known: HashSet<(String, WeightLayout)>,
}

impl Weights {
    pub(crate) fn new(checkpoint: Rc<Checkpoint>) -> Self {
        Self {
            checkpoint,
            entries: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// Reserves a place for each part of the tensor after the last one; `None` if it has its places already.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub(crate) fn place(
        &mut self,
        tensor: &str,
        layout: WeightLayout,
    ) -> Result<Option<Vec<Place>>> {
        let parts = self.parts(tensor, layout)?;
        if !self.known.insert((tensor.to_owned(), layout)) {
            return Ok(None);
        }
        let mut end = self.places().next_back().map_or(0, Place::end);
        let place = |part: &Part| {
            let place = Place {
                offset: end.next_multiple_of(ALIGNMENT),
                bytes: part.bytes(),
            };
            end = place.end();
            place
        };
        let places: Vec<Place> = parts.iter().map(place).collect();
        self.entries.push(Entry {
            tensor: tensor.to_owned(),
            layout,
            places: places.clone(),
        });
        Ok(Some(places))
    }

    /// The parts of a tensor in this layout.
    ///
    /// # Errors
    /// A missing tensor, or a shape that the layout does not take.
    pub(crate) fn parts(&self, tensor: &str, layout: WeightLayout) -> Result<Vec<Part>> {
        let shape = &self.checkpoint.info(tensor)?.shape;
        layout.parts(shape).map_err(|e| e.at(tensor))
    }

    /// Rows and columns of a tensor.
    ///
    /// # Errors
    /// A missing tensor, or one that is not a matrix.
    pub(crate) fn matrix(&self, tensor: &str) -> Result<[usize; 2]> {
        let shape = &self.checkpoint.info(tensor)?.shape;
        layout::matrix(shape).map_err(|e| e.at(tensor))
    }

    /// Number of tensors in the file.
    pub(crate) fn len(&self) -> usize {
        self.places().count()
    }

    /// Their size in bytes, without the padding.
    pub(crate) fn bytes(&self) -> u64 {
        self.places().map(|place| place.bytes).sum()
    }

    /// Writes the file and returns its sha256; calls `wrote` with the size of every chunk.
    ///
    /// # Errors
    /// An unreadable checkpoint, a weight outside the range of its element type, or a file that cannot be written.
    pub(crate) fn write(&self, path: &Path, wrote: &mut dyn FnMut(u64)) -> Result<String> {
        let mut file = DataFile {
            file: HashedFile::create(path)?,
            end: 0,
            wrote,
        };
        let mut streamer = Streamer::new(WINDOW);
        for entry in &self.entries {
            entry.write(&self.checkpoint, &mut streamer, &mut file)?;
        }
        file.file.finish()
    }

    fn places(&self) -> impl DoubleEndedIterator<Item = Place> {
        let places = |entry: &Entry| entry.places.clone();
        self.entries.iter().flat_map(places)
    }
}

#[cfg(test)]
mod tests {
    use seeward_models::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};

    use super::*;
    use crate::data_type::DataType;

    #[test]
    fn places_are_aligned_and_reserved_once() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = TensorData::f32("w", &[2, 1], &[1.0, -2.5]);
        write_tensors(&folder.path().join(WEIGHTS_FILE), vec![tensor]).unwrap();
        let mut weights = Weights::new(Rc::new(Checkpoint::open(folder.path()).unwrap()));
        let place = |offset, bytes| Place { offset, bytes };
        let stored = WeightLayout::Stored(DataType::F32);
        let reserved = weights.place("w", stored).unwrap();
        assert_eq!(reserved, Some(vec![place(0, 8)]));
        assert_eq!(weights.place("w", stored).unwrap(), None);
        let transposed = WeightLayout::Transposed(DataType::Bf16);
        assert_eq!(weights.parts("w", transposed).unwrap()[0].dims, [1, 2]);
        let reserved = weights.place("w", transposed).unwrap();
        assert_eq!(reserved, Some(vec![place(4096, 4)]));
        let path = folder.path().join("w.data");
        weights.write(&path, &mut |_| ()).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len(), 4096 + 4);
        assert_eq!(bytes[..8], [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        assert_eq!(bytes[4096..], [0x80, 0x3f, 0x20, 0xc0]);
        let text = weights.place("v", stored);
        let text = text.unwrap_err().to_string();
        assert!(text.ends_with("no tensor v"), "{text}");
    }
}
