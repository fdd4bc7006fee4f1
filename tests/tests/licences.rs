//! Licences, bans and sources of everything that is built, by the rules of `deny.toml`, read from `cargo metadata` and
//! `Cargo.lock`. `cargo deny` checks the same where it is installed.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The one platform of `deny.toml`; others have packages that no machine here fetches.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// The strings between quotes.
fn strings(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// The list after `start` in `deny.toml`, up to a line with its end.
fn list<'a>(rules: &'a str, start: &str) -> &'a str {
    let (_, rest) = rules.split_once(start).unwrap();
    rest.split_once("\n]").unwrap().0
}

/// Every banned crate with the packages that may use it all the same.
fn bans(rules: &str) -> BTreeMap<&str, Vec<&str>> {
    let entries = list(rules, "\ndeny = [").lines();
    let entries = entries.filter(|line| line.trim_start().starts_with("{ crate"));
    entries
        .map(|line| {
            let names = strings(line);
            (names[0], names[1..].to_vec())
        })
        .collect()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(ROOT)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", PLATFORM])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A licence expression: names with OR (or `/`) and AND, which binds closer, and parentheses.
struct Expression<'a> {
    words: Vec<&'a str>,
    allowed: &'a BTreeSet<&'a str>,
}

impl<'a> Expression<'a> {
    fn is_allowed(text: &'a str, allowed: &'a BTreeSet<&'a str>) -> bool {
        let spaced = |(start, end): (usize, usize)| &text[start..end];
        let mut words: Vec<&str> = bounds(text).into_iter().map(spaced).collect();
        words.reverse();
        let mut expression = Self { words, allowed };
        let result = expression.any();
        assert!(expression.words.is_empty(), "licence expression {text}");
        result
    }

    fn take(&mut self, words: &[&str]) -> bool {
        let taken = self.words.last().is_some_and(|word| words.contains(word));
        if taken {
            self.words.pop();
        }
        taken
    }

    fn any(&mut self) -> bool {
        let mut result = self.all();
        while self.take(&["OR", "/"]) {
            result |= self.all();
        }
        result
    }

    fn all(&mut self) -> bool {
        let mut result = self.one();
        while self.take(&["AND"]) {
            result &= self.one();
        }
        result
    }

    fn one(&mut self) -> bool {
        if self.take(&["("]) {
            let result = self.any();
            assert!(self.take(&[")"]));
            return result;
        }
        let name = self.words.pop().unwrap();
        match self.take(&["WITH"]) {
            false => self.allowed.contains(name),
            true => {
                let name = format!("{name} WITH {}", self.words.pop().unwrap());
                self.allowed.contains(name.as_str())
            }
        }
    }
}

/// Where words, slashes and parentheses are.
fn bounds(text: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut open = false;
    for (at, c) in text.char_indices() {
        let single = "()/".contains(c);
        match found.last_mut() {
            Some(last) if open && !single && c != ' ' => last.1 = at + 1,
            _ if c != ' ' => found.push((at, at + 1)),
            _ => {}
        }
        open = !single && c != ' ';
    }
    found
}

#[test]
fn expressions_are_read_as_spdx_says() {
    let allowed = BTreeSet::from(["MIT", "Zlib"]);
    let is_allowed = |text| Expression::is_allowed(text, &allowed);
    for text in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "MIT AND Zlib",
        "(GPL-3.0 OR MIT) AND Zlib",
    ] {
        assert!(is_allowed(text), "{text}");
    }
    for text in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT WITH Linking-exception",
        "MIT AND (GPL-3.0 OR BSL-1.0)",
    ] {
        assert!(!is_allowed(text), "{text}");
    }
    assert!(is_allowed("GPL-3.0 AND Zlib OR MIT"), "AND binds closer");
    let allowed = BTreeSet::from(["Apache-2.0 WITH LLVM-exception"]);
    assert!(Expression::is_allowed(
        "Apache-2.0 WITH LLVM-exception",
        &allowed
    ));
    assert!(!Expression::is_allowed("Apache-2.0", &allowed));
}

#[test]
fn every_licence_is_allowed() {
    let rules = file("deny.toml");
    let allowed = BTreeSet::from_iter(strings(list(&rules, "\nallow = [")));
    assert!(allowed.contains("MIT") && allowed.len() < 12, "{allowed:?}");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 200);
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str());
        let licence = licence.unwrap_or_else(|| panic!("{name}: no licence expression"));
        assert!(
            Expression::is_allowed(licence, &allowed),
            "{name}: {licence}"
        );
    }
}

#[test]
fn everything_is_from_the_registry() {
    let lock = file("Cargo.lock");
    let packages = lock.split("[[package]]").skip(1);
    let field = |package: &str, key: &str| {
        let lines = package.lines();
        let value = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        value
            .map(|value| value.trim_end_matches('"').to_owned())
            .next()
    };
    let mut ours = 0;
    for package in packages {
        match field(package, "source") {
            Some(source) => assert_eq!(source, REGISTRY, "{package}"),
            None => {
                assert!(
                    field(package, "name").unwrap().starts_with("seeward-"),
                    "{package}"
                );
                ours += 1;
            }
        }
    }
    assert!(ours > 5, "{ours}");
}

#[test]
fn banned_crates_are_absent_or_used_by_their_wrappers_alone() {
    let rules = file("deny.toml");
    let bans = bans(&rules);
    assert!(bans.contains_key("openssl-sys") && bans["ort"].contains(&"seeward-runtime"));
    let lock = file("Cargo.lock");
    for package in lock.split("[[package]]").skip(1) {
        let name = strings(package)[0];
        let dependencies = package
            .split_once("dependencies = [")
            .map_or("", |(_, rest)| rest);
        // An entry has a version where several are in the lock file.
        for used in strings(dependencies)
            .iter()
            .map(|entry| entry.split(' ').next().unwrap())
        {
            if let Some(wrappers) = bans.get(used) {
                assert!(wrappers.contains(&name), "{name} uses {used}");
            }
        }
    }
}
