//! The plots of each set: margins, reliability, length, best of N.

use super::figure::{COMPARED, Figure, MODEL, TEXT_ONLY};
use super::numbers::{number, percent};
use crate::evaluate::metrics::best_of_n::Point;
use crate::evaluate::metrics::{BestOfN, Calibration, Length, Margins};
use crate::evaluate::plot::frame::{Axis, Frame};
use crate::evaluate::report::{ModelReport, Report, SetReport};

pub(super) fn margins(report: &Report) -> Vec<Figure> {
    let of_set = |set: &SetReport| {
        let margins = set.model.margins.as_ref();
        let histogram = margins.map(|margins| histogram(&set.name, margins));
        histogram.into_iter().chain([reliability(set)])
    };
    report.sets.iter().flat_map(of_set).collect()
}

fn histogram(name: &str, margins: &Margins) -> Figure {
    let most = margins.counts.iter().max().copied().unwrap_or(1) as f64;
    let (low, high) = (
        margins.borders[0],
        margins.borders[margins.borders.len() - 1],
    );
    let frame = Frame {
        x: Axis::round(low, high, 6, "margin"),
        y: Axis::round(0.0, most * 1.05, 4, "pairs"),
        title: format!("margins of {name}"),
    };
    let bars = margins.borders.windows(2).zip(&margins.counts);
    let bar = |(border, count): (&[f64], &usize)| {
        let class = if border[0] < 0.0 { "wrong" } else { "k0" };
        frame.bar((border[0], border[1]), *count as f64, class)
    };
    let marks = bars.map(bar).collect::<String>() + &frame.vertical(0.0, (0.0, frame.y.to), "zero");
    let median = margins
        .quantiles
        .iter()
        .find(|(share, _)| *share == 0.5)
        .map(|(_, margin)| *margin);
    let note = format!(
        "mean {}, median {}",
        number(Some(margins.mean), 2),
        number(median, 2)
    );
    Figure {
        title: format!("{name} · margins"),
        plot: frame.draw(&marks),
        legend: Vec::new(),
        note,
    }
}

fn reliability(set: &SetReport) -> Figure {
    let frame = Frame {
        x: Axis::percent(0.5, 1.0, 0.1, "σ(|margin|)"),
        y: Axis::percent(0.0, 1.0, 0.25, "ordered right"),
        title: format!("reliability on {}", set.name),
    };
    let mut marks = frame.line(&[(0.5, 0.5), (1.0, 1.0)], "ideal");
    let curves: Vec<(usize, &str, &Calibration)> = models(set)
        .filter_map(|(class, name, model)| Some((class, name, model.calibration.as_ref()?)))
        .collect();
    for (class, _, calibration) in curves.iter().rev() {
        marks += &curve(&frame, calibration, &format!("k{class}"));
    }
    let legend = curves
        .iter()
        .map(|(class, name, _)| (*class, (*name).to_owned()));
    let error = |(_, name, calibration): &(usize, &str, &Calibration)| {
        format!("{name} {}", percent(Some(calibration.ece)))
    };
    let errors: Vec<String> = curves.iter().map(error).collect();
    let note = format!("expected calibration error: {}", errors.join(", "));
    Figure {
        title: format!("{} · reliability", set.name),
        plot: frame.draw(&marks),
        legend: legend.collect(),
        note,
    }
}

fn curve(frame: &Frame, calibration: &Calibration, class: &str) -> String {
    let most = calibration
        .bins
        .iter()
        .map(|bin| bin.pairs)
        .max()
        .unwrap_or(1) as f64;
    let points: Vec<(f64, f64)> = calibration
        .bins
        .iter()
        .map(|bin| (bin.confidence, bin.accuracy))
        .collect();
    let mut marks = frame.line(&points, class);
    for bin in &calibration.bins {
        marks += &frame.vertical(bin.confidence, bin.interval, &format!("whisker {class}"));
        let radius = 2.0 + 4.0 * (bin.pairs as f64 / most).sqrt();
        marks += &frame.dot((bin.confidence, bin.accuracy), radius, class);
    }
    marks
}

pub(super) fn length(report: &Report) -> Vec<Figure> {
    let of_set = |set: &SetReport| (!set.model.length.bins.is_empty()).then(|| by_length(set));
    report.sets.iter().filter_map(of_set).collect()
}

fn by_length(set: &SetReport) -> Figure {
    let length = &set.model.length;
    let count = length.bins.len() as f64;
    let tick = |(at, bin): (usize, &crate::evaluate::metrics::length::LengthBin)| {
        (at as f64 + 0.5, difference(bin.from, bin.to))
    };
    let frame = Frame {
        x: Axis {
            from: 0.0,
            to: count,
            ticks: length.bins.iter().enumerate().map(tick).collect(),
            title: "← shorter · the better response, in characters · longer →",
        },
        y: Axis::percent(0.0, 1.0, 0.25, "ordered right"),
        title: format!("accuracy by length on {}", set.name),
    };
    let marks = bars(&frame, length) + &frame.line(&[(0.0, 0.5), (count, 0.5)], "ideal");
    let note = format!(
        "the rule “longer is better” is right on {} of the pairs; the model agrees with it on {} of the pairs",
        percent(length.length_only.accuracy),
        percent(length.agreement)
    );
    Figure {
        title: set.name.clone(),
        plot: frame.draw(&marks),
        legend: Vec::new(),
        note,
    }
}

fn bars(frame: &Frame, length: &Length) -> String {
    let mut marks = String::new();
    for (at, bin) in length.bins.iter().enumerate() {
        let (Some(accuracy), Some((low, high))) = (bin.accuracy.accuracy, bin.accuracy.interval)
        else {
            continue;
        };
        let at = at as f64;
        marks += &frame.bar((at + 0.14, at + 0.86), accuracy, "k0");
        marks += &frame.vertical(at + 0.5, (low, high), "whisker");
    }
    marks
}

/// A range of absolute differences: `256+`, `16–63`, `0`.
fn difference(from: Option<i64>, to: Option<i64>) -> String {
    match (from, to) {
        (Some(from), Some(to)) if from == to => from.abs().to_string(),
        (Some(from), Some(to)) => {
            let (least, most) = (from.abs().min(to.abs()), from.abs().max(to.abs()));
            format!("{least}–{most}")
        }
        (from, to) => from
            .or(to)
            .map_or(String::new(), |least| format!("{}+", least.abs())),
    }
}

pub(super) fn best_of_n(report: &Report) -> Vec<Figure> {
    let of_set = |set: &SetReport| Some(picks(set, set.best_of_n.as_ref()?));
    report.sets.iter().filter_map(of_set).collect()
}

fn picks(set: &SetReport, curve: &BestOfN) -> Figure {
    let frame = frame_of_picks(set, curve);
    let along = |value: &dyn Fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let point = |point: &Point| (point.n as f64, value(point));
        curve.points.iter().map(point).collect()
    };
    let mut marks = frame.line(&along(&|point| point.random), "ideal")
        + &frame.line(&along(&|point| point.oracle), "k3");
    let models: Vec<_> = models(set).enumerate().collect();
    for (at, (class, _, _)) in models.iter().rev() {
        marks += &frame.line(&along(&|point| point.picks[*at]), &format!("k{class}"));
    }
    let others = [(3, "best possible"), (4, "random")];
    let named = models.iter().map(|(_, (class, name, _))| (*class, *name));
    let legend = named.chain(others);
    Figure {
        title: set.name.clone(),
        plot: frame.draw(&marks),
        legend: legend
            .map(|(class, name)| (class, name.to_owned()))
            .collect(),
        note: rows_of_picks(&curve.points),
    }
}

fn frame_of_picks(set: &SetReport, curve: &BestOfN) -> Frame {
    let of_point = |point: &Point| {
        let bounds = [point.oracle, point.random];
        bounds.into_iter().chain(point.picks.clone())
    };
    let values: Vec<f64> = curve.points.iter().flat_map(of_point).collect();
    let low = values.iter().copied().fold(f64::MAX, f64::min);
    let high = values.iter().copied().fold(f64::MIN, f64::max);
    let room = 0.06 * (high - low).max(1e-9);
    Frame {
        x: Axis::round(1.0, curve.points.len() as f64, 7, "N"),
        y: Axis::round(low - room, high + room, 4, "rating"),
        title: format!("best of N on {}", set.name),
    }
}

/// The number of rows, from the first point to the last.
fn rows_of_picks(points: &[Point]) -> String {
    let n = points.len();
    match (points[0].rows, points[n - 1].rows) {
        (first, last) if first == last => format!("{first} rows"),
        (first, last) => format!("{first} rows at N = 1, {last} at N = {n}"),
    }
}

/// The models of a set with the index of their colour and their name.
fn models(set: &SetReport) -> impl Iterator<Item = (usize, &'static str, &ModelReport)> {
    let models = [
        Some((MODEL, &set.model)),
        set.text_only.as_ref().map(|model| (TEXT_ONLY, model)),
        set.compare.as_ref().map(|model| (COMPARED, model)),
    ];
    let models = models.into_iter().flatten().enumerate();
    models.map(|(class, (name, model))| (class, name, model))
}
