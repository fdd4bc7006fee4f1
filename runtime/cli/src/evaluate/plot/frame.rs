//! Plots of the report's page: a frame with axes, and marks inside. Colours are CSS classes of the page.

use super::plane::{Plane, Span};
use super::svg::{Tenths, element, escape, text};

/// Width and height in the plot's units; the page scales it to the width of its column.
const SIZE: (f64, f64) = (360.0, 232.0);
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [44.0, 12.0, 22.0, 38.0];

/// The axes of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// A description for screen readers.
    pub(crate) title: String,
}

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Values and labels.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) title: &'static str,
}

impl Axis {
    /// From `from` to `to`, with about `count` ticks at round numbers.
    pub(crate) fn round(from: f64, to: f64, count: usize, title: &'static str) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let step = round_step((to - from) / count as f64);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = (
            (from / step).ceil() as i64,
            (to / step + 1e-9).floor() as i64,
        );
        let tick = |at: i64| {
            let value = at as f64 * step;
            (value, format!("{value:.digits$}").replace('-', "−"))
        };
        Self {
            from,
            to,
            ticks: (first..=last).map(tick).collect(),
            title,
        }
    }

    /// Shares, in percent.
    pub(crate) fn percent(from: f64, to: f64, step: f64, title: &'static str) -> Self {
        let (first, last) = ((from / step).round() as i64, (to / step).round() as i64);
        let tick = |at: i64| {
            (
                at as f64 * step,
                format!("{:.0} %", 100.0 * at as f64 * step),
            )
        };
        Self {
            from,
            to,
            ticks: (first..=last).map(tick).collect(),
            title,
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

impl Frame {
    fn plane(&self) -> Plane {
        let [left, right, top, bottom] = MARGINS;
        let span = |axis: &Axis, places| Span {
            values: (axis.from, axis.to),
            places,
        };
        Plane {
            x: span(&self.x, (left, SIZE.0 - right)),
            y: span(&self.y, (SIZE.1 - bottom, top)),
        }
    }

    /// The plot with `marks` inside.
    pub(crate) fn draw(&self, marks: &str) -> String {
        let (width, height) = SIZE;
        let title = escape(&self.title);
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">{}{}{}{marks}</svg>\n",
            self.y_ticks(),
            self.x_ticks(),
            self.titles()
        )
    }

    fn y_ticks(&self) -> String {
        let Span {
            places: (left, right),
            ..
        } = self.plane().x;
        let tick = |(value, label): &(f64, String)| {
            let y = self.plane().y.at(*value);
            let line = format!("M{left} {y:.1}H{right}");
            let label = text(
                &[
                    ("class", &"tick end"),
                    ("x", &Tenths(left - 6.0)),
                    ("y", &Tenths(y + 3.5)),
                ],
                label,
            );
            element("path", &[("class", &"grid"), ("d", &line)]) + &label
        };
        self.y.ticks.iter().map(tick).collect()
    }

    fn x_ticks(&self) -> String {
        let class = match self.x.ticks.len() > 7 {
            true => "tick many",
            false => "tick",
        };
        let (base, _) = self.plane().y.places;
        let y = Tenths(base + 14.0);
        let tick = |(value, label): &(f64, String)| {
            let x = Tenths(self.plane().x.at(*value));
            text(&[("class", &class), ("x", &x), ("y", &y)], label)
        };
        self.x.ticks.iter().map(tick).collect()
    }

    /// The horizontal axis, and the titles of both.
    fn titles(&self) -> String {
        let Plane { x, y } = self.plane();
        let ((left, right), (base, _)) = (x.places, y.places);
        let axis = format!("M{left} {base}H{right}");
        let (middle, below) = (Tenths((left + right) / 2.0), Tenths(SIZE.1 - 5.0));
        element("path", &[("class", &"axis"), ("d", &axis)])
            + &text(
                &[("class", &"label"), ("x", &middle), ("y", &below)],
                self.x.title,
            )
            + &text(
                &[("class", &"label start"), ("x", &0), ("y", &9)],
                self.y.title,
            )
    }

    /// A line through the points.
    pub(crate) fn line(&self, points: &[(f64, f64)], class: &str) -> String {
        let class = format!("line {class}");
        let points = self.plane().points(points.iter());
        element("polyline", &[("class", &class), ("points", &points)])
    }

    /// The area between two lines.
    pub(crate) fn band(&self, low: &[(f64, f64)], high: &[(f64, f64)], class: &str) -> String {
        let class = format!("band {class}");
        let points = self.plane().points_between(low, high);
        element("polygon", &[("class", &class), ("points", &points)])
    }

    /// A dot.
    pub(crate) fn dot(&self, (x, y): (f64, f64), radius: f64, class: &str) -> String {
        let (plane, class) = (self.plane(), format!("dot {class}"));
        let (x, y) = (Tenths(plane.x.at(x)), Tenths(plane.y.at(y)));
        let radius = Tenths(radius);
        element(
            "circle",
            &[("class", &class), ("cx", &x), ("cy", &y), ("r", &radius)],
        )
    }

    /// A bar from zero to `y` between two values of the x axis.
    pub(crate) fn bar(&self, (from, to): (f64, f64), y: f64, class: &str) -> String {
        let (plane, class) = (self.plane(), format!("bar {class}"));
        let (left, right) = (plane.x.at(from), plane.x.at(to));
        let (zero, end) = (plane.y.at(self.y.from.max(0.0)), plane.y.at(y));
        element(
            "rect",
            &[
                ("class", &class),
                ("x", &Tenths(left)),
                ("y", &Tenths(end.min(zero))),
                ("width", &Tenths((right - left).max(0.5))),
                ("height", &Tenths((zero - end).abs())),
            ],
        )
    }

    /// A vertical line, such as an interval.
    pub(crate) fn vertical(&self, x: f64, (low, high): (f64, f64), class: &str) -> String {
        let Plane { x: across, y } = self.plane();
        let (x, low, high) = (across.at(x), y.at(low), y.at(high));
        let line = format!("M{x:.1} {low:.1}V{high:.1}");
        element("path", &[("class", &class), ("d", &line)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |from, to| {
            let axis = Axis::round(from, to, 4, "");
            axis.ticks
                .into_iter()
                .map(|(_, text)| text)
                .collect::<Vec<_>>()
        };
        assert_eq!(ticks(0.0, 1.0), ["0.0", "0.5", "1.0"]);
        assert_eq!(ticks(-3.1, 8.0), ["0", "5"]);
        assert_eq!(ticks(0.0, 320.0), ["0", "100", "200", "300"]);
        assert_eq!(ticks(0.3, 0.3), ["0.5", "1.0"]);
    }
}
