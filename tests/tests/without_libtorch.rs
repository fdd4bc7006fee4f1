//! The messages without LibTorch: when building, and when starting the trainer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use seeward_tests::program::program;

#[test]
fn the_build_names_the_cure() {
    // The first include of torch-sys, in the search path of .cargo/config.toml.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/without_libtorch");
    let mut compiler = Command::new("c++");
    compiler.args(["-E", "-x", "c++", "-include", "torch/torch.h", "/dev/null"]);
    let compiled = compiler.env("CPLUS_INCLUDE_PATH", folder).output().unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(!compiled.status.success(), "{said}");
    assert!(
        said.contains("LibTorch is missing: run `make setup`"),
        "{said}"
    );
}

#[test]
fn only_the_trainer_needs_it() {
    // In a separate mount namespace, where LibTorch's folder is empty.
    const SCRIPT: &str = "mount -t tmpfs none \"$LIBTORCH\"; exec \"$@\"";
    let start = |name| {
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "--map-root-user", "sh", "-euc", SCRIPT, "sh"]);
        shell.arg(program(name).get_program()).arg("--help");
        shell.output().unwrap()
    };
    let trainer = start("seeward-train");
    let said = String::from_utf8_lossy(&trainer.stderr);
    assert_eq!(trainer.status.code(), Some(127), "{said}");
    let missing = "libtorch_cpu.so: cannot open shared object file";
    assert!(said.contains(missing), "{said}");
    for name in [
        "seeward-export",
        "seeward-score",
        "seeward-evaluate",
        "seeward-fixture",
    ] {
        let other = start(name);
        let said = String::from_utf8_lossy(&other.stderr);
        assert!(other.status.success(), "{name}: {said}");
    }
}
