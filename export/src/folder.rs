//! The bundle's folder: everything in it but the graphs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use seeward_models::Error;
use seeward_models::bundle::{self, Manifest};
use seeward_models::contract::GROUP;
use seeward_models::forest::ModelFlops;
use seeward_models::image::PIXELS_VERSION;
use seeward_models::kinds::Precision;

use crate::graph::OPSET;
use crate::lower::Lowering;
use crate::options::Options;
use crate::source::Source;

/// Checks that the output folder, which is replaced as a whole, holds nothing but a bundle.
///
/// # Errors
/// A folder with other content, or one that contains the checkpoint.
pub(crate) fn check_output(options: &Options) -> Result<()> {
    let output = &options.output;
    if !output.exists() {
        return Ok(());
    }
    let place = output.display();
    let resolved = |path: &Path| path.canonicalize().map_err(|e| Error::io(path, e));
    if resolved(&options.checkpoint)?.starts_with(resolved(output)?) {
        bail!("{place}: the checkpoint is in this folder, which the bundle would replace");
    }
    if !output.join(bundle::MANIFEST_FILE).is_file() && !file_sizes(output)?.is_empty() {
        bail!(
            "{place}: expected a new or empty folder, or a bundle to replace; found other files (no {})",
            bundle::MANIFEST_FILE
        );
    }
    Ok(())
}

/// The size in bytes of every file in a folder.
///
/// # Errors
/// An unreadable folder.
pub(crate) fn file_sizes(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let sizes = || -> std::io::Result<_> {
        let size = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.metadata()?.len()))
        };
        std::fs::read_dir(folder)?.map(size).collect()
    };
    Ok(sizes().map_err(|e| Error::io(folder, e))?)
}

/// Copies the tokenizer's files into `folder`.
///
/// # Errors
/// A file that cannot be copied.
pub(crate) fn copy_tokenizer(source: &Source, folder: &Path) -> Result<()> {
    for file in source.prompter.tokenizer().files() {
        let copy = folder.join(file_name(file));
        std::fs::copy(file, copy).map_err(|e| Error::io(file, e))?;
    }
    Ok(())
}

/// Copies the images of the bundle's probes into `folder`.
///
/// # Errors
/// A file that cannot be copied.
pub(crate) fn copy_probe_images(options: &Options, source: &Source, folder: &Path) -> Result<()> {
    for image in source.probes.kept.iter().flat_map(|probe| &probe.images) {
        let (from, to) = (options.checkpoint.join(image), folder.join(image));
        let parent = to.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        std::fs::copy(&from, to).map_err(|e| Error::io(&from, e))?;
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The manifest, without the hashes of the files.
pub(crate) fn manifest(options: &Options, source: &Source, lowering: Lowering) -> Manifest {
    let config = &source.config;
    Manifest {
        format_version: bundle::FORMAT_VERSION,
        family: config.text.family.architecture().to_owned(),
        target: options.target,
        precision: options.precision,
        group_size: (options.precision == Precision::Int8).then_some(GROUP),
        opset: OPSET,
        hidden_size: config.text.hidden,
        image_width: config.image_width(),
        rope: config.text.rope.clone(),
        work: ModelFlops::of(&config.text),
        prompt: source.prompter.settings().clone(),
        pixels_version: PIXELS_VERSION,
        images: config.images,
        transparency: config.transparency,
        reward_at: config.head.at.clone(),
        input_mode: source.input_mode,
        reward_mean: source.reward_scale.map(|scale| scale.mean),
        reward_std: source.reward_scale.map(|scale| scale.std),
        reward_offset: None,
        probes: source.probes.kept.clone(),
        probe_tolerance: lowering.probe_tolerance(),
        checkpoint: options.checkpoint.display().to_string(),
        tokenizer: tokenizer_files(source),
        files: BTreeMap::new(),
    }
}

fn tokenizer_files(source: &Source) -> Vec<String> {
    let files = source.prompter.tokenizer().files();
    files.iter().map(|file| file_name(file)).collect()
}
