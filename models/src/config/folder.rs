//! What a folder in the layout of transformers keeps in other files than `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::fields::Fields;
use super::{head, internvl, internvl_chat};
use crate::checkpoint::Checkpoint;
use crate::image::Normalization;
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
    if config["model_type"] == internvl::TYPE && config["force_image_size"].is_null() {
        let path = IMAGE_FILES.map(|name| folder.join(name));
        let path = path.iter().find(|path| path.is_file()).ok_or_else(|| {
            let problem = format!("neither {}", IMAGE_FILES.join(" nor "));
            Error::invalid(problem).at(folder.display())
        })?;
        let settings = json(path)?;
        image_settings(config, &Fields(&settings)).map_err(|e| e.at(path.display()))?;
    }
    Ok(())
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

/// Adds the settings of images. InternVL's class always cuts images into tiles, whatever the file says.
fn image_settings(config: &mut Value, file: &Fields) -> Result<()> {
    let images = match file.get(IMAGES) {
        Some(_) => file.section(IMAGES)?,
        None => Fields(file.0),
    };
    images.absent_or("resample", 3)?;
    for always in ["do_resize", "do_rescale", "do_normalize"] {
        images.absent_or(always, true)?;
    }
    let size = images.section("size")?;
    if size.size("height")? != size.size("width")? {
        return Err(images.wrong("size", "a square"));
    }
    config["force_image_size"] = json!(size.size("height")?);
    config["dynamic_image_size"] = json!(true);
    config["use_thumbnail"] = json!(true);
    config["min_dynamic_patch"] = json!(images.size_or("min_patches", 1)?);
    config["max_dynamic_patch"] = json!(images.size_or("max_patches", 12)?);
    config["normalize_type"] = json!(normalization(&images)?);
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
