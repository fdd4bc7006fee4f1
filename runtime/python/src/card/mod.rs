//! The model card of a bundle on a hub, by a template.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, context};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const TEMPLATE: &str = include_str!("card.md.jinja");

/// The card for a manifest and the report of an evaluation, both as JSON.
#[pyfunction]
#[pyo3(signature = (manifest, repository, report = None, licence = None))]
pub(crate) fn model_card(
    manifest: &str,
    repository: &str,
    report: Option<&str>,
    licence: Option<&str>,
) -> PyResult<String> {
    let manifest = json("manifest", manifest)?;
    let report = report.map(|text| json("report", text)).transpose()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax().map_err(failed)?);
    environment.add_filter("percent", percent);
    let [manifest, report] = [Some(manifest), report].map(|json| Value::from(Serde(json)));
    let values = context! { manifest, repository, report, licence };
    environment.render_str(TEMPLATE, values).map_err(failed)
}

/// Lines with a tag alone leave nothing.
fn syntax() -> Result<SyntaxConfig, Error> {
    let mut builder = SyntaxConfig::builder();
    builder.trim_blocks(true).lstrip_blocks(true).build()
}

fn failed(error: Error) -> PyErr {
    PyValueError::new_err(format!("model card: {error:#}"))
}

fn json(name: &str, text: &str) -> PyResult<serde_json::Value> {
    let value = serde_json::from_str(text);
    value.map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

/// A share in per cent, or a dash for what was not measured.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", 100.0 * share))
}
