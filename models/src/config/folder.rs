//! What a folder in the layout of transformers keeps in other files than `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::fields::Fields;
use super::own::VISION;
use super::qwen_vl::{self, QwenVl};
use super::{head, internvl, internvl_chat};
use crate::checkpoint::Checkpoint;
use crate::image::Normalization;
use crate::kinds::TensorNames;
use crate::prompt::Template;
use crate::{Error, Result};

/// Where transformers keeps the settings of images, newest first.
const IMAGE_FILES: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];
/// Where it keeps the conversation template, newest first.
const TEMPLATES: [&str; 3] = [
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
];

/// What pixels are multiplied with before their normalisation.
const RESCALE: f64 = 1.0 / 255.0;

/// The section of the newer file.
const IMAGES: &str = "image_processor";

/// Every file that a folder may have besides weights, tokenizer and `config.json`.
pub const OTHER_FILES: [&str; 4] = [
    "processor_config.json",
    "preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

pub(super) fn json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(path.display()))
}

/// Adds the score head, the template and the settings of images to a `config.json` that has none.
pub(super) fn complete(config: &mut Value, folder: &Path) -> Result<()> {
    if !config.is_object() {
        return Ok(());
    }
    if config[head::HEAD].is_null()
        && let Some(head) = head::stored(folder)
    {
        config[head::HEAD] = head;
    }
    if config["model_type"] == internvl_chat::TYPE {
        return Ok(());
    }
    if config["model_type"] == internvl::TYPE && is_in_model(folder) {
        config[internvl::PREFIX] = json!(internvl::MODEL);
    }
    if config["template"].is_null()
        && let Some(template) = template(folder)?
    {
        config["template"] = json!(template);
    }
    let path = IMAGE_FILES.map(|name| folder.join(name));
    let path = path.iter().find(|path| path.is_file());
    let kind = config["model_type"].as_str().unwrap_or_default();
    if kind == internvl::TYPE && config["force_image_size"].is_null() {
        let path = path.ok_or_else(|| {
            let problem = format!("neither {}", IMAGE_FILES.join(" nor "));
            Error::invalid(problem).at(folder.display())
        })?;
        return of_images(path, |images| tile_settings(config, images));
    }
    if QwenVl::named(kind).is_none() {
        return Ok(());
    }
    if config[qwen_vl::NAMES].is_null() {
        config[qwen_vl::NAMES] = json!(tensor_names(folder));
    }
    let has_limits = qwen_vl::PIXELS.iter().all(|key| !config[*key].is_null());
    match path.filter(|_| !has_limits) {
        // Limits may be named by the user.
        None => Ok(()),
        Some(path) => of_images(path, |images| grid_settings(config, images)),
    }
}

/// Reads the settings of images in this file.
fn of_images(path: &Path, read: impl FnOnce(&Fields) -> Result<()>) -> Result<()> {
    let file = json(path)?;
    let file = Fields(&file);
    let images = match file.get(IMAGES) {
        Some(_) => file.section(IMAGES),
        None => Ok(Fields(file.0)),
    };
    let read = images.and_then(|images| {
        images.absent_or("resample", 3)?;
        for always in ["do_resize", "do_rescale", "do_normalize"] {
            images.absent_or(always, true)?;
        }
        let scale = images.number_or("rescale_factor", RESCALE)?;
        if (scale - RESCALE).abs() > 1e-9 {
            return Err(images.wrong("rescale_factor", "1/255"));
        }
        read(&images)
    });
    read.map_err(|e| e.at(path.display()))
}

/// The names of the tensors in a folder's weights.
fn tensor_names(folder: &Path) -> Option<TensorNames> {
    // A folder without weights, or with broken ones, is refused where they are read.
    let weights = Checkpoint::open(folder).ok()?;
    let nested = |name: &str| {
        ["model.visual.", "model.language_model."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    match weights.names().any(nested) {
        true => Some(TensorNames::Nested),
        false => Some(TensorNames::Flat),
    }
}

/// Whether the language model's tensors are in the module `model`.
fn is_in_model(folder: &Path) -> bool {
    let start = format!("{}language_model.", internvl::MODEL);
    // A folder without weights, or with broken ones, is refused where they are read.
    Checkpoint::open(folder).is_ok_and(|weights| weights.names().any(|n| n.starts_with(&start)))
}

/// The template of a folder whose Jinja text is known.
fn template(folder: &Path) -> Result<Option<Template>> {
    for name in TEMPLATES {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let text = match name.ends_with(".jinja") {
            true => std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?,
            false => match json(&path)?["chat_template"].as_str() {
                Some(text) => text.to_owned(),
                None => continue,
            },
        };
        return Ok(Template::of_jinja(&text));
    }
    Ok(None)
}

/// Adds the settings of tiles. InternVL's class always cuts images into tiles, whatever the file says.
fn tile_settings(config: &mut Value, images: &Fields) -> Result<()> {
    let size = images.section("size")?;
    if size.size("height")? != size.size("width")? {
        return Err(images.wrong("size", "a square"));
    }
    config["force_image_size"] = json!(size.size("height")?);
    config["dynamic_image_size"] = json!(true);
    config["use_thumbnail"] = json!(true);
    config["min_dynamic_patch"] = json!(images.size_or("min_patches", 1)?);
    config["max_dynamic_patch"] = json!(images.size_or("max_patches", 12)?);
    config["normalize_type"] = json!(normalization(images)?);
    Ok(())
}

/// Adds the settings of grids; those of the encoder must be its own.
fn grid_settings(config: &mut Value, images: &Fields) -> Result<()> {
    for (key, of_encoder) in [
        ("patch_size", "patch_size"),
        ("merge_size", "spatial_merge_size"),
        ("temporal_patch_size", "temporal_patch_size"),
    ] {
        let own = &config[VISION][of_encoder];
        if !own.is_null() {
            images.absent_or(key, own.clone())?;
        }
    }
    let size = match images.get("size") {
        None => None,
        Some(_) => Some(images.section("size")?),
    };
    for (key, edge) in qwen_vl::PIXELS
        .iter()
        .zip(["shortest_edge", "longest_edge"])
    {
        let by_size = size.as_ref().and_then(|size| size.get(edge));
        if let (true, Some(limit)) = (config[*key].is_null(), images.get(key).or(by_size)) {
            config[*key] = limit.clone();
        }
    }
    if config["normalize_type"].is_null() && images.get("image_mean").is_some() {
        config["normalize_type"] = json!(normalization(images)?);
    }
    Ok(())
}

fn normalization(images: &Fields) -> Result<Normalization> {
    let (mean, std) = (
        images.factors("image_mean", 3)?,
        images.factors("image_std", 3)?,
    );
    let near = |given: &[f64], ours: [f32; 3]| {
        let pairs = given.iter().zip(ours);
        pairs
            .into_iter()
            .all(|(a, b)| (a - f64::from(b)).abs() < 1e-6)
    };
    let found = Normalization::ALL
        .into_iter()
        .find(|kind| near(&mean, kind.mean()) && near(&std, kind.std()));
    found.ok_or_else(|| images.wrong("image_mean", "that of ImageNet, CLIP or SigLIP"))
}
