//! The pages of the documentation, and the parts of one: sections, fenced blocks, tables, code spans, commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A Markdown file.
pub(crate) struct Page {
    /// Relative to the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block with the line above it.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) above: &'a str,
    pub(crate) text: &'a str,
}

/// A command of the short forms in `.cargo/config.toml`.
pub(crate) struct Invocation<'a> {
    /// Such as `seeward-train`.
    pub(crate) program: String,
    pub(crate) arguments: Vec<&'a str>,
}

/// Every tracked or new Markdown file of the repository, golden files included.
pub(crate) fn pages() -> Vec<Page> {
    let pages = paths()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"));
    let pages: Vec<_> = pages.map(|path| Page::read(&path)).collect();
    assert!(pages.len() > 12, "{}", pages.len());
    pages
}

/// The pages about the present: all but the changelog, which names older flags and functions.
pub(crate) fn current_pages() -> Vec<Page> {
    let is_current = |page: &Page| page.path != Path::new("CHANGELOG.md");
    pages().into_iter().filter(is_current).collect()
}

/// The pages for users: README and `docs/`.
pub(crate) fn documentation() -> Vec<Page> {
    let is_documentation =
        |page: &Page| page.path == Path::new("README.md") || page.path.starts_with("docs");
    pages().into_iter().filter(is_documentation).collect()
}

/// The paths that git tracks or would track.
pub(crate) fn paths() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.current_dir(ROOT).args(["ls-files", "-z"]);
    git.args(["--cached", "--others", "--exclude-standard"]);
    let listed = git.output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    let exists = |path: &PathBuf| Path::new(ROOT).join(path).exists();
    paths.map(PathBuf::from).filter(exists).collect()
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// The text under the heading `## title…`, or the whole page for an empty title.
    pub(crate) fn section(&self, title: &str) -> &str {
        if title.is_empty() {
            return &self.text;
        }
        let start = self.text.find(&format!("\n## {title}"));
        let text = &self.text[start.unwrap_or_else(|| panic!("no section {title}")) + 1..];
        &text[..text.find("\n## ").unwrap_or(text.len())]
    }

    /// The code spans outside of fenced blocks.
    pub(crate) fn spans(&self) -> Vec<&str> {
        let prose = self.text.split("\n```").step_by(2);
        prose.flat_map(quoted).collect()
    }
}

/// The fenced blocks of `language`.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<Block<'a>> {
    let fence = format!("\n```{language}\n");
    let starts = text.match_indices(&fence).map(|(start, _)| start);
    let block = |start: usize| {
        let inside = &text[start + fence.len()..];
        Block {
            above: text[..start].trim_end().lines().last().unwrap(),
            text: &inside[..inside.find("```").unwrap()],
        }
    };
    starts.map(block).collect()
}

/// The text between pairs of backticks.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The first cells of the table below the line `above`.
pub(crate) fn table<'a>(text: &'a str, above: &str) -> Vec<&'a str> {
    let start = text.find(above).unwrap_or_else(|| panic!("no {above}"));
    let rows = text[start..]
        .lines()
        .skip_while(|line| !line.starts_with('|'));
    rows.skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|line| line.split(" | ").next().unwrap())
        .collect()
}

/// The commands of a shell block.
pub(crate) fn commands<'a>(block: &Block<'a>) -> Vec<Invocation<'a>> {
    let lines = block.text.lines();
    lines
        .filter_map(|line| line.split(" #").next().unwrap().strip_prefix("cargo "))
        .filter(|line| !line.starts_with("run ") && !line.starts_with("bench "))
        .filter(|line| !line.starts_with("test ") && !line.starts_with("doc "))
        .map(|line| {
            let mut words = line.split_whitespace();
            Invocation {
                program: format!("seeward-{}", words.next().unwrap()),
                arguments: words.collect(),
            }
        })
        .collect()
}
