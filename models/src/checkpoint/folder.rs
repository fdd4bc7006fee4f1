//! What a folder is that holds no checkpoint in the layout read here: known by its files before any of them is parsed.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::header::{INDEX_FILE, WEIGHTS_FILE};
use crate::{Error, Result};

/// The first bytes of a file that Git keeps elsewhere.
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// No pointer is longer, in bytes.
const LONGEST_POINTER: u64 = 1024;

/// A kind of folder without weights in safetensors, and how it is known: by the start or the end of a file's name.
struct Kind {
    is: fn(&str) -> bool,
    problem: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        is: |name| name == "adapter_config.json",
        problem: "LoRA adapters without their model: merge them with PEFT (PeftModel.from_pretrained over the base model, \
                  then merge_and_unload() and save_pretrained) and use the folder saved then",
    },
    Kind {
        is: |name| name == "zero_to_fp32.py" || name.starts_with("global_step"),
        problem: "the state of DeepSpeed ZeRO: run its zero_to_fp32.py with --safe_serialization, which gathers the weights",
    },
    Kind {
        is: |name| name.starts_with("pytorch_model_fsdp") || name.ends_with(".distcp"),
        problem: "the state of PyTorch FSDP: gather the weights with accelerate merge-weights",
    },
    Kind {
        is: |name| name.starts_with("pytorch_model") && name.contains(".bin"),
        problem: "weights as pytorch_model.bin, a pickle, which is not read: load and save the model once with \
                  save_pretrained(folder, safe_serialization=True)",
    },
    Kind {
        is: |name| name == "checkpoint-last" || name.starts_with("checkpoint-"),
        problem: "the output of a training run: name one of the checkpoint folders in it",
    },
];

/// Refuses a folder that is known to hold something else than a checkpoint, with the way to one.
///
/// # Errors
/// Git LFS pointers, adapters, pickled or sharded trainer state, quantized weights; the message has the cure.
pub(crate) fn diagnose(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        // The reader of its files names the one that is missing.
        return Ok(());
    };
    let names =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    if let Some(name) = names.iter().find(|name| is_pointer(&folder.join(name))) {
        let problem = "a Git LFS pointer in place of the file: run git lfs pull in its repository";
        return Err(Error::invalid(problem).at(folder.join(name).display()));
    }
    let refused = |problem: String| Err(Error::invalid(problem).at(folder.display()));
    if let Some(method) = quantization(folder) {
        return refused(format!(
            "quantized weights ({method}): the folder of the model before quantization is needed"
        ));
    }
    if names
        .iter()
        .any(|name| [WEIGHTS_FILE, INDEX_FILE].contains(&&**name))
    {
        return Ok(());
    }
    let kind = KINDS
        .iter()
        .find(|kind| names.iter().any(|name| (kind.is)(name)));
    kind.map_or(Ok(()), |kind| refused(kind.problem.to_owned()))
}

/// Whether the file is a Git LFS pointer.
fn is_pointer(path: &Path) -> bool {
    let small = path
        .metadata()
        .is_ok_and(|m| m.is_file() && m.len() <= LONGEST_POINTER);
    let mut start = [0; LFS_POINTER.len()];
    let mut read = || File::open(path)?.read_exact(&mut start);
    small && read().is_ok() && start == LFS_POINTER
}

/// The method by which config.json says that the weights are quantized.
fn quantization(folder: &Path) -> Option<String> {
    let text = fs::read(folder.join("config.json")).ok()?;
    let config: Value = serde_json::from_slice(&text).ok()?;
    let sections = [&config, &config["llm_config"], &config["text_config"]];
    let found = sections
        .iter()
        .map(|section| &section["quantization_config"]);
    let found = found.filter(|section| section.is_object()).next()?;
    let method = found["quant_method"].as_str();
    Some(method.unwrap_or("quantization_config").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message for a folder with these files.
    fn message(files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        diagnose(folder.path()).err().map(|e| e.to_string())
    }

    #[test]
    fn every_kind_of_folder_is_named_with_its_cure() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        let awq = r#"{"quantization_config": {"bits": 4, "quant_method": "awq"}}"#;
        let within = r#"{"llm_config": {"quantization_config": {"quant_method": "bitsandbytes"}}}"#;
        for (name, text, cure) in [
            ("model.safetensors", pointer, "git lfs pull"),
            ("tokenizer.model", pointer, "git lfs pull"),
            ("config.json", awq, "quantized weights (awq)"),
            ("config.json", within, "quantized weights (bitsandbytes)"),
            ("adapter_config.json", "{}", "merge_and_unload"),
            (
                "pytorch_model.bin.index.json",
                "{}",
                "safe_serialization=True",
            ),
            ("zero_to_fp32.py", "", "zero_to_fp32.py"),
            ("pytorch_model_fsdp.bin", "", "merge-weights"),
            ("checkpoint-100", "", "name one of the checkpoint folders"),
        ] {
            let message = message(&[(name, text)]).unwrap_or_default();
            assert!(message.contains(cure), "{name}: {message}");
        }
    }

    #[test]
    fn weights_in_safetensors_are_enough() {
        for other in [
            "adapter_config.json",
            "pytorch_model.bin",
            "zero_to_fp32.py",
            "note.txt",
        ] {
            assert_eq!(
                message(&[("model.safetensors", "…"), (other, "")]),
                None,
                "{other}"
            );
        }
        assert_eq!(message(&[("config.json", "{")]), None);
        assert!(diagnose(Path::new("no/such/folder")).is_ok());
    }
}
