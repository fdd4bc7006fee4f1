//! Finding the weight files of a folder, and reading their headers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::{Error, Result};

/// The single-file name of the layout.
pub const WEIGHTS_FILE: &str = "model.safetensors";
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";
/// The limit of the format's own reader.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The names of the folder's weight files, in order.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<String>> {
    let index = folder.join(INDEX_FILE);
    if folder.join(WEIGHTS_FILE).exists() {
        return Ok(vec![WEIGHTS_FILE.to_owned()]);
    }
    if !index.exists() {
        return Err(
            Error::invalid(format!("neither {WEIGHTS_FILE} nor {INDEX_FILE}")).at(folder.display()),
        );
    }
    let text = std::fs::read_to_string(&index).map_err(|e| Error::io(&index, e))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(index.display()))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map =
        map.ok_or_else(|| Error::invalid("expected an object weight_map").at(index.display()))?;
    let name = |(tensor, file): (&String, &Value)| {
        let problem = || Error::invalid(format!("expected a file name, got {file}"));
        let name = file.as_str().ok_or_else(|| problem().at(tensor));
        name.map(str::to_owned)
    };
    let names: Result<Vec<String>> = map.iter().map(name).collect();
    let mut names = names.map_err(|e| e.at("weight_map").at(index.display()))?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// The header's end in the file and its content, checked: sizes match dtypes and shapes, ranges are contiguous and end
/// at the end of the file.
pub(super) fn read_header(path: &Path, file: &File) -> Result<(u64, Metadata)> {
    let broken = |problem: String| Error::invalid(problem).at(path.display());
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut size = [0; 8];
    file.read_exact_at(&mut size, 0)
        .map_err(|e| Error::io(path, e).at("safetensors header"))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER_BYTES || size + 8 > length {
        return Err(broken(format!(
            "safetensors header of {size} bytes in a file of {length}"
        )));
    }
    let mut header = vec![0; size as usize];
    file.read_exact_at(&mut header, 8)
        .map_err(|e| Error::io(path, e))?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| broken(format!("safetensors header: {e}")))?;
    check_ranges(&metadata, length - 8 - size).map_err(|e| e.at(path.display()))?;
    Ok((8 + size, metadata))
}

fn check_ranges(metadata: &Metadata, data_bytes: u64) -> Result<()> {
    let tensors = metadata.tensors();
    let mut end = 0;
    for name in metadata.offset_keys() {
        let info = tensors[&name];
        let elements = info
            .shape
            .iter()
            .try_fold(1_usize, |n, &dim| n.checked_mul(dim));
        let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let (start, stop) = info.data_offsets;
        if start != end || stop < start || bits != (stop - start).checked_mul(8) {
            return Err(Error::invalid(format!(
                "tensor {name}: bytes {start}..{stop} do not fit {:?}",
                info.shape
            )));
        }
        end = stop;
    }
    if end as u64 != data_bytes {
        return Err(Error::invalid(format!(
            "expected {end} bytes of tensors, got {data_bytes}"
        )));
    }
    Ok(())
}
