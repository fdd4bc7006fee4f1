//! Accuracies as a picture: groups of bars with confidence intervals, in SVG.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use seeward_models::folder::replace_file;

use super::metrics::Accuracy;

/// Told apart by people who see no red or green (Okabe and Ito's palette).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// The line of a model that guesses.
const CHANCE: RGBColor = RGBColor(150, 150, 150);
/// Width of a group; its bars share most of it.
const GROUP: f64 = 1.0;
const BARS: f64 = 0.8;
/// Room for the legend, right of the last group.
const LEGEND: f64 = 0.6;
/// Room for the values above the highest bars.
const TOP: f64 = 1.08;

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
        let svg = self.svg().with_context(|| path.display().to_string())?;
        Ok(replace_file(path, svg.as_bytes())?)
    }

    /// The picture as SVG.
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, self.size()).into_drawing_area();
        // The drawing errors of plotters hold the backend, which is borrowed here.
        self.draw(&area).map_err(|e| anyhow!("drawing: {e}"))?;
        drop(area);
        Ok(svg)
    }

    fn size(&self) -> (u32, u32) {
        let bars = self.groups.len() * self.series.len();
        (240 + 56 * bars.clamp(8, 60) as u32, 480)
    }

    fn draw(&self, area: &Area) -> Result<(), Failure> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, font(22))
            .margin(16)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..self.right(), 0.0..TOP)?;
        self.draw_scale(&mut chart)?;
        for (at, name) in self.series.iter().enumerate() {
            self.draw_series(&mut chart, at, name)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE)
            .border_style(GRID)
            .label_font(font(15))
            .draw()?;
        self.draw_names(area, &chart)
    }

    fn right(&self) -> f64 {
        self.groups.len() as f64 * GROUP + LEGEND
    }

    /// The scale, and a dashed line where a model that guesses would be.
    fn draw_scale(&self, chart: &mut Chart) -> Result<(), Failure> {
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .y_labels(11)
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .label_style(font(15))
            .axis_style(INK)
            .draw()?;
        let chance = [(0.0, 0.5), (self.right(), 0.5)];
        chart.draw_series(DashedLineSeries::new(chance, 6, 5, CHANCE.into()))?;
        Ok(())
    }

    fn draw_series(&self, chart: &mut Chart, at: usize, name: &str) -> Result<(), Failure> {
        let color = COLORS[at % COLORS.len()].filled();
        let sample = move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], color);
        let bars = self.bars(at);
        let bodies = chart.draw_series(bars.iter().map(|bar| bar.body(color)))?;
        bodies.label(name).legend(sample);
        chart.draw_series(bars.iter().map(Bar::whisker))?;
        chart.draw_series(bars.iter().map(Bar::value))?;
        Ok(())
    }

    fn bars(&self, series: usize) -> Vec<Bar> {
        let width = BARS / self.series.len() as f64;
        let bar = |(group, (_, bars)): (usize, &(String, Vec<Option<Accuracy>>))| {
            let accuracy = (*bars.get(series)?)?;
            let left = group as f64 * GROUP + (GROUP - BARS) / 2.0 + series as f64 * width;
            Some(Bar {
                left,
                width,
                share: accuracy.share()?,
                interval: accuracy.interval()?,
            })
        };
        self.groups.iter().enumerate().filter_map(bar).collect()
    }

    fn draw_names(&self, area: &Area, chart: &Chart) -> Result<(), Failure> {
        let style = font(16).pos(Pos::new(HPos::Center, VPos::Top));
        for (group, (name, _)) in self.groups.iter().enumerate() {
            let (x, y) = chart.backend_coord(&((group as f64 + 0.5) * GROUP, 0.0));
            area.draw(&Text::new(name.clone(), (x, y + 10), style.clone()))?;
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plane =
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Plane>;
type Failure = DrawingAreaErrorKind<std::io::Error>;

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// One bar in the chart's coordinates.
struct Bar {
    left: f64,
    width: f64,
    share: f64,
    interval: (f64, f64),
}

impl Bar {
    fn body(&self, color: ShapeStyle) -> Rectangle<(f64, f64)> {
        let right = self.left + 0.94 * self.width;
        Rectangle::new([(self.left, 0.0), (right, self.share)], color)
    }

    fn whisker(&self) -> PathElement<(f64, f64)> {
        let (low, high) = self.interval;
        PathElement::new(
            [(self.middle(), low), (self.middle(), high)],
            INK.stroke_width(2),
        )
    }

    fn value(&self) -> Text<'static, (f64, f64), String> {
        let style = font(13).pos(Pos::new(HPos::Center, VPos::Bottom));
        let above = (self.middle(), self.interval.1 + 0.01);
        Text::new(format!("{:.1}", 100.0 * self.share), above, style)
    }

    fn middle(&self) -> f64 {
        self.left + 0.47 * self.width
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
        let svg = chart.svg().unwrap();
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
            assert!(svg.contains(&format!("\n{text}\n")), "no {text}");
        }
        assert_eq!(svg, chart.svg().unwrap());
    }
}
