//! The project's own programs, built before they are run, so that a test never meets an old one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A command that runs `name` of `package`, in the profile of the running test.
///
/// # Panics
/// When it cannot be built.
pub fn program(package: &str, name: &str) -> Command {
    let mut built = BUILT
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if built.insert(name.to_owned()) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{name} does not build"
        );
    }
    Command::new(folder().join(name))
}

/// Where cargo puts programs: above the `deps` that the running test is in.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors()
        .nth(2)
        .expect("target/profile/deps/test")
        .to_owned()
}
