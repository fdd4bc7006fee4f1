//! The shortcut-failure degradation, with the table from which it is computed.

use super::html::{self, interval, percent, points};
use crate::evaluate::metrics::Shortcut;
use crate::evaluate::metrics::shortcut::Row;
use crate::evaluate::plot::svg::escape;
use crate::evaluate::report::Report;

pub(super) fn section(report: &Report) -> String {
    let cards = report
        .sets
        .iter()
        .filter_map(|set| Some(card(&set.name, &set.shortcut?)));
    html::section(
        "Does it look?",
        "A model that only reads the text is right where the text alone predicts the answer, and wrong where it misleads. \
         <em>Shortcut-failure degradation</em> (SFD) is the accuracy where the text-only model is right minus the \
         accuracy where it is wrong: near zero for a model that looks.",
        &html::figures(&cards.collect::<String>()),
    )
}

fn card(name: &str, shortcut: &Shortcut) -> String {
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n<p class=\"big\">{}<small>SFD, 95 % interval {}</small></p>\n\
         <table class=\"cells\">\n<thead><tr><th scope=\"col\">text-only model</th><th scope=\"col\">right</th>\
         <th scope=\"col\">wrong</th><th scope=\"col\">accuracy</th></tr></thead>\n<tbody>{}{}</tbody></table>\n</figure>\n",
        escape(name),
        points(shortcut.sfd),
        between(shortcut.interval),
        row("is right", &shortcut.where_right),
        row("is wrong", &shortcut.where_wrong),
    )
}

fn row(name: &str, row: &Row) -> String {
    format!(
        "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{}</td><td>{}<small>{}</small></td></tr>\n",
        pairs(row.right),
        pairs(row.wrong),
        percent(row.accuracy),
        interval(row.interval),
    )
}

/// An interval in percentage points, which may be negative.
fn between(interval: Option<(f64, f64)>) -> String {
    let points = |share| html::points(Some(share));
    interval.map_or("–".into(), |(low, high)| {
        format!("{} to {}", points(low), points(high))
    })
}

/// A number of pairs; ties count as halves and quarters.
fn pairs(count: f64) -> String {
    match count.fract() {
        0.0 => html::count(count as usize),
        _ => count.to_string(),
    }
}
