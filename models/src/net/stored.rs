//! A checkpoint folder as the network reads it: what others name or add differently is read alike, or refused with the
//! cure.

use std::path::Path;

use super::part::Part;
use super::{SCORE_HEAD, TEXT_ONLY_SCOPE};
use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

/// Buffers without weights, which older versions of transformers saved: their values follow from the configuration.
const BUFFERS: [&str; 2] = [".inv_freq", ".position_ids"];
/// Components of the names of LoRA layers that are not merged.
const LORA: [&str; 3] = ["lora_A", "lora_B", "base_layer"];

/// Opens the folder's weights for the network. Returns them with a notice if tensors are ignored.
///
/// # Errors
/// As [`Checkpoint::open`]; weights whose names say that they need a step first, such as merging (the message has it).
pub fn open(folder: &Path) -> Result<(Checkpoint, Option<String>)> {
    let mut checkpoint = Checkpoint::open(folder)?;
    let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
    if let Some(problem) = diagnosis(&names) {
        return Err(Error::invalid(problem).at(folder.display()));
    }
    let is_buffer = |name: &&String| BUFFERS.iter().any(|buffer| name.ends_with(buffer));
    let buffers: Vec<&String> = names.iter().filter(is_buffer).collect();
    buffers.iter().for_each(|name| checkpoint.remove(name));
    // ms-swift has the score head inside of the language model.
    let inside = format!("{}.{SCORE_HEAD}", Part::Language.module());
    if !names.iter().any(|name| name == SCORE_HEAD) {
        checkpoint.rename(&inside, SCORE_HEAD);
    }
    let notice = buffers.first().map(|first| {
        let (folder, count) = (folder.display(), buffers.len());
        format!("{folder}: {count} buffers without weights are ignored, such as {first}")
    });
    Ok((checkpoint, notice))
}

/// Why no network has tensors of these names.
fn diagnosis(names: &[String]) -> Option<String> {
    let is_lora = |name: &&String| name.split('.').any(|part| LORA.contains(&part));
    if let Some(name) = names.iter().find(is_lora) {
        return Some(format!(
            "LoRA layers that are not merged, such as {name}: merge them first (merge_and_unload() of PEFT) and save the \
             model then"
        ));
    }
    let prefix = common_prefix(names)?;
    Some(format!(
        "every tensor's name begins with \"{prefix}\", which the model's own names do not: save the model without its \
         wrapper, or remove the prefix from the names"
    ))
}

/// What stands before the model's own names in all of these.
fn common_prefix(names: &[String]) -> Option<&str> {
    let modules = Part::ALL.map(Part::module);
    let is_own = |part: &str| modules.contains(&part) || part == TEXT_ONLY_SCOPE;
    let first = names.first()?;
    let parts: Vec<&str> = first.split('.').collect();
    let place = parts
        .iter()
        .position(|part| is_own(part))
        .filter(|place| *place > 0)?;
    let length = parts[..place].iter().map(|part| part.len() + 1).sum();
    let prefix = &first[..length];
    let inside = |name: &String| {
        let rest = name.strip_prefix(prefix);
        rest.and_then(|rest| rest.split('.').next())
            .is_some_and(is_own)
    };
    names.iter().all(inside).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};

    fn open_with(names: &[&str]) -> Result<(Vec<String>, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let tensor = |name: &&str| TensorData::f32(*name, &[1], &[1.0]);
        let path = folder.path().join(WEIGHTS_FILE);
        write_tensors(&path, names.iter().map(tensor).collect()).unwrap();
        let (checkpoint, notice) = open(folder.path())?;
        Ok((checkpoint.names().map(str::to_owned).collect(), notice))
    }

    #[test]
    fn the_head_of_others_and_their_buffers_are_understood() {
        let layer = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq";
        let (names, notice) = open_with(&["language_model.score.weight", layer]).unwrap();
        assert_eq!(names, ["score.weight"]);
        let notice = notice.unwrap();
        assert!(
            notice.contains("1 buffers") && notice.ends_with(layer),
            "{notice}"
        );
        // With two heads both stay, and one is a surplus tensor.
        let (names, _) = open_with(&["language_model.score.weight", "score.weight"]).unwrap();
        assert_eq!(names, ["language_model.score.weight", "score.weight"]);
    }

    #[test]
    fn names_that_need_a_step_say_which() {
        let lora = [
            "language_model.base_model.model.a.lora_A.default.weight",
            "score.weight",
        ];
        let wrapped = [
            "module.language_model.a",
            "module.mlp1.0.weight",
            "module.score.weight",
        ];
        let compiled = ["_orig_mod.vision_model.a"];
        for (names, cure) in [
            (&lora[..], "merge them first"),
            (&wrapped, "begins with \"module.\""),
            (&compiled, "begins with \"_orig_mod.\""),
        ] {
            let problem = open_with(names).unwrap_err().to_string();
            assert!(problem.contains(cure), "{problem}");
        }
        // Not all of them: those without the prefix are missing, and are named as that.
        assert!(open_with(&["module.score.weight", "mlp1.0.weight"]).is_ok());
    }
}
