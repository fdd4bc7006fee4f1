use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::*;

fn saved(folder: &Path) -> PathBuf {
    let path = folder.join(WEIGHTS_FILE);
    let (a, b) = ([1.0, -2.5, 3.0], [0.5]);
    write_tensors(
        &path,
        vec![
            TensorData::f32("b", &[1], &b),
            TensorData::f32("a", &[1, 3], &a),
        ],
    )
    .unwrap();
    path
}

fn required<'a>(name: &'a str, shape: &'a [usize], optional: bool) -> Required<'a> {
    Required {
        name,
        shape,
        optional,
    }
}

fn opened_with(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(folder.path()).unwrap_err().to_string()
}

#[test]
fn written_tensors_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.info("a").unwrap().shape, [1, 3]);
    let mut last = [0; 4];
    checkpoint.read_range("a", 8, &mut last).unwrap();
    assert_eq!(f32::from_le_bytes(last), 3.0);
    assert_eq!(checkpoint.read("b").unwrap(), 0.5f32.to_le_bytes());
    assert!(checkpoint.read_range("a", 10, &mut last).is_err());
}

#[test]
fn an_inserted_tensor_stands_before_the_stored_one() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path());
    let mut checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.read_f32("a").unwrap(), [1.0, -2.5, 3.0]);
    checkpoint.insert("a", &[2], &[7.0, 8.0]);
    assert_eq!(checkpoint.info("a").unwrap().shape, [2]);
    assert_eq!(checkpoint.read_f32("a").unwrap(), [7.0, 8.0]);
    let mut last = [0; 4];
    checkpoint.read_range("a", 4, &mut last).unwrap();
    assert_eq!(f32::from_le_bytes(last), 8.0);
    assert!(checkpoint.read_range("a", 8, &mut last).is_err());
    let stored = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(stored.info("a").unwrap().shape, [1, 3]);
}

#[test]
fn every_dtype_is_widened() {
    let folder = tempfile::tempdir().unwrap();
    let halves = [0x00, 0x3e];
    let tensor = |name: &str, dtype| TensorData {
        name: name.to_owned(),
        dtype,
        shape: vec![1],
        bytes: Box::new(move || Cow::Owned(halves.to_vec())),
    };
    let tensors = vec![tensor("f16", Dtype::F16), tensor("bf16", Dtype::Bf16)];
    write_tensors(&folder.path().join(WEIGHTS_FILE), tensors).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.read_f32("f16").unwrap(), [1.5]);
    assert_eq!(checkpoint.read_f32("bf16").unwrap(), [0.125]);
}

#[test]
fn requirements_hold_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let (a, b) = (required("a", &[1, 3], false), required("b", &[1], false));
    checkpoint
        .require([a, b, required("score", &[1], true)])
        .unwrap();
    let text = checkpoint.require([a]).unwrap_err().to_string();
    assert!(text.ends_with("surplus tensor b"), "{text}");
    let text = checkpoint
        .require([a, b, required("c", &[1], false)])
        .unwrap_err()
        .to_string();
    assert!(text.ends_with("missing tensor c"), "{text}");
    let text = checkpoint
        .require([required("a", &[3, 1], false), b])
        .unwrap_err()
        .to_string();
    assert!(
        text.ends_with("tensor a: expected shape [3, 1], got [1, 3]"),
        "{text}"
    );
}

#[test]
fn a_broken_file_is_an_error() {
    assert!(opened_with(|b| b.truncate(4)).contains("safetensors header"));
    assert!(
        opened_with(|b| b[0..8].copy_from_slice(&u64::MAX.to_le_bytes())).contains("header of")
    );
    assert!(opened_with(|b| b[9] = b'!').contains("safetensors header"));
    assert!(opened_with(|b| b.truncate(b.len() - 1)).contains("bytes of tensors"));
    assert!(opened_with(|b| b.push(0)).contains("bytes of tensors"));
    let retyped = |b: &mut Vec<u8>| {
        let at = b.windows(5).position(|w| w == b"\"F32\"").unwrap();
        b[at + 1..at + 4].copy_from_slice(b"I32");
    };
    // Only where the tensor is asked for.
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    retyped(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let mut checkpoint = Checkpoint::open(folder.path()).unwrap();
    let problem = "a: expected F32, F16 or BF16, got I32";
    assert!(
        checkpoint
            .info("a")
            .unwrap_err()
            .to_string()
            .ends_with(problem)
    );
    let shape = [1, 3];
    let asked = [required("a", &shape, false), required("b", &[1], false)];
    let text = checkpoint.require(asked).unwrap_err().to_string();
    assert!(text.ends_with(&format!("tensor {problem}")), "{text}");
    checkpoint.remove("a");
    assert!(checkpoint.require([required("b", &[1], false)]).is_ok());
}

#[test]
fn a_folder_without_weights_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(text.contains("neither model.safetensors nor"), "{text}");
}
