//! The report for a terminal: one line per set.

use super::metrics::Measured;
use super::report::{Report, SetReport};

/// Renders the table, in percent.
pub(super) fn table(report: &Report) -> String {
    let names = report.sets.iter().map(|set| set.name.chars().count());
    let width = names.chain([5]).max().unwrap_or_default();
    let header = [
        "pairs",
        "accuracy",
        "95 % interval",
        "text-only",
        "SFD",
        "compared",
        "length-only",
    ];
    let mut table = line("set", width, &header.map(str::to_owned));
    for set in &report.sets {
        table += &line(&set.name, width, &cells(set));
    }
    table
}

fn cells(set: &SetReport) -> [String; 7] {
    let accuracy = |measured: Option<Measured>| percent(measured.and_then(|m| m.accuracy));
    let interval = set.model.accuracy.interval;
    [
        set.model.accuracy.pairs.to_string(),
        accuracy(Some(set.model.accuracy)),
        interval.map_or("-".into(), |(low, high)| {
            format!("{:.1} - {:.1}", 100.0 * low, 100.0 * high)
        }),
        accuracy(set.text_only.as_ref().map(|model| model.accuracy)),
        percent(set.shortcut.and_then(|shortcut| shortcut.sfd)),
        accuracy(set.compare.as_ref().map(|model| model.accuracy)),
        accuracy(Some(set.model.length.length_only)),
    ]
}

fn line(name: &str, width: usize, cells: &[String; 7]) -> String {
    let [
        pairs,
        accuracy,
        interval,
        text_only,
        degradation,
        compared,
        length,
    ] = cells;
    format!(
        "{name:width$}{pairs:>9}{accuracy:>10}{interval:>15}{text_only:>11}{degradation:>8}{compared:>10}{length:>13}\n"
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}
