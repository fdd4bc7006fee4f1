//! The study as `make study` runs it, at its smallest: one seed, one environment, a few steps.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use seeward_fixture::study::METHODS;
use seeward_tests::program::program;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn make(arguments: &[&str]) -> String {
    let output = Command::new("make")
        .current_dir(ROOT)
        .args(["--no-print-directory", "-f", "scripts/study/plan.mk"])
        .args(arguments)
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr
}

/// Three cells of four steps.
fn quick(study: &Path) -> String {
    let programs = program("seeward-fixture").get_program().to_owned();
    let programs = Path::new(&programs).parent().unwrap();
    make(&[
        &format!("STUDY={}", study.display()),
        &format!("PROGRAMS={}", programs.display()),
        "QUICK=1",
        "SEEDS=3",
        "ENVIRONMENTS=hedge",
        "FIRST=text_only shortcut_aware tiny",
        "REST=",
    ])
}

#[test]
fn a_small_study_runs_and_computes_only_missing_cells_again() {
    let study = tempfile::tempdir().unwrap();
    let said = quick(study.path());
    assert!(
        said.contains("cell 3 of 3: seed 3, trained on hedge, tiny"),
        "{said}"
    );
    let cell = study.path().join("cells/3.hedge.shortcut_aware.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&cell).unwrap()).unwrap() };
    let first = read();
    let environments: Vec<_> = first["accuracy"].as_object().unwrap().keys().collect();
    assert_eq!(environments, ["detail", "hedge", "polite"]);
    for number in ["development", "conflict", "sfd"] {
        assert!(first[number].is_number(), "{first}");
    }
    assert_eq!(first["coefficients"].as_array().unwrap().len(), 2);
    assert!(said.contains("| text-only | 1 |"), "{said}");

    fs::remove_file(&cell).unwrap();
    let again = quick(study.path());
    assert!(!again.contains("text_only\n"), "{again}");
    assert_eq!(read(), first);
}

#[test]
fn every_planned_cell_has_a_title() {
    let plan = make(&["-n", "STUDY=/nowhere"]);
    let cells = plan
        .lines()
        .filter_map(|line| line.strip_prefix("scripts/study/step cell "));
    let methods: BTreeSet<_> = cells.map(|cell| cell.rsplit(' ').next().unwrap()).collect();
    let known = BTreeSet::from(METHODS.map(|(method, _)| method));
    assert!(
        methods.len() > 4 && methods.is_subset(&known),
        "{methods:?}"
    );
}
