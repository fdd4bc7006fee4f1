//! Writing safetensors chunk by chunk: memory grows neither with the model nor with its largest tensor.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo as StoredInfo};

use super::dtype::Dtype;
use crate::{Error, Result};

/// Receives the next bytes of a tensor.
pub type ByteSink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// A tensor that yields its bytes chunk by chunk.
pub type ChunkedTensor<'a> = Box<dyn Fn(&mut ByteSink) -> Result<()> + 'a>;

/// A tensor to be written; its bytes are requested when they are written.
pub struct TensorStream<'a> {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// The little-endian elements, row-major.
    pub chunks: ChunkedTensor<'a>,
}

impl TensorStream<'_> {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// Writes one safetensors file. The same tensors give the same bytes.
///
/// # Errors
/// A file that cannot be written, or a tensor that yields more or fewer bytes than its shape has.
pub fn write_streams(path: &Path, mut tensors: Vec<TensorStream>) -> Result<()> {
    // Wider elements first, so that every tensor is aligned to its element.
    tensors.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
    let failed = |e| Error::io(path, e);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let header = header(&tensors).map_err(|e| e.at(path.display()))?;
    out.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(failed)?;
    out.write_all(&header).map_err(failed)?;
    for tensor in &tensors {
        let mut written = 0;
        (tensor.chunks)(&mut |piece| {
            written += piece.len();
            out.write_all(piece).map_err(failed)
        })?;
        if written != tensor.bytes() {
            let problem = format!("expected {} bytes, got {written}", tensor.bytes());
            return Err(Error::invalid(problem).at(&tensor.name).at(path.display()));
        }
    }
    out.flush().map_err(failed)
}

fn header(tensors: &[TensorStream]) -> Result<Vec<u8>> {
    let mut end = 0;
    let info = |tensor: &TensorStream| {
        let start = end;
        end += tensor.bytes();
        let info = StoredInfo {
            dtype: tensor.dtype.stored(),
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (tensor.name.clone(), info)
    };
    let infos = tensors.iter().map(info).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(Error::invalid)?;
    let mut header = serde_json::to_vec(&metadata).map_err(Error::invalid)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn stream(name: &str, dtype: Dtype, pieces: &'static [&'static [u8]]) -> TensorStream<'static> {
        TensorStream {
            name: name.to_owned(),
            dtype,
            shape: vec![2],
            chunks: Box::new(|sink| pieces.iter().try_for_each(|piece| sink(piece))),
        }
    }

    #[test]
    fn pieces_become_one_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let narrow = stream("a", Dtype::Bf16, &[&[0], &[63, 0, 64]]);
        let wide = stream("b", Dtype::F32, &[&[0, 0, 128, 63, 0, 0, 0, 64]]);
        write_streams(&path, vec![narrow, wide]).unwrap();
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert_eq!(checkpoint.read_f32("a").unwrap(), [0.5, 2.0]);
        assert_eq!(checkpoint.read_f32("b").unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn a_tensor_of_another_length_than_its_shape_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let short = stream("a", Dtype::F32, &[&[0; 4]]);
        let text = write_streams(&path, vec![short]).unwrap_err().to_string();
        assert!(text.ends_with("a: expected 8 bytes, got 4"), "{text}");
    }
}
