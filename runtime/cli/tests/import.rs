//! `seeward-import` on small files in the published columns of each set; `parquet/write.py` wrote them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seeward_models::sample::{CarriedKeys, PreferenceReader, PreferenceRow};
use serde_json::Value;

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parquet")
        .join(name)
}

/// The program with these files, in a new folder.
struct Import(tempfile::TempDir);

impl Import {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, files: &[&str], more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-import"));
        command
            .arg("--input")
            .args(files.iter().map(|name| parquet(name)));
        command.arg("--output").arg(self.0.path()).args(more);
        command.output().unwrap()
    }

    /// Runs and expects an exit status. Returns what was logged.
    #[track_caller]
    fn ends(&self, files: &[&str], status: i32) -> String {
        let run = self.run(files, &[]);
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(status), "{stderr}");
        stderr
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn rows(&self) -> Vec<Value> {
        let text = self.read("rows.jsonl");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The rows as training and evaluation read them; their images exist.
    fn preferences(&self, format: &str) -> Vec<PreferenceRow> {
        let path = self.path("rows.jsonl");
        let reader = PreferenceReader::recognise(&path, CarriedKeys::default()).unwrap();
        assert_eq!(reader.format().unwrap().name(), format);
        let rows: Vec<_> = self
            .read("rows.jsonl")
            .lines()
            .map(|row| reader.read(row).unwrap())
            .collect();
        for image in rows
            .iter()
            .flat_map(|row| &row.pairs)
            .flat_map(|pair| &pair.chosen_images)
        {
            assert!(self.path(&image.to_string()).is_file(), "{image}");
        }
        rows
    }

    fn images(&self) -> usize {
        fs::read_dir(self.path("images")).unwrap().count()
    }
}

#[test]
fn rlhf_v_becomes_pairs_and_bad_rows_are_named() {
    let import = Import::new();
    let stderr = import.ends(&["rlhf-v.parquet"], 1);
    assert!(
        stderr.contains("4 of 6 rows; set rlhf-v, as rows of format internvl"),
        "{stderr}"
    );
    assert!(stderr.contains("2 rows failed: "), "{stderr}");
    let rows = import.preferences("internvl");
    assert_eq!(
        (rows.len(), rows[0].pairs[0].chosen.as_str()),
        (4, "A line.")
    );
    // Three images for five good ones: equal ones are stored once.
    assert_eq!(import.images(), 3);
    let errors = import.read("rows.jsonl.errors");
    let errors: Vec<Value> = errors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&errors[0]["row"], &errors[1]["row"]),
        (&4.into(), &5.into())
    );
    assert!(
        errors[0]["error"]
            .as_str()
            .unwrap()
            .starts_with("text: expected"),
        "{errors:?}"
    );
    assert_eq!(errors[1]["error"], "image: not an image of a known format");
    assert!(
        errors[0]["file"]
            .as_str()
            .unwrap()
            .ends_with("rlhf-v.parquet")
    );
}

#[test]
fn every_set_is_recognised_and_read() {
    for (name, status, rows, pairs, images, format) in [
        ("rlaif-v", 0, 7, 7, 7, "internvl"),
        ("vlfeedback", 0, 3, 6, 3, "vlfeedback"),
        ("vl-rewardbench", 0, 4, 4, 4, "vl-rewardbench"),
        (
            "multimodal-rewardbench",
            0,
            2,
            2,
            2,
            "multimodal-rewardbench",
        ),
        // A video, and a file that is not there.
        ("mm-rlhf", 1, 2, 2, 1, "mm-rlhf-rewardbench"),
    ] {
        let import = Import::new();
        let stderr = import.ends(&[&format!("{name}.parquet")], status);
        assert!(stderr.contains(&format!("set {name}, ")), "{stderr}");
        let read = import.preferences(format);
        let count: usize = read.iter().map(|row| row.pairs.len()).sum();
        assert_eq!(
            (read.len(), count, import.images()),
            (rows, pairs, images),
            "{name}"
        );
    }
}

#[test]
fn what_the_formats_read_from_a_row_survives() {
    let import = Import::new();
    import.ends(&["vl-rewardbench.parquet"], 0);
    let rows = import.preferences("vl-rewardbench");
    assert_eq!(
        (
            rows[0].pairs[0].chosen.as_str(),
            rows[1].pairs[0].chosen.as_str()
        ),
        ("Yes.", "No.")
    );
    let import = Import::new();
    import.ends(&["mm-rlhf.parquet"], 1);
    // The category stands in the image's path.
    assert_eq!(
        import.preferences("mm-rlhf-rewardbench")[0]
            .group
            .as_ref()
            .unwrap()
            .area,
        "mcq"
    );
    let import = Import::new();
    let stderr = import.ends(&["rows.parquet"], 0);
    assert!(
        stderr.contains("no known set: rows keep their keys"),
        "{stderr}"
    );
    let row = &import.rows()[0];
    assert_eq!(
        (row["images"].as_array().unwrap().len(), &row["weight"]),
        (2, &0.5.into())
    );
}

#[test]
fn images_outside_of_the_files_folder_are_refused_unless_allowed() {
    let import = Import::new();
    let (folder, outside) = (import.path("set"), import.path("elsewhere"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::copy(parquet("mm-rlhf.parquet"), folder.join("set.parquet")).unwrap();
    fs::copy(parquet("mcq/7.png"), outside.join("7.png")).unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("mcq")).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-import"));
        command.arg("--input").arg(folder.join("set.parquet"));
        command.arg("--output").arg(import.path("")).args(more);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(run(&[]).contains("0 of 4 rows"));
    let errors = import.read("rows.jsonl.errors");
    let problem =
        "image: image mcq/7.png: leads out of the image root (--allow-outside-root permits it)";
    assert!(errors.contains(problem), "{errors}");
    let stderr = run(&["--allow-outside-root"]);
    let changed = "cannot resume: --image-root or --allow-outside-root has changed";
    assert!(stderr.contains(changed), "{stderr}");
    assert!(run(&["--allow-outside-root", "--no-resume"]).contains("2 of 4 rows"));
    let root = import.path("").canonicalize().unwrap();
    let root = root.to_str().unwrap();
    assert!(run(&["--image-root", root, "--no-resume"]).contains("0 of 4 rows"));
    let errors = import.read("rows.jsonl.errors");
    assert!(
        errors.contains(&format!("{root}/mcq/7.png: No such file")),
        "{errors}"
    );
}

#[test]
fn an_interrupted_import_resumes_to_the_same_bytes() {
    let two = ["rlhf-v.parquet", "rlhf-v.parquet"];
    let whole = Import::new();
    whole.ends(&two, 1);
    // The first file alone, with a part of the next group; then both.
    let cut = Import::new();
    cut.ends(&two[..1], 1);
    fs::write(cut.path("rows.jsonl"), cut.read("rows.jsonl") + "{\"half").unwrap();
    cut.ends(&two, 1);
    for name in ["rows.jsonl", "rows.jsonl.errors", "rows.jsonl.progress"] {
        assert_eq!(cut.read(name), whole.read(name), "{name}");
    }
    assert_eq!((cut.images(), cut.rows().len()), (3, 8));
    // Nothing is left to do, and other files are another import.
    cut.ends(&two, 1);
    let stderr = cut.ends(&["vlfeedback.parquet"], 2);
    let message = "cannot resume: the set was rlhf-v and is vlfeedback";
    assert!(stderr.contains(message), "{stderr}");
    let run = cut.run(&["vlfeedback.parquet"], &["--no-resume"]);
    assert_eq!(run.status.code(), Some(0));
    assert_eq!(cut.rows().len(), 3);
}

#[test]
fn a_dry_run_prints_the_schema_and_the_set_and_writes_nothing() {
    let import = Import::new();
    let run = import.run(&["rlhf-v.parquet"], &["--dry-run"]);
    assert_eq!(run.status.code(), Some(0));
    let text = String::from_utf8(run.stdout).unwrap();
    for part in [
        "rlhf-v.parquet: 6 rows in 2 row groups",
        "OPTIONAL BYTE_ARRAY bytes",
        "set rlhf-v, as rows of format internvl",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(fs::read_dir(import.path("")).unwrap().count(), 0);
    let run = import.run(&["rlaif-v.parquet"], &["--dry-run", "--format", "rows"]);
    assert!(
        String::from_utf8(run.stdout)
            .unwrap()
            .contains("no known set")
    );
}

#[test]
fn what_is_no_parquet_file_is_an_error() {
    let import = Import::new();
    let stderr = import.ends(&["rlhf-v.parquet", "rlaif-v.parquet"], 2);
    let message = "rlaif-v.parquet: expected a file of set rlhf-v, as the first, got rlaif-v";
    assert!(stderr.contains(message), "{stderr}");
    let stderr = import.ends(&["write.py"], 2);
    assert!(stderr.contains("write.py: "), "{stderr}");
    let run = import.run(&["rlaif-v.parquet"], &["--format", "csv"]);
    assert_eq!(run.status.code(), Some(2));
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert!(
        stderr.contains("--format csv: expected one of rlhf-v, rlaif-v"),
        "{stderr}"
    );
}
