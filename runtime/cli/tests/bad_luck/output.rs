//! Outputs that cannot be written, and closed pipes.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::support::{Bench, assert_exit, golden, rows};

#[test]
fn a_full_device_is_an_error_and_stays() {
    let bench = Bench::new(rows(1));
    let message = "error: /dev/full: No space left on device";
    assert_exit(&bench.run("/dev/full", &[]), 2, message);
    assert_exit(
        &bench.run("new", &["--stats", "/dev/full"]),
        2,
        "/dev/full: expected a file",
    );
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
    // The scores are kept nevertheless.
    assert_eq!(bench.json_lines("new").len(), 2);
}

#[test]
fn an_output_without_permission_is_named() {
    let bench = Bench::new(rows(1));
    fs::write(bench.path("file"), "").unwrap();
    assert_exit(&bench.run("file/out", &[]), 2, "file/out: ");
    fs::create_dir(bench.path("folder")).unwrap();
    assert_exit(
        &bench.run("folder", &[]),
        2,
        "folder: expected a file, got a folder",
    );
}

/// Runs a script in a separate mount namespace, as root. The test fails on a machine that forbids this.
fn in_separate_namespace(script: &str, command: &Command) -> Output {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--map-root-user", "sh", "-euc", script, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.output().unwrap()
}

#[test]
fn a_full_disk_is_reported_and_a_rerun_completes() {
    const SCRIPT: &str = r#"
mount -t tmpfs -o size=32k none "$DISK"
status=0; "$@" || status=$?
echo "status $status"
ls -A "$DISK"
mount -o remount,size=8m "$DISK"
status=0; "$@" || status=$?
echo "status $status"
cp "$DISK"/* "$KEPT"
"#;
    let bench = Bench::new(rows(400));
    assert_exit(&bench.run("kept/whole", &[]), 1, "40 rows failed");
    fs::create_dir(bench.path("disk")).unwrap();
    let mut command = bench.score("disk/out");
    command.arg("--image-root").arg(golden("images"));
    let script = format!(
        "DISK='{}' KEPT='{}'{SCRIPT}",
        bench.path("disk").display(),
        bench.path("kept").display()
    );
    let run = in_separate_namespace(&script.replacen("\nmount", "; mount", 1), &command);
    let (said, stderr) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "no mount namespace? {stderr}");
    assert_eq!(
        said, "status 2\nout\nout.errors\nout.progress\nstatus 1\n",
        "{stderr}"
    );
    let full = format!("error: {}", bench.path("disk/out").display());
    assert!(
        stderr.contains(&full) && stderr.contains(": No space left on device"),
        "{stderr}"
    );
    bench.assert_same("kept/out", "kept/whole");
}

/// Runs a program with a closed stdout.
fn unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_closed_stdout_is_an_error_and_no_panic() {
    let bench = Bench::new("{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n");
    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_seeward-evaluate"));
    evaluate.arg("--model").arg(golden("bundles/qwen2"));
    evaluate
        .arg("--data")
        .arg(format!("x={}", bench.path("in.jsonl").display()));
    evaluate.arg("--output").arg(bench.path("report"));
    assert_exit(
        &unread(&mut evaluate),
        2,
        "seeward-evaluate: error: stdout: Broken pipe",
    );
    // The report is written nevertheless.
    assert!(bench.path("report/report.json").exists());
}

#[test]
fn a_closed_stderr_costs_no_row() {
    let bench = Bench::new(rows(10));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = bench.score("out");
    command
        .arg("--image-root")
        .arg(golden("images"))
        .stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(1));
    assert_eq!(bench.json_lines("out").len(), 16);
}
