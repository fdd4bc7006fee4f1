//! Reading a tokenizer's files.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

pub(super) fn read_file(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|e| Error::io(file, e))
}
