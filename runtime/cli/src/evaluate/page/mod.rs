//! `report.html`: the report as one self-contained page, by a template. Colours are CSS variables, so that plots follow the
//! reader's light or dark theme.

mod figure;
mod figures;
mod notes;
mod numbers;
mod training;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Output, State, context};
use serde::Serialize;

use super::plot::svg::escape;
use super::report::Report;
use figure::{COMPARED, MODEL, TEXT_ONLY};

const TEMPLATE: &str = include_str!("page.html.jinja");
const NAME: &str = "page.html";

/// Renders the page.
///
/// # Errors
/// A fault of the template.
pub(super) fn page(report: &Report) -> Result<String> {
    let environment = environment().context("report.html")?;
    let template = environment.get_template(NAME).context("report.html")?;
    let name = report.model.file_name().unwrap_or(report.model.as_os_str());
    let page = template.render(context! {
        name => name.to_string_lossy().into_owned(),
        style => include_str!("style.css"),
        models => serialized(models(report)),
        largest => serialized(largest_degradation(report)),
        has_shortcut => report.sets.iter().any(|set| set.shortcut.is_some()),
        notes => serialized(notes::notes(report)),
        plots => context! {
            margins => serialized(figures::margins(report)),
            length => serialized(figures::length(report)),
            best_of_n => serialized(figures::best_of_n(report)),
            training => serialized(training::figures(report)),
        },
        thumbnails => serialized(thumbnails(report)),
        report => serialized(report),
    });
    page.context("report.html")
}

fn serialized(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(format);
    environment.add_filter("count", numbers::count);
    environment.add_filter("halves", numbers::halves);
    environment.add_filter("heat", numbers::heat);
    environment.add_filter("interval", numbers::interval);
    environment.add_filter("number", numbers::number);
    environment.add_filter("percent", numbers::percent);
    environment.add_filter("points", numbers::points);
    environment.add_template(NAME, TEMPLATE)?;
    Ok(environment)
}

/// Escapes as plots do.
fn format(output: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    let is_text = value.as_str().filter(|_| !value.is_safe());
    match is_text {
        Some(text) if *state.auto_escape() == AutoEscape::Html => {
            Ok(output.write_str(&escape(text))?)
        }
        _ => minijinja::escape_formatter(output, state, value),
    }
}

/// The name and bundle of each model.
fn models(report: &Report) -> Vec<(&'static str, String)> {
    let bundles = [
        (MODEL, Some(&report.model)),
        (TEXT_ONLY, report.text_only_model.as_ref()),
        (COMPARED, report.compare.as_ref()),
    ];
    let model = |(name, bundle): (_, Option<&std::path::PathBuf>)| {
        Some((name, bundle?.display().to_string()))
    };
    bundles.into_iter().filter_map(model).collect()
}

/// The set with the largest shortcut-failure degradation.
#[derive(Serialize)]
struct Largest<'a> {
    set: &'a str,
    sfd: f64,
}

fn largest_degradation(report: &Report) -> Option<Largest<'_>> {
    let sets = report.sets.iter();
    let sets = sets.filter_map(|set| Some((set.name.as_str(), set.shortcut?.sfd?)));
    let largest = sets.max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map(|(set, sfd)| Largest { set, sfd })
}

/// For each pair that is shown its images as JPEG files in base64; none for an image that cannot be read.
fn thumbnails(report: &Report) -> Vec<Vec<Option<String>>> {
    let encoded = |small: &Option<Vec<u8>>| small.as_ref().map(|jpeg| STANDARD.encode(jpeg));
    let pairs = report.disagreements.iter();
    pairs
        .map(|pair| pair.thumbnails.iter().map(encoded).collect())
        .collect()
}
