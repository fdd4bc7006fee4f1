//! Links LibTorch, and compiles what tch does not bind of it.

mod link;

fn main() {
    link::main();
    let include = link::libtorch().join("../include");
    let source = "src/libtorch/libtorch.cc";
    println!("cargo::rerun-if-changed={source}");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .includes([include.join("torch/csrc/api/include"), include])
        .file(source)
        .compile("seeward_libtorch");
}
