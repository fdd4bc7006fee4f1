//! Published sets: their columns, and what their rows become. The columns are those of the sets' published schemas; the
//! real files were not at hand.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// A row as an object.
type Object = Map<String, Value>;

/// A published set of preferences.
pub(super) struct Set {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// Columns by which it is recognised: at least one of each group.
    columns: &'static [&'static [&'static str]],
    /// The format that its rows become; `None` if they keep their keys.
    pub(super) format: Option<&'static str>,
    /// Words of which the first one in an image's path stays in its name, as the format reads it there.
    pub(super) labels: &'static [&'static str],
    /// A row of the set as a row of the format.
    pub(super) convert: fn(Object) -> Result<Object, String>,
}

/// The sets, the most special first; the last one is any other.
static SETS: [Set; 7] = [
    Set {
        name: "rlhf-v",
        columns: &[&["ds_name"], &["text"], &["image"]],
        format: Some("internvl"),
        labels: &[],
        convert: rlhf_v,
    },
    Set {
        name: "rlaif-v",
        columns: &[&["question"], &["chosen"], &["rejected"], &["image"]],
        format: Some("internvl"),
        labels: &[],
        convert: without_origin,
    },
    Set {
        name: "vlfeedback",
        columns: &[&["prompt"], &["completions"]],
        format: Some("vlfeedback"),
        labels: &[],
        convert: vlfeedback,
    },
    Set {
        name: "vl-rewardbench",
        columns: &[&["query"], &["response"], &["human_ranking"]],
        format: Some("vl-rewardbench"),
        labels: &[],
        convert: without_origin,
    },
    Set {
        name: "mm-rlhf",
        columns: &[
            &["prompt"],
            &["chosen"],
            &["rejected"],
            &["chosen_reason", "rejected_reason", "video"],
        ],
        format: Some("mm-rlhf-rewardbench"),
        labels: &["mcq", "long", "short", "safety", "video"],
        convert: without_nulls,
    },
    Set {
        name: "multimodal-rewardbench",
        columns: &[&["Text"], &["Output1"], &["Output2"], &["Better"]],
        format: Some("multimodal-rewardbench"),
        labels: &[],
        convert: Ok,
    },
    Set {
        name: "rows",
        columns: &[],
        format: None,
        labels: &[],
        convert: Ok,
    },
];

impl Set {
    /// Every set.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        SETS.iter()
    }

    /// The set with these columns.
    pub(super) fn of(columns: &BTreeSet<String>) -> &'static Self {
        let has = |group: &&[&str]| group.iter().any(|name| columns.contains(*name));
        let fits = |set: &&Self| set.columns.iter().all(has);
        SETS.iter().find(fits).unwrap_or(&SETS[SETS.len() - 1])
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            Some(format) => write!(f, "set {}, as rows of format {format}", self.name),
            None => write!(f, "no known set: rows keep their keys"),
        }
    }
}

/// `text` is JSON with the question and both answers.
fn rlhf_v(row: Object) -> Result<Object, String> {
    let mut row = without_origin(row)?;
    let text = row.shift_remove("text").unwrap_or_default();
    let text = text.as_str().ok_or("text: expected JSON in a string")?;
    let answers: Object = serde_json::from_str(text).map_err(|e| format!("text: {e}"))?;
    row.extend(answers);
    Ok(row)
}

/// Without the place that an embedded image once had.
fn without_origin(mut row: Object) -> Result<Object, String> {
    row.shift_remove("image_path");
    Ok(row)
}

/// Columns of a file's other rows.
fn without_nulls(mut row: Object) -> Result<Object, String> {
    row.retain(|_, value| !value.is_null());
    Ok(row)
}

fn vlfeedback(mut row: Object) -> Result<Object, String> {
    for key in ["image", "img"] {
        if let Some(image) = row.shift_remove(key) {
            row.insert("img_path".to_owned(), image);
        }
    }
    without_nulls(row)
}
