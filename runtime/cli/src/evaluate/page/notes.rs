//! Notes on the sets.

use super::numbers::count;
use crate::evaluate::report::{Report, SetReport};

/// The names of sets with what a reader should know about them.
pub(super) fn notes(report: &Report) -> Vec<(&str, String)> {
    let sets = report.sets.iter();
    let notes = sets.map(|set| (set.name.as_str(), notes_on(set).join(" ")));
    notes.filter(|(_, text)| !text.is_empty()).collect()
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
