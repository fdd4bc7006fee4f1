//! `report.html`: the report as one page that needs nothing else. Colours are CSS variables, so that drawings follow
//! the reader's light or dark theme.

mod accuracy;
mod disagreements;
mod figures;
mod shortcut;
mod training;

use std::fmt::Write;

use super::plot::svg::escape;
use super::report::{Report, SetReport};

/// The models' parts as readers know them, in the order of their colours.
const MODEL: &str = "model";
const TEXT_ONLY: &str = "text-only";
const COMPARED: &str = "compared";

/// The page.
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

/// The bundle's folder.
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

/// The few numbers that matter most.
fn tiles(report: &Report) -> String {
    let mut tiles = String::new();
    let overall = report.overall.get(super::MODEL);
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
    if let Some(text_only) = report.overall.get(super::TEXT_ONLY) {
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

/// A part of the page; nothing where it would be empty.
fn section(title: &str, explained: &str, content: &str) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!(
            "<section>\n<h2>{title}</h2>\n<p class=\"lead\">{explained}</p>\n{content}</section>\n"
        ),
    }
}

fn figure(title: &str, drawing: &str, legend: &[(usize, &str)], note: &str) -> String {
    let entry =
        |(class, name): &(usize, &str)| format!("<li><i class=\"key k{class}\"></i>{name}</li>");
    let legend: String = legend.iter().map(entry).collect();
    let legend = match legend.is_empty() {
        true => legend,
        false => format!("<ul class=\"legend\">{legend}</ul>"),
    };
    let note = match note.is_empty() {
        true => String::new(),
        false => format!("<p class=\"note\">{note}</p>"),
    };
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n{legend}{drawing}{note}</figure>\n",
        escape(title)
    )
}

fn figures(figures: &str) -> String {
    grid("figures", figures)
}

fn grid(class: &str, content: &str) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!("<div class=\"{class}\">\n{content}</div>\n"),
    }
}

/// With thin spaces between thousands.
fn count(count: usize) -> String {
    let digits = count.to_string();
    let mut spaced = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            spaced.push('\u{2009}');
        }
        spaced.push(digit);
    }
    spaced
}

/// In percent with one digit.
fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// A difference of shares, in percentage points.
fn points(difference: Option<f64>) -> String {
    difference.map_or("–".into(), |d| {
        format!("{:+.1}", 100.0 * d).replace('-', "−")
    })
}

fn interval(interval: Option<(f64, f64)>) -> String {
    interval.map_or("–".into(), |(low, high)| {
        format!("{:.1} – {:.1}", 100.0 * low, 100.0 * high).replace('-', "−")
    })
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| {
        format!("{value:.digits$}").replace('-', "−")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234567), "1\u{2009}234\u{2009}567");
        assert_eq!(percent(Some(0.12345)), "12.3 %");
        assert_eq!(points(Some(-0.05)), "−5.0");
        assert_eq!(number(None, 2), "–");
    }
}
