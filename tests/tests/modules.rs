//! The modules of every crate form no ring, and no file of production code is over 500 lines.
//!
//! A module is a file. It depends on another one if it names something that is defined there, by `use` or by a path in its
//! code; what a module re-exports counts as its home's. Unit tests are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CRATES: [&str; 9] = [
    "models",
    "train",
    "export",
    "runtime/kernels",
    "runtime",
    "runtime/cli",
    "runtime/python",
    "runtime/serve",
    "tests/fixture",
];
const MOST_LINES: usize = 500;

/// The names on the way to a module or an item, from the root of its crate.
type Name = Vec<String>;

/// A crate's modules.
#[derive(Default)]
struct Modules {
    /// Their code without comments, imports and unit tests.
    code: BTreeMap<Name, String>,
    imports: BTreeMap<Name, Vec<Import>>,
}

/// One name that a `use` brings in.
struct Import {
    path: Name,
    alias: String,
    is_public: bool,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        match path.is_dir() {
            _ if matches!(&*name, "tests" | "main" | "bin") => {}
            true => all.extend(files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => all.push(path),
            false => {}
        }
    }
    all
}

fn module(source: &Path, file: &Path) -> Name {
    let path = file
        .strip_prefix(source)
        .expect("a file of the crate")
        .with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| name != "mod" && name != "lib")
        .collect()
}

/// The code before the unit tests, without line comments.
fn production(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut code = String::new();
    while let Some(line) = lines.next() {
        let is_test = line == "#[cfg(test)]";
        while is_test && lines.peek().is_some_and(|next| next.starts_with("#[")) {
            lines.next();
        }
        let next = lines.peek().copied().unwrap_or_default();
        if is_test && next.contains("mod ") && next.ends_with('{') {
            break;
        }
        code += line.split("//").next().unwrap_or_default();
        code.push('\n');
    }
    code
}

/// A `use` tree as single paths.
fn expand(tree: &str, prefix: &[String], is_public: bool, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    if let Some((head, branches)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) {
        let head = head
            .split("::")
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let prefix: Name = prefix
            .iter()
            .cloned()
            .chain(head.map(str::to_owned))
            .collect();
        let (mut depth, mut start) = (0, 0);
        for (at, letter) in branches.char_indices().chain([(branches.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&branches[start..at], &prefix, is_public, imports);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let names = path.split("::").map(|name| name.trim().to_owned());
    let mut path: Name = prefix
        .iter()
        .cloned()
        .chain(names.filter(|name| !name.is_empty()))
        .collect();
    path.pop_if(|name| name == "self" || name == "*");
    let last = path.last().cloned().unwrap_or_default();
    let alias = if alias.is_empty() {
        last
    } else {
        alias.trim().to_owned()
    };
    imports.push(Import {
        path,
        alias,
        is_public,
    });
}

impl Modules {
    fn read(source: &Path) -> Self {
        let mut modules = Self::default();
        for file in files(source) {
            let text = fs::read_to_string(&file).expect("a source file");
            let (mut rest, mut imports) = (String::new(), Vec::new());
            let code = production(&text);
            for statement in code.split_inclusive(';') {
                match statement.rsplit_once("use ") {
                    Some((before, tree)) if is_import(before) => {
                        let is_public = before
                            .lines()
                            .last()
                            .is_some_and(|line| line.contains("pub"));
                        expand(tree.trim_end_matches(';'), &[], is_public, &mut imports);
                        rest += before;
                    }
                    _ => rest += statement,
                }
            }
            let name = module(source, &file);
            modules.code.insert(name.clone(), rest);
            modules.imports.insert(name, imports);
        }
        modules
    }

    /// A path as it is written in a module, from the root of the crate; `None` outside the crate.
    fn absolute(&self, module: &Name, path: &[String]) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let parent = module.split_last()?.1.to_vec();
                match rest.first().is_some_and(|name| name == "super") {
                    true => self.absolute(&parent, rest),
                    false => Some([&parent, rest].concat()),
                }
            }
            child => {
                let child = [&module[..], &[child.to_owned()]].concat();
                self.code
                    .contains_key(&child)
                    .then(|| [&child, rest].concat())
            }
        }
    }

    /// The module where the item is defined.
    fn home(&self, item: &[String], depth: usize) -> Name {
        let is_module = |length: &usize| self.code.contains_key(&item[..*length]);
        let length = (0..=item.len()).rev().find(is_module).unwrap_or(0);
        let module = item[..length].to_vec();
        let Some(name) = item.get(length).filter(|_| depth < 8) else {
            return module;
        };
        let exported = self.imports.get(&module).into_iter().flatten();
        let mut exported = exported.filter(|import| import.is_public && import.alias == *name);
        let path = exported.find_map(|import| self.absolute(&module, &import.path));
        match path {
            Some(path) => self.home(&[&path, &item[length + 1..]].concat(), depth + 1),
            None => module,
        }
    }

    /// The modules whose definitions `module` names.
    fn dependencies(&self, module: &Name) -> BTreeSet<Name> {
        let private = self.imports[module]
            .iter()
            .filter(|import| !import.is_public);
        let imported = private.filter_map(|import| self.absolute(module, &import.path));
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        // `pub(in super::super)` names a module and needs nothing of it.
        let code = self.code[module].replace("(in super::super)", "");
        let words = code.split(|letter| !is_name(letter));
        let paths = words.filter(|word| word.contains("::"));
        let written = paths.filter_map(|word| {
            let path: Name = word.split("::").map(str::to_owned).collect();
            self.absolute(module, &path)
        });
        let mut homes: BTreeSet<Name> = imported
            .chain(written)
            .map(|item| self.home(&item, 0))
            .collect();
        homes.remove(module);
        homes
    }
}

/// Whether what stands before `use ` leaves it an import, and not the end of another word or of a sentence.
fn is_import(before: &str) -> bool {
    let line = before.lines().last().unwrap_or_default().trim();
    before.is_empty() || before.ends_with('\n') || line.starts_with("pub") || line.is_empty()
}

/// Modules that depend on themselves by way of others.
fn rings(modules: &Modules) -> Vec<String> {
    let edges: BTreeMap<&Name, BTreeSet<Name>> = modules
        .code
        .keys()
        .map(|name| (name, modules.dependencies(name)))
        .collect();
    let reaches_itself = |start: &Name| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(name) = open.pop() {
            for next in &edges[name] {
                if next == start {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    };
    let names = edges.keys().filter(|name| reaches_itself(name));
    names
        .map(|name| format!("{} -> {:?}", name.join("::"), edges[name]))
        .collect()
}

#[test]
fn modules_form_no_ring() {
    for member in CRATES {
        let modules = Modules::read(&Path::new(ROOT).join(member).join("src"));
        assert!(modules.code.len() > 5, "{member}");
        let rings = rings(&modules);
        assert!(rings.is_empty(), "{member}:\n{}", rings.join("\n"));
    }
}

#[test]
fn a_ring_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join("b")).expect("a folder");
        fs::write(folder.path().join(name), text).expect("written");
    };
    write("lib.rs", "mod a;\nmod b;\npub use b::Second;\n");
    write("a.rs", "use crate::Second;\npub struct First(Second);\n");
    write("b/mod.rs", "mod c;\npub use c::Second;\n");
    write(
        "b/c.rs",
        "pub struct Second;\n#[cfg(test)]\nmod tests {\n    use crate::a::First;\n}\n",
    );
    assert!(rings(&Modules::read(folder.path())).is_empty());
    write(
        "b/c.rs",
        "pub struct Second;\nfn f(_: super::super::a::First) {}\n",
    );
    assert_eq!(rings(&Modules::read(folder.path())).len(), 2);
}

#[test]
fn no_file_is_long() {
    for member in CRATES {
        for file in files(&Path::new(ROOT).join(member).join("src")) {
            let lines = fs::read_to_string(&file)
                .expect("a source file")
                .lines()
                .count();
            assert!(lines <= MOST_LINES, "{}: {lines} lines", file.display());
        }
    }
}
