//! Links LibTorch, and compiles what tch does not bind of it.

mod link;

fn main() {
    link::main();
    let include = link::libtorch().join("../include");
    let sources = ["src/libtorch/libtorch.cc", "src/world/group.cc"];
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .includes([include.join("torch/csrc/api/include"), include])
        // Stand-ins for Gloo's headers, which LibTorch's package lacks.
        .include("src/world")
        .files(sources)
        .compile("seeward_libtorch");
}
