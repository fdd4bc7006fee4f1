//! The trainer's `metrics.jsonl`, as curves over steps.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use seeward_models::Error;
use seeward_models::sample::Lines;
use serde::Serialize;
use serde_json::{Map, Value};

/// The trainer's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Training {
    /// For each metric its values by step. Metrics of evaluations are named `eval.<set>.<metric>`.
    pub(super) curves: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Training {
    /// Reads `metrics.jsonl`.
    ///
    /// # Errors
    /// Not a file of JSON objects with a `step` each.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut training = Self::default();
        for item in Lines::open(path)? {
            let (line, text) = item.with_context(|| path.display().to_string())?;
            let pushed = text.and_then(|text| training.push(&text));
            pushed.map_err(|e| e.at(format!("{}:{}", path.display(), line.number)))?;
        }
        Ok(training)
    }

    fn push(&mut self, line: &str) -> seeward_models::Result<()> {
        let fields: Map<String, Value> = serde_json::from_str(line).map_err(Error::invalid)?;
        let step = fields.get("step").and_then(Value::as_f64);
        let step = step.ok_or_else(|| Error::invalid("step: expected a number"))?;
        for (name, value) in fields.iter().filter(|(name, _)| *name != "step") {
            self.push_value(name, step, value);
        }
        Ok(())
    }

    fn push_value(&mut self, name: &str, step: f64, value: &Value) {
        if let Value::Object(parts) = value {
            for (part, value) in parts {
                self.push_value(&format!("{name}.{part}"), step, value);
            }
        } else if let Some(number) = value.as_f64() {
            let curve = self.curves.entry(name.to_owned()).or_default();
            // A resumed run logs some steps again.
            curve.truncate(curve.partition_point(|(earlier, _)| *earlier < step));
            curve.push((step, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Training> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        Training::read(file.path())
    }

    #[test]
    fn numbers_become_curves_and_steps_logged_again_count_once() {
        let training = read(
            r#"{"step":0,"loss":2.0}
{"step":10,"loss":1.0,"sfc_mean":0.5}
{"step":10,"eval":{"dev":{"accuracy":0.75}}}
{"step":20,"loss":0.5}
{"step":10,"loss":0.9}
"#,
        );
        let curves = training.unwrap().curves;
        assert_eq!(curves["loss"], [(0.0, 2.0), (10.0, 0.9)]);
        assert_eq!(curves["eval.dev.accuracy"], [(10.0, 0.75)]);
        assert_eq!(curves.len(), 3);
    }

    #[test]
    fn a_broken_line_is_named() {
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("{\"step\":1}\n{\"loss\":1}\n").ends_with(":2: step: expected a number"));
        assert!(message("[]").contains(":1: "));
    }
}
