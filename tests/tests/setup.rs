//! `make setup` without a network: its pins, and the choice between the engines for CPU and CUDA.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A checkout with every part already unpacked: a folder with its stamp.
fn checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let wheels = folder.path().join("scripts/wheels");
    fs::create_dir_all(&wheels).expect("a folder");
    let scripts = repository().join("scripts");
    fs::copy(
        scripts.join("setup.py"),
        folder.path().join("scripts/setup.py"),
    )
    .expect("copied");
    for entry in fs::read_dir(scripts.join("wheels")).expect("pins") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, wheels.join(path.file_name().expect("a name"))).expect("copied");
    }
    let stamps = "import runpy\nsetup = runpy.run_path('scripts/setup.py')\n\
                  for part in setup['CPU'] + setup['CUDA'] + setup['MATERIAL']:\n    \
                  part.folder.mkdir(parents=True)\n    \
                  (part.folder / setup['STAMP']).write_text(part.digest())\n";
    let mut python = Command::new("python3");
    let stamped = python.current_dir(&folder).args(["-c", stamps]).output();
    succeed(&stamped.expect("python3"));
    folder
}

fn setup(checkout: &Path, arguments: &[&str]) -> Output {
    let mut python = Command::new("python3");
    python
        .arg(checkout.join("scripts/setup.py"))
        .args(arguments);
    python.output().expect("python3")
}

fn succeed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_choice_of_engines_is_printed_and_keeps_both_on_disk() {
    let checkout = checkout();
    let third_party = checkout.path().join("third_party");
    let chosen = third_party.join("engines.toml");
    for (arguments, device) in [
        (&[][..], "cpu"),
        (&["--device", "cuda"], "cuda"),
        (&[], "cuda"),
        (&["--device", "cpu"], "cpu"),
        (&[], "cpu"),
    ] {
        let said = succeed(&setup(checkout.path(), arguments));
        let notice = format!("cargo builds with the engines for {device}");
        assert!(said.contains(&notice), "{said}");
        assert_eq!(chosen.exists(), device == "cuda", "{arguments:?}");
        for part in ["libtorch", "onnxruntime", "cuda"] {
            assert!(third_party.join(part).join(".setup").exists(), "{part}");
        }
    }
    let refused = setup(checkout.path(), &["--device", "gpu"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("invalid choice: 'gpu'"), "{said}");
}

#[test]
fn every_wheel_is_pinned_by_version_and_hash() {
    for entry in fs::read_dir(repository().join("scripts/wheels")).expect("pins") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path)
            .expect("text")
            .replace("\\\n", " ");
        let mut pins = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .peekable();
        assert!(pins.peek().is_some(), "{}", path.display());
        for pin in pins {
            let pinned = pin.contains("==") && pin.contains("--hash=sha256:");
            assert!(pinned, "{}: {pin}", path.display());
        }
    }
}
