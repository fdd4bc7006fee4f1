//! The man pages and shell completions that the programs write of themselves.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use seeward_tests::program::{PROGRAMS, program};

/// The long flags of a help text.
fn flags(help: &str) -> BTreeSet<&str> {
    let words = help.lines().map(str::trim_start);
    let words = words.filter_map(|line| {
        let line = line.strip_prefix("-").unwrap_or(line);
        line.split(", --").nth(1).or(line.strip_prefix('-'))
    });
    let names = words.filter_map(|word| word.split([' ', '[', '=']).next());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_program_writes_its_pages() {
    let folder = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        let run = |command: &mut Command| command.output().unwrap();
        let help = run(program(name).arg("--help"));
        let help = String::from_utf8(help.stdout).unwrap();
        let wrote = run(program(name).env("SEEWARD_WRITE_MANUAL", folder.path()));
        assert!(wrote.status.success(), "{wrote:?}");
        assert!(
            wrote.stdout.is_empty() && wrote.stderr.is_empty(),
            "{wrote:?}"
        );
        let read = |path: String| fs::read_to_string(folder.path().join(path)).unwrap();
        let flags = flags(&help);
        assert!(flags.len() > 3 && flags.contains("help"), "{flags:?}");
        let man = read(format!("man/man1/{name}.1")).replace('\\', "");
        let pages = [
            man,
            read(format!("bash-completion/completions/{name}")),
            read(format!("zsh/site-functions/_{name}")),
            read(format!("fish/vendor_completions.d/{name}.fish")).replace("-l ", "--"),
        ];
        for page in &pages {
            for flag in &flags {
                assert!(
                    page.contains(&format!("--{flag}")),
                    "{name}: {flag} in {page}"
                );
            }
        }
        let script = folder
            .path()
            .join(format!("bash-completion/completions/{name}"));
        assert!(
            run(Command::new("bash").arg("-n").arg(script))
                .status
                .success()
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = program("seeward-score");
    let output = command
        .env("SEEWARD_WRITE_MANUAL", file.path())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    let expected = format!("SEEWARD_WRITE_MANUAL={}", Path::new(file.path()).display());
    assert!(message.contains(&expected), "{message}");
}
