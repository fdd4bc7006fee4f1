//! The curves of training: loss, accuracy, shortcut-failure coefficient.

use super::figure::Figure;
use crate::evaluate::plot::frame::{Axis, Frame};
use crate::evaluate::report::Report;
use crate::evaluate::training::Training;

/// Maximum number of curves in one plot: the number of colours.
const MOST: usize = 5;

/// A plot of some of the curves.
struct Plot<'a> {
    title: &'static str,
    /// Whether the values are from 0 to 1.
    is_share: bool,
    curves: Vec<Curve<'a>>,
    /// Lower and upper curve of a band.
    band: Option<(Points<'a>, Points<'a>)>,
}

/// Steps and values.
type Points<'a> = &'a [(f64, f64)];
type Curve<'a> = (&'a str, Points<'a>);

pub(super) fn figures(report: &Report) -> Vec<Figure> {
    let Some(training) = &report.training else {
        return Vec::new();
    };
    let all = [
        losses(training),
        accuracies(training),
        coefficients(training),
    ];
    all.iter().filter_map(figure).collect()
}

fn losses(training: &Training) -> Plot<'_> {
    Plot {
        title: "loss",
        is_share: false,
        curves: named(training, |name| name.starts_with("loss")),
        band: None,
    }
}

fn accuracies(training: &Training) -> Plot<'_> {
    Plot {
        title: "accuracy",
        is_share: true,
        curves: named(training, is_accuracy),
        band: None,
    }
}

fn coefficients(training: &Training) -> Plot<'_> {
    let curve = |name: &str| training.curves.get(name).map(Vec::as_slice);
    Plot {
        title: "shortcut-failure coefficient",
        is_share: true,
        curves: named(training, |name| matches!(name, "sfc_mean" | "sfc_p50")),
        band: curve("sfc_p10").zip(curve("sfc_p90")),
    }
}

fn named(training: &Training, is_wanted: impl Fn(&str) -> bool) -> Vec<Curve<'_>> {
    let curves = training.curves.iter().filter(|(name, _)| is_wanted(name));
    curves
        .map(|(name, points)| (name.as_str(), points.as_slice()))
        .take(MOST)
        .collect()
}

fn is_accuracy(name: &str) -> bool {
    name.starts_with("accuracy") || name.ends_with(".accuracy")
}

fn figure(plot: &Plot) -> Option<Figure> {
    let Plot { title, curves, .. } = plot;
    let points = || curves.iter().flat_map(|(_, points)| points.iter());
    let last = points().map(|(step, _)| *step).reduce(f64::max)?;
    let most = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let frame = Frame {
        x: Axis::round(0.0, last, 5, "step"),
        y: match plot.is_share {
            true => Axis::round(0.0, 1.0, 4, ""),
            false => Axis::round(0.0, most * 1.05, 4, ""),
        },
        title: (*title).to_owned(),
    };
    let band = plot.band.map(|(low, high)| frame.band(low, high, "k0"));
    let mut marks = band.unwrap_or_default();
    for (class, (_, points)) in curves.iter().enumerate().rev() {
        marks += &frame.line(points, &format!("k{class}"));
        if let [only] = points {
            marks += &frame.dot(*only, 3.0, &format!("k{class}"));
        }
    }
    let names = curves.iter().map(|(name, _)| (*name).to_owned());
    let note = match plot.band {
        Some(_) => "the band holds the middle 80 % of a step’s pairs",
        None => "",
    };
    Some(Figure {
        title: (*title).to_owned(),
        plot: frame.draw(&marks),
        legend: names.enumerate().collect(),
        note: note.to_owned(),
    })
}
