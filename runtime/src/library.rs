//! ONNX Runtime's shared library and its environment, one of each in a process.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::{Error, Result};

const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The least severity of ONNX Runtime's own messages, on stderr.
const LOG_VARIABLE: &str = "SEEWARD_ENGINE_LOG";
/// The folder of ONNX Runtime's profiles: a file of node times for each graph that is opened.
const PROFILE_VARIABLE: &str = "SEEWARD_ENGINE_PROFILE";
const LOG_LEVELS: [(&str, LogLevel); 4] = [
    ("verbose", LogLevel::Verbose),
    ("info", LogLevel::Info),
    ("warning", LogLevel::Warning),
    ("error", LogLevel::Error),
];
const THIRD_PARTY: &str = "third_party/onnxruntime";

/// The library that this process has loaded, with its environment.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The process's environment, created at the first call. A later call that names another library is an error.
pub(crate) fn environment(asked: Option<&Path>) -> Result<Environment> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = loaded.as_ref() {
        return match asked.filter(|asked| !same_file(asked, path)) {
            None => Ok(environment.clone()),
            Some(other) => Err(Error::Library(format!(
                "{} is asked for, but this process has already loaded {}",
                other.display(),
                path.display()
            ))),
        };
    }
    let path = find(asked, std::env::var_os(VARIABLE).map(PathBuf::from))?;
    let environment =
        load(&path).map_err(|problem| unfit(std::slice::from_ref(&path), &problem))?;
    if let Some(level) = log_level(std::env::var_os(LOG_VARIABLE))? {
        environment.set_log_level(level);
    }
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

/// The path of the library that this process has loaded.
pub(crate) fn loaded() -> Result<PathBuf> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let path = loaded.as_ref().map(|(path, _)| path.clone());
    path.ok_or_else(|| Error::Library("not loaded yet".to_owned()))
}

fn log_level(named: Option<OsString>) -> Result<Option<LogLevel>> {
    let Some(named) = named else { return Ok(None) };
    let level = LOG_LEVELS.iter().find(|(name, _)| named == *name);
    let expected = LOG_LEVELS.map(|(name, _)| name).join(", ");
    let unknown = || {
        let named = named.to_string_lossy();
        Error::Library(format!(
            "{LOG_VARIABLE}={named}: expected one of {expected}"
        ))
    };
    Ok(Some(level.ok_or_else(unknown)?.1))
}

/// Where the engine writes the profile of a graph, if profiles are asked for; it completes the name by the time.
pub(crate) fn profile(graph: &str) -> Result<Option<PathBuf>> {
    profile_in(std::env::var_os(PROFILE_VARIABLE), graph)
}

fn profile_in(named: Option<OsString>, graph: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = named.map(PathBuf::from) else {
        return Ok(None);
    };
    match folder.is_dir() {
        true => Ok(Some(folder.join(graph))),
        false => Err(Error::Library(format!(
            "{PROFILE_VARIABLE}={}: expected a folder",
            folder.display()
        ))),
    }
}

/// Loads CUDA's libraries from the folders of unpacked wheels next to ONNX Runtime's, where its provider does not search. In
/// other layouts the system's loader finds them.
pub(crate) fn load_cuda() -> ort::Result<()> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let library = loaded.as_ref().map(|(path, _)| path.as_path());
    match library
        .and_then(nvidia_wheels)
        .filter(|folder| folder.is_dir())
    {
        Some(folder) => ort::ep::cuda::preload_dylibs(
            Some(&folder.join("cu13/lib")),
            Some(&folder.join("cudnn/lib")),
        ),
        None => Ok(()),
    }
}

/// `nvidia` next to `onnxruntime/capi/libonnxruntime.so`.
fn nvidia_wheels(library: &Path) -> Option<PathBuf> {
    Some(library.ancestors().nth(3)?.join("nvidia"))
}

fn load(path: &Path) -> std::result::Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|e| load_problem(path, &e))?;
    let builder = builder.with_name("seeward").with_telemetry(false);
    builder.build().map_err(|e| e.to_string())
}

/// The problem with the library at `path`, without the path.
fn load_problem(path: &Path, error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => {
            let cause = error.source().map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            let named = format!("{}: ", path.display());
            cause.strip_prefix(&named).unwrap_or(&cause).to_owned()
        }
        LoadDynamicError::MissingApi { .. } => {
            "this library is not ONNX Runtime (it has no OrtGetApiBase)".to_owned()
        }
        LoadDynamicError::BadVersion { version_str, .. } => {
            let oldest = ort::MINOR_VERSION;
            format!("expected version 1.{oldest} or newer, got {version_str}")
        }
        LoadDynamicError::InvalidVersionString => error.to_string(),
    }
}

/// The library to load. One that is named must be there: it is not replaced by another.
fn find(asked: Option<&Path>, variable: Option<PathBuf>) -> Result<PathBuf> {
    let variable = variable.filter(|path| !path.as_os_str().is_empty());
    let places = match (asked, variable) {
        (Some(path), _) => vec![path.to_owned()],
        (None, Some(path)) => vec![path],
        (None, None) => usual_places(),
    };
    match places.iter().find(|place| place.is_file()) {
        Some(place) => std::path::absolute(place)
            .map_err(|e| unfit(std::slice::from_ref(place), &e.to_string())),
        None => Err(unfit(&places, "no such file")),
    }
}

fn usual_places() -> Vec<PathBuf> {
    let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let executable = std::env::current_exe().ok();
    let folder = executable.as_deref().and_then(Path::parent);
    let folders = folder.into_iter().chain([Path::new(THIRD_PARTY)]);
    folders.map(|folder| folder.join(&name)).collect()
}

fn unfit(places: &[PathBuf], problem: &str) -> Error {
    let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
    Error::Library(format!(
        "{}: {problem} (`make setup` fetches it into {THIRD_PARTY}; elsewhere set {VARIABLE})",
        places.join(", ")
    ))
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tried_places_and_the_fix_are_named() {
        let none = find(Some(Path::new("no/such.so")), None).unwrap_err();
        let message = none.to_string();
        assert!(message.contains("no/such.so: no such file"), "{message}");
        assert!(message.contains("make setup"), "{message}");
    }

    #[test]
    fn the_log_level_is_one_of_the_engines() {
        assert_eq!(log_level(None).unwrap(), None);
        let level = |name: &str| log_level(Some(name.into()));
        assert_eq!(level("verbose").unwrap(), Some(LogLevel::Verbose));
        let message = level("loud").unwrap_err().to_string();
        assert!(
            message.contains("SEEWARD_ENGINE_LOG=loud: expected one of verbose"),
            "{message}"
        );
    }

    #[test]
    fn profiles_are_written_to_a_folder() {
        assert_eq!(profile_in(None, "vision.onnx").unwrap(), None);
        let folder = tempfile::tempdir().unwrap();
        let profile = profile_in(Some(folder.path().into()), "vision.onnx").unwrap();
        assert_eq!(profile, Some(folder.path().join("vision.onnx")));
        let message = profile_in(Some("no/such".into()), "vision.onnx").unwrap_err();
        let expected = "SEEWARD_ENGINE_PROFILE=no/such: expected a folder";
        assert!(message.to_string().contains(expected), "{message}");
    }

    #[test]
    fn cudas_libraries_are_in_the_folders_of_unpacked_wheels() {
        let library = Path::new("third_party/cuda/onnxruntime/capi/libonnxruntime.so");
        let folder = nvidia_wheels(library).unwrap();
        assert_eq!(folder, Path::new("third_party/cuda/nvidia"));
        assert_eq!(nvidia_wheels(Path::new("/lib/libonnxruntime.so")), None);
    }

    #[test]
    fn a_named_library_is_not_replaced_by_another() {
        let variable = Some(PathBuf::from("named/by/variable.so"));
        let message = find(None, variable.clone()).unwrap_err().to_string();
        assert!(message.contains("named/by/variable.so"), "{message}");
        let here = Path::new(file!()).file_name().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(here);
        assert_eq!(find(Some(&here), variable).unwrap(), here);
    }
}
