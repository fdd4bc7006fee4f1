//! Accuracies as an SVG document: groups of bars with confidence intervals.

use std::path::Path;

use anyhow::Result;
use seeward_models::atomic::replace_file;

use super::plane::Span;
use super::svg::{Document, PALETTE, Tenths, element, text};
use crate::evaluate::metrics::Accuracy;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#282828;text-anchor:middle}.title{font-size:19px;\
                     text-anchor:start}.left{text-anchor:start}.right{text-anchor:end}.grid{stroke:#e1e1e1}\
                     .chance{stroke:#969696;stroke-dasharray:6 5}.whisker{stroke:#282828;stroke-width:2}";
const HEIGHT: f64 = 440.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [64.0, 150.0, 64.0, 44.0];
/// Widths of a bar and of the gap between groups.
const BAR: f64 = 52.0;
const GAP: f64 = 34.0;

/// Bars in groups: for example one group per model, with one bar per test set.
#[derive(Clone, Debug, Default)]
pub struct BarChart {
    /// The title.
    pub title: String,
    /// Names of the bars of a group, for the legend.
    pub series: Vec<String>,
    /// Names and bars; `None` is a gap.
    pub groups: Vec<(String, Vec<Option<Accuracy>>)>,
}

impl BarChart {
    /// Writes the chart to the file `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(replace_file(path, self.svg().as_bytes())?)
    }

    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let [left, right, _, _] = MARGINS;
        let width = left + self.groups.len() as f64 * self.group_width() + right;
        let document = Document {
            title: &self.title,
            title_at: (24.0, 34.0),
            size: (width, HEIGHT),
            style: STYLE,
        };
        let mut marks = scale(width - right);
        for (at, (name, bars)) in self.groups.iter().enumerate() {
            marks += &self.group(left + at as f64 * self.group_width(), name, bars);
        }
        document.draw(&(marks + &self.legend(width - right + 20.0)))
    }

    fn group_width(&self) -> f64 {
        self.series.len() as f64 * BAR + GAP
    }

    fn group(&self, left: f64, name: &str, bars: &[Option<Accuracy>]) -> String {
        let (middle, below) = (left + self.group_width() / 2.0, HEIGHT - MARGINS[3] + 24.0);
        let mut group = text(&[("x", &middle), ("y", &below)], name) + "\n";
        for (at, accuracy) in bars.iter().enumerate() {
            let left = left + GAP / 2.0 + at as f64 * BAR;
            let bar = accuracy.and_then(|accuracy| bar(left, color(at), accuracy));
            group += &bar.unwrap_or_default();
        }
        group
    }

    fn legend(&self, left: f64) -> String {
        let entry = |(at, name): (usize, &String)| {
            let y = MARGINS[2] + 22.0 * at as f64;
            let key = element(
                "rect",
                &[
                    ("x", &left),
                    ("y", &y),
                    ("width", &13),
                    ("height", &13),
                    ("rx", &3),
                    ("fill", &color(at)),
                ],
            );
            let (x, y) = (left + 20.0, y + 11.0);
            key + &text(&[("class", &"left"), ("x", &x), ("y", &y)], name) + "\n"
        };
        self.series.iter().enumerate().map(entry).collect()
    }
}

fn color(series: usize) -> &'static str {
    PALETTE[series % PALETTE.len()]
}

/// Grid lines from 0 to 100 %, with a dashed line at chance.
fn scale(right: f64) -> String {
    let line = |tenth: i32| {
        let class = if tenth == 5 { "chance" } else { "grid" };
        let (left, y) = (MARGINS[0], height(f64::from(tenth) / 10.0));
        let line = format!("M{left} {y:.1}H{right}");
        let label = text(
            &[
                ("class", &"right"),
                ("x", &(left - 8.0)),
                ("y", &Tenths(y + 4.5)),
            ],
            &format!("{} %", 10 * tenth),
        );
        element("path", &[("class", &class), ("d", &line)]) + &label + "\n"
    };
    (0..=10).map(line).collect()
}

/// The vertical coordinate of a share.
fn height(share: f64) -> f64 {
    let [_, _, top, bottom] = MARGINS;
    Span::of_shares((HEIGHT - bottom, top)).at(share)
}

/// A bar with its interval and value; `None` without pairs.
fn bar(left: f64, color: &str, accuracy: Accuracy) -> Option<String> {
    let (share, (low, high)) = (accuracy.share()?, accuracy.interval()?);
    let (top, middle) = (height(share), left + 0.47 * BAR);
    let (low, high) = (height(low), height(high));
    let bar = element(
        "rect",
        &[
            ("x", &Tenths(left)),
            ("y", &Tenths(top)),
            ("width", &Tenths(0.94 * BAR)),
            ("height", &Tenths(height(0.0) - top)),
            ("fill", &color),
        ],
    );
    let whisker = format!("M{middle:.1} {low:.1}V{high:.1}");
    let whisker = element("path", &[("class", &"whisker"), ("d", &whisker)]);
    let value = text(
        &[("x", &Tenths(middle)), ("y", &Tenths(high - 6.0))],
        &format!("{:.1}", 100.0 * share),
    );
    Some(bar + &whisker + &value + "\n")
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
