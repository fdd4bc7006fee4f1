//! The names of tensors in other layouts than InternVL's, which the network has.

use super::branch::Branch;
use crate::Result;
use crate::checkpoint::{Names, Rename, Table};
use crate::config::Config;
use crate::kinds::{HeadNames, Layout, TensorNames};

/// As transformers saves InternVL.
const INTERNVL: [Rename; 16] = [
    rename(
        "vision_model.embeddings.class_embedding",
        &["vision_tower.embeddings.cls_token"],
    ),
    rename(
        "vision_model.embeddings.patch_embedding",
        &["vision_tower.embeddings.patch_embeddings.projection"],
    ),
    rename(
        "vision_model.embeddings.position_embedding",
        &["vision_tower.embeddings.position_embeddings"],
    ),
    rename(
        "vision_model.encoder.layers.*.ls1",
        &["vision_tower.encoder.layer.*.lambda_1"],
    ),
    rename(
        "vision_model.encoder.layers.*.ls2",
        &["vision_tower.encoder.layer.*.lambda_2"],
    ),
    rename(
        "vision_model.encoder.layers.*.norm1",
        &["vision_tower.encoder.layer.*.layernorm_before"],
    ),
    rename(
        "vision_model.encoder.layers.*.norm2",
        &["vision_tower.encoder.layer.*.layernorm_after"],
    ),
    rename(
        "vision_model.encoder.layers.*.attn.qkv",
        &[
            "vision_tower.encoder.layer.*.attention.q_proj",
            "vision_tower.encoder.layer.*.attention.k_proj",
            "vision_tower.encoder.layer.*.attention.v_proj",
        ],
    ),
    rename(
        "vision_model.encoder.layers.*.attn.proj",
        &["vision_tower.encoder.layer.*.attention.projection_layer"],
    ),
    rename(
        "vision_model.encoder.layers.*.attn.q_norm",
        &["vision_tower.encoder.layer.*.attention.q_norm"],
    ),
    rename(
        "vision_model.encoder.layers.*.attn.k_norm",
        &["vision_tower.encoder.layer.*.attention.k_norm"],
    ),
    rename(
        "vision_model.encoder.layers.*.mlp.fc1",
        &["vision_tower.encoder.layer.*.mlp.fc1"],
    ),
    rename(
        "vision_model.encoder.layers.*.mlp.fc2",
        &["vision_tower.encoder.layer.*.mlp.fc2"],
    ),
    rename("mlp1.0", &["multi_modal_projector.layer_norm"]),
    rename("mlp1.1", &["multi_modal_projector.linear_1"]),
    rename("mlp1.3", &["multi_modal_projector.linear_2"]),
];

/// As transformers saves a language model.
const TEXT: [Rename; 2] = [
    rename("language_model.model", &["model"]),
    rename("language_model.lm_head", &["lm_head"]),
];

/// Qwen's vision-language models with their parts side by side. The mergers come first: they are inside of the encoder.
const QWEN_FLAT: [Rename; 5] = [
    rename("mlp1.merger", &["visual.merger"]),
    rename(
        "mlp1.deepstack_merger_list",
        &["visual.deepstack_merger_list"],
    ),
    rename("vision_model", &["visual"]),
    rename("language_model.model", &["model"]),
    rename("language_model.lm_head", &["lm_head"]),
];

/// The same with the parts inside of `model`.
const QWEN_NESTED: [Rename; 5] = [
    rename("mlp1.merger", &["model.visual.merger"]),
    rename(
        "mlp1.deepstack_merger_list",
        &["model.visual.deepstack_merger_list"],
    ),
    rename("vision_model", &["model.visual"]),
    rename("language_model.model", &["model.language_model"]),
    rename("language_model.lm_head", &["lm_head"]),
];

/// As transformers has the language model inside of the module `model`.
const LANGUAGE_IN_MODEL: [Rename; 2] = [
    rename("language_model.model", &["model.language_model"]),
    rename("language_model.lm_head", &["lm_head"]),
];

const fn rename(ours: &'static str, theirs: &'static [&'static str]) -> Rename {
    Rename { ours, theirs }
}

const VALUE_HEAD: [Rename; 1] = [rename("score", &["v_head.summary"])];
const RM_HEAD: [Rename; 1] = [rename("score", &["rm_head"])];

const fn table(within: &'static str, renames: &'static [Rename]) -> Table {
    Table { within, renames }
}

fn tables(config: &Config) -> Vec<Table> {
    let mut tables = match config.layout {
        Layout::InternvlChat => Vec::new(),
        Layout::Internvl if config.is_in_model => {
            vec![table("model.", &INTERNVL), table("", &LANGUAGE_IN_MODEL)]
        }
        Layout::Internvl => vec![table("", &INTERNVL)],
        Layout::Text => vec![table("", &TEXT)],
        Layout::QwenVl(TensorNames::Flat) => vec![table("", &QWEN_FLAT)],
        Layout::QwenVl(TensorNames::Nested) => vec![table("", &QWEN_NESTED)],
    };
    tables.extend(match config.head.names {
        HeadNames::Score => None,
        HeadNames::ValueHead => Some(table("", &VALUE_HEAD)),
        HeadNames::RmHead => Some(table("", &RM_HEAD)),
    });
    tables
}

/// The names of a checkpoint's tensors in its files.
///
/// # Errors
/// A configuration of the text-only branch that is not supported.
pub(super) fn names(config: &Config) -> Result<Names> {
    Ok(names_of(config, &config.text_only_branch()?))
}

/// The same for a checkpoint of these branches.
pub fn names_of(main: &Config, text_only: &Config) -> Names {
    Names::default()
        .with(Branch::TextOnly.prefix(), tables(text_only))
        .with(Branch::Main.prefix(), tables(main))
}

/// The names of one branch's tensors, all after `prefix`.
pub fn names_after(prefix: &str, config: &Config) -> Names {
    Names::default().with(prefix.to_owned(), tables(config))
}
