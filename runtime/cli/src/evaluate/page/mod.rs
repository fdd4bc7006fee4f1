//! `report.html`: the report as one self-contained page. Colours are CSS variables, so that plots follow the reader's
//! light or dark theme.

mod accuracy;
mod disagreements;
mod figures;
mod html;
mod shortcut;
mod training;

use std::fmt::Write;

use super::plot::svg::escape;
use super::report::{Report, SetReport};
use super::roles;
use html::{COMPARED, MODEL, TEXT_ONLY, count, interval, percent, points};

/// Renders the page.
pub(super) fn page(report: &Report) -> String {
    let sections = [
        accuracy::section(report),
        shortcut::section(report),
        figures::margins(report),
        figures::length(report),
        figures::best_of_n(report),
        accuracy::agreement(report),
        training::section(report),
        disagreements::section(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} · Seeward evaluation</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n{header}{sections}</main>\n</body>\n</html>\n",
        name = name(report),
        style = include_str!("style.css"),
        header = header(report),
        sections = sections.concat(),
    )
}

/// The name of the bundle's folder.
fn name(report: &Report) -> String {
    let name = report.model.file_name().unwrap_or(report.model.as_os_str());
    escape(&name.to_string_lossy())
}

fn header(report: &Report) -> String {
    let mut models = vec![(MODEL, &report.model)];
    models.extend(report.text_only_model.iter().map(|path| (TEXT_ONLY, path)));
    models.extend(report.compare.iter().map(|path| (COMPARED, path)));
    let mut list = String::new();
    for (index, (part, path)) in models.iter().enumerate() {
        let path = escape(&path.display().to_string());
        let _ = write!(
            list,
            "<li><i class=\"key k{index}\"></i>{part} <code>{path}</code></li>"
        );
    }
    format!(
        "<header>\n<p class=\"eyebrow\">Seeward · evaluation of a reward model</p>\n<h1>{}</h1>\n\
         <ul class=\"models\">{list}</ul>\n{}</header>\n",
        name(report),
        tiles(report),
    )
}

/// The most important numbers.
fn tiles(report: &Report) -> String {
    let mut tiles = String::new();
    let overall = report.overall.get(roles::MODEL);
    if let Some(overall) = overall {
        let note = format!(
            "{} pairs, {}",
            count(overall.micro.pairs),
            interval(overall.micro.interval)
        );
        tiles += &tile("accuracy", &percent(overall.micro.accuracy), &note);
        if report.sets.len() > 1 {
            let note = format!("of {} sets", report.sets.len());
            tiles += &tile("mean accuracy", &percent(overall.macro_mean), &note);
        }
    }
    if let Some((set, sfd)) = largest_degradation(report) {
        let note = format!("shortcut-failure degradation, {}", escape(&set.name));
        tiles += &tile("largest SFD", &points(Some(sfd)), &note);
    }
    if let Some(text_only) = report.overall.get(roles::TEXT_ONLY) {
        let note = "accuracy of the text alone";
        tiles += &tile("text-only", &percent(text_only.micro.accuracy), note);
    }
    format!("<div class=\"tiles\">{tiles}</div>\n")
}

fn tile(title: &str, value: &str, note: &str) -> String {
    format!("<div class=\"tile\"><b>{title}</b><strong>{value}</strong><span>{note}</span></div>")
}

fn largest_degradation(report: &Report) -> Option<(&SetReport, f64)> {
    let sets = report
        .sets
        .iter()
        .filter_map(|set| Some((set, set.shortcut?.sfd?)));
    sets.max_by(|(_, a), (_, b)| a.total_cmp(b))
}
