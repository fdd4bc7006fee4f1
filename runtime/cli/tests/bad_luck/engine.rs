//! ONNX Runtime's library: missing, too old, or something else.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Bench, assert_exit};

const ROW: &str = "{\"prompt\":\"p\",\"responses\":[\"a\"]}\n";
const HINT: &str =
    "(`make setup` fetches it into third_party/onnxruntime; elsewhere set ORT_DYLIB_PATH)";

/// ONNX Runtime's entry point in a version without the requested API.
const OLD: &str = r#"
typedef struct { const void *(*get_api)(unsigned); const char *(*version)(void); } Base;
static const void *get_api(unsigned version) { return 0; }
static const char *version(void) { return "1.5.2"; }
static const Base base = { get_api, version };
const Base *OrtGetApiBase(void) { return &base; }
"#;

/// Compiles a shared library; the linker that Rust needs is a C compiler.
fn compile(source: &str, library: &Path) {
    let file = library.with_extension("c");
    fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    let status = compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(library)
        .arg(file)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn an_unfit_library_is_reported_with_a_hint() {
    let bench = Bench::new(ROW);
    fs::write(bench.path("text.so"), "This is no library.").unwrap();
    compile(OLD, &bench.path("old.so"));
    compile("int x;", &bench.path("other.so"));
    for (name, problem) in [
        ("missing.so", "no such file"),
        ("text.so", "file too short"),
        (
            "other.so",
            "this library is not ONNX Runtime (it has no OrtGetApiBase)",
        ),
        ("old.so", "expected version 1.24 or newer, got 1.5.2"),
    ] {
        let library = bench.path(name);
        let run = bench.score("out").env("ORT_DYLIB_PATH", &library).output();
        let message = format!("ONNX Runtime: {}: {problem} {HINT}", library.display());
        assert_exit(&run.unwrap(), 2, &message);
    }
    assert!(!bench.path("out").exists());
}

#[test]
fn without_a_path_the_searched_places_are_listed() {
    let bench = Bench::new(ROW);
    let mut command = bench.score("out");
    let run = command
        .env_remove("ORT_DYLIB_PATH")
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    let sibling =
        Path::new(env!("CARGO_BIN_EXE_seeward-score")).with_file_name("libonnxruntime.so");
    let places = format!(
        "{}, third_party/onnxruntime/libonnxruntime.so: no such file {HINT}",
        sibling.display()
    );
    assert_exit(&run, 2, &places);
}
