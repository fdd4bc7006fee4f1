//! The project's own programs, as `make test` builds them.

use std::path::PathBuf;
use std::process::Command;

/// The programs for users.
pub const PROGRAMS: [&str; 6] = [
    "seeward-train",
    "seeward-export",
    "seeward-score",
    "seeward-evaluate",
    "seeward-import",
    "seeward-serve",
];

/// A command that runs the program `name` of this workspace.
///
/// # Panics
/// When it is not built: `cargo test --workspace` builds it, a test of this package alone does not.
pub fn program(name: &str) -> Command {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{}: no such program; run `cargo build --workspace` first",
        path.display()
    );
    Command::new(path)
}

/// Where cargo puts programs: above the `deps` that the running test is in.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors()
        .nth(2)
        .expect("target/profile/deps/test")
        .to_owned()
}
