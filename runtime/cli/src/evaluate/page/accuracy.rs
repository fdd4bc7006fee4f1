//! The accuracy of every model on every set and group as a heat map, and the agreement of two models.

use super::html::{self, COMPARED, MODEL, TEXT_ONLY, count, interval, number, percent};
use crate::evaluate::metrics::Measured;
use crate::evaluate::metrics::groups::Area;
use crate::evaluate::plot::svg::escape;
use crate::evaluate::report::{ModelReport, Report, SetReport};
use crate::evaluate::roles;

pub(super) fn section(report: &Report) -> String {
    let first = report.sets.first();
    let mut columns = vec![MODEL];
    columns.extend(
        first
            .and_then(|set| set.text_only.as_ref())
            .map(|_| TEXT_ONLY),
    );
    columns.extend(first.and_then(|set| set.compare.as_ref()).map(|_| COMPARED));
    columns.push("length-only");
    let heads: String = columns
        .iter()
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    let table = format!(
        "<div class=\"scroll\"><table class=\"heat\">\n<thead><tr><th scope=\"col\">set</th>{heads}</tr></thead>\n\
         {}</table></div>\n{}",
        bodies(report),
        notes(report),
    );
    html::section(
        "Accuracy",
        "The share of pairs in which the better response has the greater reward, with its 95 % interval. A tie counts \
         as half. <em>Length-only</em> is the rule that the longer response is the better one.",
        &table,
    )
}

fn bodies(report: &Report) -> String {
    let sets = format!(
        "<tbody>
{}</tbody>",
        report.sets.iter().map(set_rows).collect::<String>()
    );
    match report.sets.len() {
        0 | 1 => sets,
        _ => format!(
            "{sets}
<tbody class=\"total\">
{}</tbody>",
            overall_rows(report)
        ),
    }
}

fn set_rows(set: &SetReport) -> String {
    let models = [
        Some(&set.model),
        set.text_only.as_ref(),
        set.compare.as_ref(),
    ];
    let models: Vec<&ModelReport> = models.into_iter().flatten().collect();
    let mut cells: Vec<Measured> = models.iter().map(|model| model.accuracy).collect();
    cells.push(set.model.length.length_only);
    let mut rows = row(
        &set.name,
        &format!("{} pairs", count(set.model.accuracy.pairs)),
        "",
        &cells,
    );
    if let Some(groups) = &set.model.groups {
        for (index, area) in groups.areas.iter().enumerate() {
            rows += &area_rows(&models, index, area);
        }
        let means = models
            .iter()
            .map(|model| model.groups.as_ref().and_then(|g| g.macro_mean));
        rows += &plain_row("mean of areas", means, NO_CELL);
    }
    if set.model.questions.is_some() {
        let right = models
            .iter()
            .map(|model| model.questions.as_ref().and_then(|q| q.acc_plus.accuracy));
        rows += &plain_row("Acc+: questions all right", right, NO_CELL);
    }
    rows
}

fn area_rows(models: &[&ModelReport], index: usize, area: &Area) -> String {
    let areas = || {
        models
            .iter()
            .filter_map(|model| model.groups.as_ref()?.areas.get(index))
    };
    let cells: Vec<Measured> = areas().map(|area| area.accuracy).collect();
    let mut rows = row(
        &area.name,
        &format!("{}", area.accuracy.pairs),
        "area",
        &cells,
    );
    for (at, part) in area.parts.iter().enumerate() {
        let cells: Vec<Measured> = areas()
            .filter_map(|area| area.parts.get(at))
            .map(|part| part.accuracy)
            .collect();
        rows += &row(
            &part.name,
            &format!("{}", part.accuracy.pairs),
            "part",
            &cells,
        );
    }
    rows
}

/// A placeholder: the rule of length is measured on whole sets only.
const NO_CELL: &str = "<td class=\"none\"></td>";

fn row(name: &str, note: &str, class: &str, cells: &[Measured]) -> String {
    let cells: String = cells.iter().map(cell).collect();
    let cells = cells + if class.is_empty() { "" } else { NO_CELL };
    format!(
        "<tr class=\"{class}\"><th scope=\"row\">{}<small>{note}</small></th>{cells}</tr>\n",
        escape(name)
    )
}

fn cell(measured: &Measured) -> String {
    let heat = heat(measured.accuracy);
    let (value, interval) = (percent(measured.accuracy), interval(measured.interval));
    format!("<td style=\"{heat}\">{value}<small>{interval}</small></td>")
}

fn plain_row(name: &str, values: impl Iterator<Item = Option<f64>>, last: &str) -> String {
    let cell =
        |value: Option<f64>| format!("<td style=\"{}\">{}</td>", heat(value), percent(value));
    let cells: String = values.map(cell).collect();
    format!("<tr class=\"mean\"><th scope=\"row\">{name}</th>{cells}{last}</tr>\n")
}

/// CSS variables of a cell: pale at chance, deeper for better shares, in another colour for worse ones.
fn heat(share: Option<f64>) -> String {
    match share {
        Some(share) if share >= 0.5 => {
            format!("--heat:{:.0}%;--tone:var(--c0)", 120.0 * (share - 0.5))
        }
        Some(share) => format!("--heat:{:.0}%;--tone:var(--bad)", 120.0 * (0.5 - share)),
        None => "--heat:0%".into(),
    }
}

fn overall_rows(report: &Report) -> String {
    let parts = [
        roles::MODEL,
        roles::TEXT_ONLY,
        roles::COMPARE,
        roles::LENGTH_ONLY,
    ];
    let overall: Vec<_> = parts
        .iter()
        .filter_map(|part| report.overall.get(part))
        .collect();
    let cells: Vec<Measured> = overall.iter().map(|overall| overall.micro).collect();
    let pairs = cells.first().map_or(0, |cell| cell.pairs);
    let note = format!("{} pairs", count(pairs));
    let means = overall.iter().map(|overall| overall.macro_mean);
    row("all pairs", &note, "", &cells) + &plain_row("mean of sets", means, "")
}

/// The list of notes on the sets.
fn notes(report: &Report) -> String {
    let item = |set: &SetReport| {
        let notes = notes_on(set);
        let text = escape(&notes.join(" "));
        (!notes.is_empty()).then(|| format!("<li><b>{}</b> {text}</li>", escape(&set.name)))
    };
    let items: String = report.sets.iter().filter_map(item).collect();
    match items.is_empty() {
        true => items,
        false => format!("<ul class=\"notes\">{items}</ul>\n"),
    }
}

/// Overlap, failed rows, ties, skipped pairs and dependent pairs of a set.
fn notes_on(set: &SetReport) -> Vec<String> {
    let (rows, failed) = (set.rows, set.failed_rows);
    let (ties, skipped) = (set.model.ties, set.equally_rated);
    let dependent = "Pairs of one row are not independent: the intervals are too narrow.";
    let failures = format!("{failed} of {rows} rows failed and are skipped.");
    let equals = format!(
        "Skipped pairs of equally rated responses: {}.",
        count(skipped)
    );
    let notes = [
        set.overlap.as_ref().map(|overlap| format!("{overlap}.")),
        (failed > 0).then_some(failures),
        (ties > 0).then(|| format!("Ties: {}.", count(ties))),
        (skipped > 0).then_some(equals),
        (set.model.accuracy.pairs as u64 > rows - failed).then(|| dependent.to_owned()),
    ];
    notes.into_iter().flatten().collect()
}

/// The agreement of the model and the compared one.
pub(super) fn agreement(report: &Report) -> String {
    let row = |set: &SetReport| {
        let agreement = set.agreement?;
        Some(format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&set.name),
            percent(agreement.agreement),
            number(agreement.rank_correlation, 3),
            number(agreement.mean_distance, 4),
            number(agreement.largest_distance, 4),
        ))
    };
    let rows: String = report.sets.iter().filter_map(row).collect();
    let table = match rows.is_empty() {
        true => rows,
        false => format!(
            "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">set</th><th scope=\"col\">same order</th>\
             <th scope=\"col\">rank correlation</th><th scope=\"col\">mean difference</th>\
             <th scope=\"col\">largest difference</th></tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
        ),
    };
    html::section(
        "Agreement with the compared model",
        "The share of pairs that both models order alike (a tie of one counts half), Spearman’s rank correlation of \
         their margins, and the absolute difference of the margins.",
        &table,
    )
}
