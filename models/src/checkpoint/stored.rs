//! The tensors of a checkpoint folder, read by ranges.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};

use super::dtype::Dtype;
use super::header::{read_header, weight_files};
use crate::{Error, Result};

/// Type, shape and place of a stored tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Element type on disk.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    place: Place,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Place {
    File { file: usize, offset: u64 },
    Memory(Arc<[u8]>),
}

/// A tensor that a model must find in its checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Required<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Whether a checkpoint may lack it.
    pub optional: bool,
}

impl TensorInfo {
    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The tensors of a checkpoint folder, by name.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Tensors of another element type, which no network reads, each with the problem.
    unreadable: BTreeMap<String, Error>,
}

impl Checkpoint {
    /// Opens the folder's safetensors and checks their headers against the files' lengths.
    ///
    /// # Errors
    /// No weights, a file that cannot be read, or a header that does not match its file.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        for name in weight_files(folder)? {
            checkpoint.add_file(folder.join(name))?;
        }
        Ok(checkpoint)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// A file that cannot be read, or a header that does not match it.
    pub fn open_file(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut checkpoint = Self {
            folder,
            files: Vec::new(),
            tensors: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        checkpoint.add_file(path.to_owned())?;
        Ok(checkpoint)
    }

    /// The names of all tensors, those of an element type that no network reads last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.tensors.keys().chain(self.unreadable.keys());
        names.map(String::as_str)
    }

    /// Every tensor whose element type networks read, in the order of names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, info)| (name.as_str(), info))
    }

    /// Type, shape and place of a tensor.
    ///
    /// # Errors
    /// No tensor of that name, or one of an element type that no network reads.
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        let problem = || match self.unreadable.get(name) {
            Some(problem) => Error::invalid(problem).at(name),
            None => Error::invalid(format!("no tensor {name}")),
        };
        let info = self.tensors.get(name);
        info.ok_or_else(|| problem().at(self.folder.display()))
    }

    /// Removes the tensor of this name, if there is one. The folder is unchanged.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
        self.unreadable.remove(name);
    }

    /// Gives the tensor of this name, if there is one, another name. The folder is unchanged.
    pub fn rename(&mut self, from: &str, to: &str) {
        let info = self.tensors.remove(from);
        self.tensors.extend(info.map(|info| (to.to_owned(), info)));
    }

    /// Whether a tensor of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads `into.len()` bytes of a tensor from byte `offset` on.
    ///
    /// # Errors
    /// No such tensor or range, or the disk's.
    pub fn read_range(&self, name: &str, offset: usize, into: &mut [u8]) -> Result<()> {
        let info = self.info(name)?;
        if offset + into.len() > info.bytes {
            return Err(Error::invalid(format!(
                "tensor {name} has only {} bytes",
                info.bytes
            )));
        }
        match &info.place {
            Place::Memory(bytes) => into.copy_from_slice(&bytes[offset..offset + into.len()]),
            Place::File {
                file,
                offset: start,
            } => {
                let (path, file) = &self.files[*file];
                file.read_exact_at(into, start + offset as u64)
                    .map_err(|e| Error::io(path, e).at(name))?;
            }
        }
        Ok(())
    }

    /// Reads a whole tensor.
    ///
    /// # Errors
    /// No such tensor, or the disk's.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.info(name)?.bytes];
        self.read_range(name, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a whole tensor, widened to f32.
    ///
    /// # Errors
    /// No such tensor, or the disk's.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let (dtype, bytes) = (self.info(name)?.dtype, self.read(name)?);
        let halves = bytes.as_chunks().0.iter();
        Ok(match dtype {
            Dtype::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
            Dtype::F16 => halves.map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::Bf16 => halves.map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        })
    }

    /// Adds a tensor of f32 values in memory, which replaces a stored one of that name. The folder is unchanged.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Arc<[u8]> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: bytes.len(),
            place: Place::Memory(bytes),
        };
        self.tensors.insert(name.to_owned(), info);
    }

    /// Checks the folder against the tensors that a model needs, in both directions: nothing missing, nothing surplus,
    /// every shape as expected.
    ///
    /// # Errors
    /// A list of all problems, not only the first.
    pub fn require<'a>(&self, expected: impl IntoIterator<Item = Required<'a>>) -> Result<()> {
        let expected: Vec<Required> = expected.into_iter().collect();
        let known: HashMap<&str, &Required> = expected.iter().map(|r| (r.name, r)).collect();
        let missing = expected
            .iter()
            .filter(|required| !required.optional && !self.contains(required.name))
            .filter(|required| !self.unreadable.contains_key(required.name));
        let mut problems: Vec<String> = missing
            .map(|required| format!("missing tensor {}", required.name))
            .collect();
        for (name, problem) in &self.unreadable {
            problems.push(match known.contains_key(name.as_str()) {
                true => format!("tensor {name}: {problem}"),
                false => format!("surplus tensor {name}"),
            });
        }
        for (name, info) in self.tensors() {
            match known.get(name) {
                None => problems.push(format!("surplus tensor {name}")),
                Some(required) if required.shape != info.shape => {
                    problems.push(format!(
                        "tensor {name}: expected shape {:?}, got {:?}",
                        required.shape, info.shape
                    ));
                }
                Some(_) => {}
            }
        }
        summary(&problems).map_or(Ok(()), |text| {
            Err(Error::invalid(text).at(self.folder.display()))
        })
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        let (header_end, metadata) = read_header(&path, &file)?;
        for (name, stored) in metadata.tensors() {
            let dtype = match Dtype::from_stored(stored.dtype) {
                Ok(dtype) => dtype,
                Err(problem) => {
                    self.unreadable.insert(name, problem);
                    continue;
                }
            };
            let (start, end) = stored.data_offsets;
            let info = TensorInfo {
                dtype,
                shape: stored.shape.clone(),
                place: Place::File {
                    file: self.files.len(),
                    offset: header_end + start as u64,
                },
                bytes: end - start,
            };
            if self.tensors.insert(name.clone(), info).is_some() {
                return Err(
                    Error::invalid(format!("tensor {name} is in two shards")).at(path.display())
                );
            }
        }
        self.files.push((path, file));
        Ok(())
    }
}

fn summary(problems: &[String]) -> Option<String> {
    const SHOWN: usize = 8;
    if problems.is_empty() {
        return None;
    }
    let more = problems.len().saturating_sub(SHOWN);
    let shown = problems
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    Some(if more > 0 {
        format!("{shown}; and {more} more")
    } else {
        shown
    })
}
