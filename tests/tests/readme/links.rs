//! Links between pages, and from pages to files, resolve.

use std::path::{Component, Path, PathBuf};

use crate::page::{Page, ROOT, pages};

/// The targets of `[text](target)` outside of code.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.text.split("\n```").step_by(2);
    let plain: String = prose.flat_map(|part| part.split('`').step_by(2)).collect();
    let after = plain.split("](").skip(1);
    after
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect()
}

/// The anchor that hosted Markdown gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

fn anchors(page: &Page) -> Vec<String> {
    let prose = page.text.split("\n```").step_by(2);
    let lines = prose.flat_map(str::lines);
    let headings = lines.filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// `path` without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(clean.pop(), "{} leads out", path.display()),
            part => clean.push(part),
        }
    }
    clean
}

#[test]
fn every_link_resolves() {
    let pages = pages();
    let mut count = 0;
    for page in &pages {
        for target in targets(page)
            .iter()
            .filter(|target| !target.contains("://"))
        {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let from = page.path.display();
            let linked = match path {
                "" => page.path.clone(),
                path => normal(&page.path.parent().unwrap().join(path)),
            };
            assert!(
                Path::new(ROOT).join(&linked).exists(),
                "{from}: no {target}"
            );
            if !heading.is_empty() {
                let other = pages.iter().find(|other| other.path == linked).unwrap();
                let anchors = anchors(other);
                assert!(
                    anchors.iter().any(|a| a == heading),
                    "{from}: no {target} among {anchors:?}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
