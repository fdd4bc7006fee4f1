//! Writing tensors that are in memory.

use std::borrow::Cow;
use std::path::Path;
use std::rc::Rc;

use super::dtype::Dtype;
use super::names::Names;
use super::stream::{TensorStream, write_streams};
use crate::Result;

/// A tensor to be written; its bytes are requested when they are written.
pub struct TensorData<'a> {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Yields the little-endian elements, row-major.
    pub bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a>,
}

impl<'a> TensorData<'a> {
    /// A tensor of f32 values.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &'a [f32]) -> Self {
        let bytes = move || Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        Self {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: Box::new(bytes),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    /// The same under its names in a file: one below the other if there are several.
    pub fn stored(self, names: &Names) -> Vec<Self> {
        let names = names.stored(&self.name);
        let (count, bytes) = (names.len(), Rc::new(self.bytes));
        let mut shape = self.shape;
        if let Some(rows) = shape.first_mut() {
            *rows /= count;
        }
        let part = |(index, name)| {
            let bytes = bytes.clone();
            Self {
                name,
                dtype: self.dtype,
                shape: shape.clone(),
                bytes: Box::new(move || part(bytes(), index, count)),
            }
        };
        names.into_iter().enumerate().map(part).collect()
    }

    /// The same under each of its names in a file.
    pub fn repeated(self, names: &Names) -> Vec<Self> {
        let (names, bytes) = (names.stored(&self.name), Rc::new(self.bytes));
        let copy = |name| {
            let bytes = bytes.clone();
            Self {
                name,
                dtype: self.dtype,
                shape: self.shape.clone(),
                bytes: Box::new(move || bytes()),
            }
        };
        names.into_iter().map(copy).collect()
    }

    fn stream(self) -> TensorStream<'a> {
        TensorStream {
            name: self.name,
            dtype: self.dtype,
            shape: self.shape,
            chunks: Box::new(move |sink| sink(&(self.bytes)())),
        }
    }
}

/// One of `count` equal parts.
fn part(bytes: Cow<[u8]>, index: usize, count: usize) -> Cow<[u8]> {
    let size = bytes.len() / count;
    let range = index * size..(index + 1) * size;
    match bytes {
        whole if count == 1 => whole,
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
    }
}

/// Writes one safetensors file. The same tensors give the same bytes.
///
/// # Errors
/// A file that cannot be written, or a tensor that yields more or fewer bytes than its shape has.
pub fn write_tensors(path: &Path, tensors: Vec<TensorData>) -> Result<()> {
    write_streams(path, tensors.into_iter().map(TensorData::stream).collect())
}
