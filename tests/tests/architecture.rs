//! The arrows between the crates, and their engines: the invariants of `docs/architecture.md`, read from `cargo metadata`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use seeward_models::net::{Part, SCORE_HEAD, TEXT_ONLY_SCOPE};
use serde_json::Value;

/// Every workspace member and the members it may depend on, in whatever kind of dependency.
const ARROWS: [(&str, &[&str]); 11] = [
    ("seeward-models", &[]),
    ("seeward-train", &["seeward-manual", "seeward-models"]),
    (
        "seeward-export",
        &["seeward-kernels", "seeward-manual", "seeward-models"],
    ),
    ("seeward-kernels", &[]),
    ("seeward-manual", &[]),
    ("seeward-runtime", &["seeward-kernels", "seeward-models"]),
    (
        "seeward-cli",
        &["seeward-manual", "seeward-models", "seeward-runtime"],
    ),
    (
        "seeward-serve",
        &["seeward-manual", "seeward-models", "seeward-runtime"],
    ),
    // The programs in a Python module.
    (
        "seeward-python",
        &[
            "seeward-cli",
            "seeward-export",
            "seeward-models",
            "seeward-runtime",
            "seeward-serve",
        ],
    ),
    ("seeward-fixture", &["seeward-cli", "seeward-models"]),
    (
        "seeward-tests",
        &[
            "seeward-cli",
            "seeward-export",
            "seeward-fixture",
            "seeward-models",
            "seeward-runtime",
            "seeward-train",
        ],
    ),
];

/// A third-party crate (by the start of its name) and the members whose trees may hold it.
const ADMITTED: [(&str, &[&str]); 11] = [
    ("tch", &["seeward-train", "seeward-tests"]),
    ("torch-sys", &["seeward-train", "seeward-tests"]),
    (
        "ort",
        &[
            "seeward-runtime",
            "seeward-cli",
            "seeward-serve",
            "seeward-python",
            "seeward-fixture",
            "seeward-tests",
        ],
    ),
    // Nothing else needs Python.
    ("pyo3", &["seeward-python"]),
    // Embedders and the programs over files talk to no network.
    ("hyper", &["seeward-serve", "seeward-python"]),
    ("ureq", &["seeward-serve", "seeward-python"]),
    // Programs, not libraries, talk to terminals: embedders of the runtime are spared these.
    ("clap", PROGRAMS),
    ("indicatif", PROGRAMS),
    // `models` is pure Rust: nothing in its tree, or in the tree of what scores with it, compiles C; TLS does.
    (
        "cc",
        &[
            "seeward-train",
            "seeward-serve",
            "seeward-python",
            "seeward-tests",
        ],
    ),
    ("cmake", &[]),
    ("bindgen", &[]),
];

const PROGRAMS: &[&str] = &[
    "seeward-train",
    "seeward-export",
    "seeward-manual",
    "seeward-cli",
    "seeward-serve",
    "seeward-python",
    "seeward-fixture",
    "seeward-tests",
];

struct Package {
    name: String,
    manifest: PathBuf,
    /// Names of the packages it names as dependencies, dev and build dependencies included.
    declared: BTreeSet<String>,
    /// Identifiers of what it is built from: its resolved normal and build dependencies.
    built_from: Vec<String>,
    rust_version: Option<String>,
    /// Kinds of its targets: "lib", "bin", "test" …
    targets: BTreeSet<String>,
}

struct Workspace {
    packages: BTreeMap<String, Package>,
    members: Vec<String>,
}

impl Workspace {
    fn load() -> Self {
        let metadata = cargo_metadata();
        let edges = resolved_edges(&metadata["resolve"]["nodes"]);
        let packages = list(&metadata["packages"])
            .map(|package| (text(&package["id"]), read_package(package, &edges)))
            .collect();
        let members = list(&metadata["workspace_members"]).map(text).collect();
        Self { packages, members }
    }

    fn members(&self) -> impl Iterator<Item = (&str, &Package)> {
        let packages = self.members.iter().map(|id| (id, &self.packages[id]));
        packages.map(|(id, package)| (id.as_str(), package))
    }

    /// The names of all packages that are built into the package, itself omitted.
    fn tree(&self, id: &str) -> BTreeSet<&str> {
        let packages = self.tree_packages(id).into_iter();
        packages.map(|package| package.name.as_str()).collect()
    }

    /// All packages that are built into the package, itself omitted.
    fn tree_packages(&self, id: &str) -> Vec<&Package> {
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let next = self.packages[id].built_from.iter().map(String::as_str);
            open.extend(next.filter(|&id| seen.insert(id)));
        }
        seen.into_iter().map(|id| &self.packages[id]).collect()
    }
}

/// Only this platform's packages: the others need not be on the machine.
fn cargo_metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
        ])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn resolved_edges(nodes: &Value) -> BTreeMap<String, Vec<String>> {
    list(nodes)
        .map(|node| {
            let built_from = list(&node["deps"]).filter(|dependency| is_built(dependency));
            let ids = built_from.map(|dependency| text(&dependency["pkg"]));
            (text(&node["id"]), ids.collect())
        })
        .collect()
}

fn is_built(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev")
}

fn read_package(package: &Value, edges: &BTreeMap<String, Vec<String>>) -> Package {
    let declared = list(&package["dependencies"]).map(|dependency| text(&dependency["name"]));
    Package {
        name: text(&package["name"]),
        manifest: text(&package["manifest_path"]).into(),
        declared: declared.collect(),
        built_from: edges
            .get(package["id"].as_str().unwrap())
            .cloned()
            .unwrap_or_default(),
        rust_version: package["rust_version"].as_str().map(str::to_owned),
        targets: list(&package["targets"])
            .flat_map(|target| list(&target["kind"]))
            .map(text)
            .collect(),
    }
}

/// `ort` covers `ort-sys`, `clap` covers `clap_builder`; `cc` does not cover `ccc`.
fn belongs_to(package: &str, family: &str) -> bool {
    match package.strip_prefix(family) {
        Some(rest) => rest.is_empty() || rest.starts_with(['-', '_']),
        None => false,
    }
}

#[test]
fn the_members_are_those_of_the_design() {
    let workspace = Workspace::load();
    let found: BTreeSet<&str> = workspace.members().map(|(_, p)| p.name.as_str()).collect();
    let expected: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, expected);
}

#[test]
fn members_depend_on_each_other_only_along_the_arrows() {
    let workspace = Workspace::load();
    for (name, allowed) in ARROWS {
        let mut members = workspace.members();
        let (_, package) = members.find(|(_, package)| package.name == name).unwrap();
        let ours = |dependency: &&String| ARROWS.iter().any(|(member, _)| dependency == member);
        for dependency in package.declared.iter().filter(ours) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn engines_and_terminals_stay_where_they_belong() {
    let workspace = Workspace::load();
    for (id, member) in workspace.members() {
        let tree = workspace.tree(id);
        for (family, admitted) in ADMITTED {
            let found = tree.iter().find(|package| belongs_to(package, family));
            let is_admitted = admitted.contains(&member.name.as_str());
            assert!(
                is_admitted || found.is_none(),
                "{} must not reach {}",
                member.name,
                found.unwrap()
            );
        }
    }
}

/// Cargo builds a member's programs for `cargo test` only when the member has files in `tests/`; `program` of this
/// package starts them all.
#[test]
fn programs_are_built_with_the_tests() {
    let workspace = Workspace::load();
    for (_, member) in workspace.members() {
        assert!(
            !member.targets.contains("bin") || member.targets.contains("test"),
            "{}: a program, and no test in tests/",
            member.name
        );
    }
}

#[test]
fn the_tree_of_a_member_is_transitive() {
    let workspace = Workspace::load();
    let mut members = workspace.members();
    let (id, _) = members.find(|(_, p)| p.name == "seeward-tests").unwrap();
    let tree = workspace.tree(id);
    for engine in ["tch", "torch-sys", "ort", "seeward-models", "serde"] {
        assert!(tree.contains(engine), "{engine}");
    }
}

/// The documentation has the number of crates that an embedder builds. A new number is no fault, an unnoticed one is.
#[test]
fn the_runtime_stays_light() {
    const PAGE: &str = include_str!("../../docs/scoring.md");
    let tree = [
        "tree",
        "--package",
        "seeward-runtime",
        "--edges",
        "normal,build",
    ];
    let output = Command::new(env!("CARGO"))
        .args(tree)
        .args(["--prefix", "none", "--no-dedupe", "--offline", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let said = format!("is built from {} crates", crates.len());
    let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&said), "docs/scoring.md does not say: {said}");
}

#[test]
fn every_member_takes_the_workspace_lints() {
    for (_, member) in Workspace::load().members() {
        let manifest = std::fs::read_to_string(&member.manifest).unwrap();
        let path = member.manifest.display();
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{path}");
    }
}

/// Parts are asked for, not guessed from names: the names of parts stand in `models::net` and nowhere else.
#[test]
fn no_program_spells_the_name_of_a_part() {
    let mut names: Vec<&str> = Part::ALL.map(Part::module).to_vec();
    // A score is too common a word to look for; its tensor's name is not.
    names.retain(|name| *name != Part::Head.module());
    names.extend([SCORE_HEAD, TEXT_ONLY_SCOPE, ".layers."]);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut files = Vec::new();
    for folder in ["models/src", "train/src", "export/src", "runtime"] {
        collect_sources(&PathBuf::from(root).join(folder), &mut files);
    }
    files.retain(|file| !file.starts_with(PathBuf::from(root).join("models/src/net")));
    // It looks for the names of other programs' layouts, some of which are ours.
    files.retain(|file| !file.ends_with("models/src/config/folder.rs"));
    assert!(files.len() > 100, "{}", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = program.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let literals = || line.split('"').skip(1).step_by(2);
            let found = names
                .iter()
                .find(|name| literals().any(|literal| literal.contains(**name)));
            assert!(
                found.is_none(),
                "{}:{}: {found:?}",
                file.display(),
                number + 1
            );
        }
    }
}

/// The Rust files below `folder` that programs and libraries are built from.
fn collect_sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let is_test = ["tests", "tests.rs", "benches", "target"].contains(&&*name);
        if path.is_dir() && !is_test {
            collect_sources(&path, files);
        } else if name.ends_with(".rs") && !is_test {
            files.push(path);
        }
    }
}

/// Packages that others embed, and the oldest compiler that their own code needs.
const EMBEDDED: [(&str, [u64; 2]); 3] = [
    ("seeward-models", [1, 88]),
    ("seeward-kernels", [1, 89]),
    ("seeward-runtime", [1, 88]),
];

/// Major and minor.
fn rust_version(package: &Package) -> [u64; 2] {
    let version = package.rust_version.as_deref().unwrap_or("1.0");
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    [parts.next().unwrap(), parts.next().unwrap_or(0)]
}

#[test]
fn embedded_packages_name_the_oldest_compiler_of_their_trees() {
    let workspace = Workspace::load();
    for (name, own) in EMBEDDED {
        let mut members = workspace.members();
        let (id, package) = members.find(|(_, package)| package.name == name).unwrap();
        let tree = workspace.tree_packages(id).into_iter().map(rust_version);
        let expected = tree.chain([own]).max().unwrap();
        assert_eq!(rust_version(package), expected, "rust-version of {name}");
    }
}
