//! Accuracies as a picture of their own: groups of bars with confidence intervals, in SVG.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use seeward_models::atomic::replace_file;

use super::metrics::Accuracy;
use super::svg::escape;

/// Told apart by people who see no red or green (Okabe and Ito's palette).
const COLORS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#282828;text-anchor:middle}.title{font-size:19px;\
                     text-anchor:start}.left{text-anchor:start}.right{text-anchor:end}.grid{stroke:#e1e1e1}\
                     .chance{stroke:#969696;stroke-dasharray:6 5}.whisker{stroke:#282828;stroke-width:2}";
const HEIGHT: f64 = 440.0;
/// Left, right, top and bottom of the plane.
const MARGINS: [f64; 4] = [64.0, 150.0, 64.0, 44.0];
/// Width of a bar, and of the room between groups.
const BAR: f64 = 52.0;
const GAP: f64 = 34.0;

/// Bars in groups: one group for each model, say, and in it one bar for each test set.
#[derive(Clone, Debug, Default)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// Names of the bars of a group, for the legend.
    pub series: Vec<String>,
    /// A name and its bars; `None` leaves one out.
    pub groups: Vec<(String, Vec<Option<Accuracy>>)>,
}

impl BarChart {
    /// Draws it into the file `path`, on a ground of its own that suits light and dark pages.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(replace_file(path, self.svg().as_bytes())?)
    }

    /// The picture as SVG.
    pub fn svg(&self) -> String {
        let [left, right, _, _] = MARGINS;
        let width = left + self.groups.len() as f64 * self.group() + right;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{HEIGHT}\" viewBox=\"0 0 {width} \
             {HEIGHT}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>\n\
             <text class=\"title\" x=\"24\" y=\"34\">{}</text>\n",
            escape(&self.title)
        );
        svg += &scale(width - right);
        for (at, (name, bars)) in self.groups.iter().enumerate() {
            svg += &self.draw_group(left + at as f64 * self.group(), name, bars);
        }
        svg + &self.legend(width - right + 20.0) + "</svg>\n"
    }

    /// Width of a group.
    fn group(&self) -> f64 {
        self.series.len() as f64 * BAR + GAP
    }

    fn draw_group(&self, left: f64, name: &str, bars: &[Option<Accuracy>]) -> String {
        let (middle, below) = (left + self.group() / 2.0, HEIGHT - MARGINS[3] + 24.0);
        let mut svg = format!(
            "<text x=\"{middle}\" y=\"{below}\">{}</text>\n",
            escape(name)
        );
        for (at, accuracy) in bars.iter().enumerate() {
            let left = left + GAP / 2.0 + at as f64 * BAR;
            svg += &accuracy
                .and_then(|a| bar(left, COLORS[at % COLORS.len()], a))
                .unwrap_or_default();
        }
        svg
    }

    fn legend(&self, left: f64) -> String {
        let mut svg = String::new();
        for (at, name) in self.series.iter().enumerate() {
            let (y, color) = (MARGINS[2] + 22.0 * at as f64, COLORS[at % COLORS.len()]);
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{y}\" width=\"13\" height=\"13\" rx=\"3\" fill=\"{color}\"/>\
                 <text class=\"left\" x=\"{}\" y=\"{}\">{}</text>",
                left + 20.0,
                y + 11.0,
                escape(name)
            );
        }
        svg
    }
}

/// The scale, and a dashed line where a model that guesses would be.
fn scale(right: f64) -> String {
    let mut svg = String::new();
    for tenth in 0..=10 {
        let share = f64::from(tenth) / 10.0;
        let class = if tenth == 5 { "chance" } else { "grid" };
        let (left, y) = (MARGINS[0], height(share));
        let _ = writeln!(
            svg,
            "<path class=\"{class}\" d=\"M{left} {y:.1}H{right}\"/><text class=\"right\" x=\"{}\" y=\"{:.1}\">{tenth}0 %</text>",
            left - 8.0,
            y + 4.5
        );
    }
    svg.replace(">00 %<", ">0 %<")
}

fn height(share: f64) -> f64 {
    let [_, _, top, bottom] = MARGINS;
    HEIGHT - bottom - share * (HEIGHT - top - bottom)
}

/// `None` without pairs.
fn bar(left: f64, color: &str, accuracy: Accuracy) -> Option<String> {
    let (share, (low, high)) = (accuracy.share()?, accuracy.interval()?);
    let (top, middle, width) = (height(share), left + 0.47 * BAR, 0.94 * BAR);
    Some(format!(
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\
         <path class=\"whisker\" d=\"M{middle:.1} {:.1}V{:.1}\"/><text x=\"{middle:.1}\" y=\"{:.1}\">{:.1}</text>\n",
        height(0.0) - top,
        height(low),
        height(high),
        height(high) - 6.0,
        100.0 * share
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_groups_series_and_values() {
        let accuracy = |right, pairs| Some(Accuracy { right, pairs });
        let chart = BarChart {
            title: "Accuracy".into(),
            series: vec!["i.i.d.".into(), "o.o.d.".into()],
            groups: vec![
                (
                    "standard".into(),
                    vec![accuracy(94.0, 100), accuracy(71.0, 100)],
                ),
                ("text-only".into(), vec![accuracy(90.0, 100), None]),
            ],
        };
        let svg = chart.svg();
        for text in [
            "Accuracy",
            "i.i.d.",
            "o.o.d.",
            "standard",
            "text-only",
            "94.0",
            "71.0",
            "90.0",
        ] {
            assert!(svg.contains(&format!(">{text}</text>")), "no {text}");
        }
        assert_eq!(svg.matches("class=\"whisker\"").count(), 3);
    }
}
