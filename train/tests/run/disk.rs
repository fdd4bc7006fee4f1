//! A full disk: existing checkpoints stay intact.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seeward_train::output::trainer_state::TrainerState;

use crate::support::{Run, message};

/// Trains on a small disk that is mounted as the output folder, and copies it to `kept` after the run.
fn train_on_disk(run: &Run, options: &str, kept: &Path) -> Output {
    fs::create_dir_all(run.output()).unwrap();
    let script = "mount -t tmpfs -o $0 tmpfs $1 || exit 99; from=$1 to=$2; shift 2
        \"$@\"; status=$?; cp -a $from $to || exit 99; exit $status";
    let program = run.program();
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .arg(options)
        .args([run.output().as_path(), kept])
        .arg(program.get_program())
        .args(program.get_args())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "this test mounts a tmpfs: as root, or where users may have namespaces: {}",
        message(&output)
    );
    output
}

/// All files and folders below `folder`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.collect();
    for path in found.clone().iter().filter(|path| path.is_dir()) {
        found.extend(below(path));
    }
    found
}

fn count(folder: &Path) -> usize {
    below(folder).len()
}

fn size(folder: &Path) -> u64 {
    let paths = below(folder);
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn a_full_disk_is_reported_before_an_old_checkpoint_is_changed() {
    let checkpoint = size(&Run::new("max_steps: 1").succeed().last());
    let run = Run::new("max_steps: 4\nsave_steps: 1\nsave_total_limit: 1");
    let kept = run.folder.path().join("kept");
    // Space for one checkpoint and a part of the second one, which must not replace the first.
    let output = train_on_disk(&run, &format!("size={}", checkpoint * 2), &kept);
    let stderr = message(&output);
    let second = run.output().join("checkpoint-2");
    assert!(
        stderr.contains(&format!(
            "error: {}: not enough disk space: ",
            second.display()
        )),
        "{stderr}"
    );
    let number = |end: &str| {
        let before = stderr.split(end).next().unwrap();
        before.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let (needed, available) = (number(" bytes are needed"), number(" are available"));
    assert!(needed > checkpoint && needed < checkpoint * 2, "{stderr}");
    assert!(available < needed && available > 0, "{stderr}");
    TrainerState::read_verified(&kept.join("checkpoint-1")).unwrap();
    assert!(!kept.join("checkpoint-2").exists());
}

#[test]
fn a_disk_that_cannot_hold_the_model_is_reported_before_the_first_step() {
    let run = Run::new("max_steps: 4");
    let kept = run.folder.path().join("kept");
    let stderr = message(&train_on_disk(&run, "size=1m", &kept));
    assert!(
        stderr.contains("checkpoint-last: not enough disk space: "),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(kept.join("metrics.jsonl")).unwrap(), "");
}

#[test]
fn a_disk_that_fills_up_while_a_checkpoint_is_written_keeps_the_one_before() {
    let files = count(&Run::new("max_steps: 1").succeed().last());
    let run = Run::new("max_steps: 4\nsave_steps: 1\nsave_total_limit: 1");
    let kept = run.folder.path().join("kept");
    // Enough bytes, but only 1.5 times as many files as a checkpoint has, which cannot be checked beforehand.
    let output = train_on_disk(&run, &format!("nr_inodes={}", files * 3 / 2), &kept);
    let stderr = message(&output);
    let partial = run.output().join(".checkpoint-2.partial");
    assert!(
        stderr.contains(&format!("error: {}/", partial.display())),
        "{stderr}"
    );
    assert!(stderr.contains("No space left on device"), "{stderr}");
    TrainerState::read_verified(&kept.join("checkpoint-1")).unwrap();
    let names = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut checkpoints: Vec<_> = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.contains("checkpoint"))
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints, ["checkpoint-1"]);
}
