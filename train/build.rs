//! Lets what this package links find LibTorch at run time: the folder it was built against becomes the rpath.
//! (Used by every package that links LibTorch; a link argument does not reach the packages above.)

use std::env;
use std::path::Path;

fn main() {
    // Set by torch-sys, whose `links` key is "tch".
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let folder = env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a direct dependency");
    let library = Path::new(&folder).join("libtorch_cpu.so");
    println!("cargo::rerun-if-changed={}", library.display());
    if library.exists() {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    } else {
        println!(
            "cargo::error={} is missing: run `make setup`",
            library.display()
        );
    }
}
