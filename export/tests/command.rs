//! The program: its messages and exit codes.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use seeward_models::bundle::Bundle;
use support::golden;

fn run(checkpoint: &Path, output: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seeward-export"))
        .arg("--checkpoint")
        .arg(checkpoint)
        .arg("--output")
        .arg(output)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn it_writes_the_bundle_and_reports_it_on_stderr() {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("bundle");
    let more = ["--branch", "text_only", "--max-length", "77"];
    let done = run(&golden("qwen2_dual"), &output, &more);
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert!(done.stdout.is_empty());
    let expected = format!(
        "wrote {}: 65 tensors, 1.3 MB in 11 files\n",
        output.display()
    );
    assert_eq!(stderr, expected);
    let bundle = Bundle::open(&output).unwrap();
    assert_eq!(bundle.manifest().prompt.max_length, 77);
}

#[test]
fn errors_exit_2_and_name_the_choices() {
    let root = tempfile::tempdir().unwrap();
    for (more, expected) in [
        (
            &["--branch", "both"][..],
            "[possible values: main, text_only]",
        ),
        (&["--branch", "text_only"], "no text-only branch"),
        (
            &["--quantize", "int8"],
            "portable int8: no such bundle (legal: portable fp32, fp16",
        ),
        (
            &["--target", "cpu", "--dtype", "fp16"],
            "cpu fp16: no such bundle (legal: portable fp32, fp16, bf16; cpu fp32, bf16, int8; cuda",
        ),
        (
            &["--target", "cuda", "--quantize", "int8"],
            "cuda int8: not built yet (built: portable fp32, fp16, bf16; cpu fp32, bf16, int8; cuda",
        ),
        (
            &["--dtype", "fp16", "--quantize", "int4"],
            "cannot be used with",
        ),
        (
            &["--target", "cpu", "--quantize", "int4"],
            "int4: withdrawn, because on trained weights",
        ),
        (&["--max-length", "0"], "max_length"),
    ] {
        let failed = run(&golden("qwen2"), &root.path().join("bundle"), more);
        let stderr = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(2), "{more:?}: {stderr}");
        assert!(stderr.contains(expected), "{more:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn two_runs_write_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| root.path().join(name));
    for output in [&first, &second] {
        assert!(run(&golden("qwen2_dual"), output, &[]).status.success());
    }
    let mut files = 0;
    for entry in std::fs::read_dir(&first).unwrap() {
        let name = entry.unwrap().file_name();
        let same =
            std::fs::read(first.join(&name)).unwrap() == std::fs::read(second.join(&name)).unwrap();
        assert!(same, "{name:?}");
        files += 1;
    }
    assert_eq!(files, std::fs::read_dir(&second).unwrap().count());
}

#[test]
fn a_full_disk_leaves_the_old_bundle_and_nothing_else() {
    // In a separate mount namespace, which permits mounting; the test fails on machines that forbid that.
    const SCRIPT: &str = r#"
mount -t tmpfs -o size=2500k none "$1"
cd "$1"; shift
"$@"
before=$(cat bundle/* | sha256sum)
status=0; "$@" || status=$?
echo "status $status"
ls -A
test "$before" = "$(cat bundle/* | sha256sum)"
"#;
    let root = tempfile::tempdir().unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--map-root-user", "sh", "-euc", SCRIPT, "sh"]);
    shell
        .arg(root.path())
        .arg(env!("CARGO_BIN_EXE_seeward-export"));
    shell
        .arg("--checkpoint")
        .arg(golden("qwen2"))
        .args(["--output", "bundle"]);
    let done = shell.output().unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "no mount namespace? {stderr}");
    assert_eq!(stdout, "status 2\nbundle\n", "{stderr}");
    assert!(stderr.contains(": No space left on device"), "{stderr}");
}
