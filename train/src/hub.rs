//! A model's name → its folder: a path unchanged, a hub id by the local Hugging Face cache. Nothing is downloaded.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The checkpoint folder of a path or hub id (`organisation/model`).
///
/// # Errors
/// Neither a folder nor in the cache; the message says how to download it.
pub(crate) fn resolve(name: &str) -> Result<PathBuf> {
    resolve_in(
        name,
        cache(|variable| std::env::var(variable).ok()).as_deref(),
    )
}

fn resolve_in(name: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if !is_hub_id(name) {
        bail!("{name}: no such checkpoint folder");
    }
    let Some(cache) = cache else {
        bail!("{name}: no such folder, and no Hugging Face cache (HF_HOME or HOME is not set)");
    };
    match snapshot(cache, name) {
        Some(snapshot) => Ok(snapshot),
        None => bail!(
            "{name}: no such folder, and not in the Hugging Face cache {}: download it with `hf download {name}`",
            cache.display()
        ),
    }
}

/// The cache's folder, by the environment variables of the Hugging Face libraries.
fn cache(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HF_HUB_CACHE")
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// The snapshot that `main` points at.
fn snapshot(cache: &Path, id: &str) -> Option<PathBuf> {
    let model = cache.join(format!("models--{}", id.replace('/', "--")));
    let revision = std::fs::read_to_string(model.join("refs/main")).ok()?;
    let folder = model.join("snapshots").join(revision.trim());
    folder.is_dir().then_some(folder)
}

fn is_hub_id(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2
        && parts
            .iter()
            .all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_hub_id_is_looked_up_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--OpenGVLab--InternVL2-1B");
        let snapshot = model.join("snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), "abc\n").unwrap();
        let resolved = |name| resolve_in(name, Some(cache.path()));
        assert_eq!(resolved("OpenGVLab/InternVL2-1B").unwrap(), snapshot);
        let message = resolved("OpenGVLab/InternVL2-9B").unwrap_err().to_string();
        assert!(
            message.contains("`hf download OpenGVLab/InternVL2-9B`"),
            "{message}"
        );
        assert!(
            resolved("/no/where")
                .unwrap_err()
                .to_string()
                .contains("no such checkpoint folder")
        );
        assert_eq!(resolved(snapshot.to_str().unwrap()).unwrap(), snapshot);
    }

    #[test]
    fn the_cache_is_where_the_variables_say() {
        let with = |pairs: &'static [(&str, &str)]| {
            cache(move |name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, v)| (*v).to_owned())
            })
        };
        assert_eq!(
            with(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]),
            Some("/c".into())
        );
        assert_eq!(
            with(&[("HF_HOME", "/h"), ("HOME", "/u")]),
            Some("/h/hub".into())
        );
        assert_eq!(
            with(&[("HOME", "/u")]),
            Some("/u/.cache/huggingface/hub".into())
        );
        assert_eq!(with(&[]), None);
    }
}
