//! Links LibTorch, and compiles what tch does not bind of it.

mod link;

fn main() {
    link::main();
    let include = link::libtorch().join("../include");
    let sources = ["src/libtorch/libtorch.cc", "src/world/group.cc"];
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
    }
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .includes([include.join("torch/csrc/api/include"), include])
        // Stand-ins for Gloo's headers, which LibTorch's package lacks.
        .include("src/world")
        .files(sources);
    with_nccl(&mut build);
    build.compile("seeward_libtorch");
}

/// NCCL's half of c10d, which LibTorch for CUDA has. Its headers need those of CUDA and NCCL, which pip puts next to torch.
fn with_nccl(build: &mut cc::Build) {
    let libraries = link::libtorch();
    if !libraries.join("libtorch_cuda.so").exists() {
        return;
    }
    let nvidia = libraries.join("../../nvidia");
    let folders = ["nccl/include", "cu13/include", "cu13/include/cccl"];
    let folders = folders.map(|folder| nvidia.join(folder));
    if let Some(missing) = folders.iter().find(|folder| !folder.exists()) {
        let missing = missing.display();
        println!(
            "cargo::warning={missing} is missing: built without NCCL, which several GPUs need"
        );
        return;
    }
    build.define("SEEWARD_NCCL", None).includes(folders);
}
