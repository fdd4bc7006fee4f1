//! Drawings in SVG: a frame with axes, and marks in it. Colours are CSS classes of the page that holds the drawing.

use std::fmt::Write;

/// Width and height in the drawing's own units; it is shown as wide as its place.
const SIZE: (f64, f64) = (360.0, 232.0);
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [44.0, 12.0, 22.0, 38.0];

/// The plane of a drawing: what its axes span and how they are labelled.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// What the drawing shows, for those who hear it.
    pub(super) title: String,
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Where and what.
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: &'static str,
}

impl Axis {
    /// From `from` to `to`, with about `count` ticks at round numbers.
    pub(super) fn round(from: f64, to: f64, count: usize, title: &'static str) -> Self {
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
    pub(super) fn percent(from: f64, to: f64, step: f64, title: &'static str) -> Self {
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
    fn px(&self, x: f64) -> f64 {
        let [left, right, _, _] = MARGINS;
        left + (x - self.x.from) / (self.x.to - self.x.from) * (SIZE.0 - left - right)
    }

    fn py(&self, y: f64) -> f64 {
        let [_, _, top, bottom] = MARGINS;
        SIZE.1 - bottom - (y - self.y.from) / (self.y.to - self.y.from) * (SIZE.1 - top - bottom)
    }

    /// The drawing with these marks in it.
    pub(super) fn draw(&self, marks: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}{marks}</svg>\n",
            SIZE.0,
            SIZE.1,
            escape(&self.title),
            self.axes()
        )
    }

    fn axes(&self) -> String {
        let [left, right, _, bottom] = MARGINS;
        let (end, base) = (SIZE.0 - right, SIZE.1 - bottom);
        let mut axes = String::new();
        for (y, text) in &self.y.ticks {
            let y = self.py(*y);
            let _ = write!(
                axes,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{end}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                left - 6.0,
                y + 3.5
            );
        }
        let class = if self.x.ticks.len() > 7 {
            "tick many"
        } else {
            "tick"
        };
        for (x, text) in &self.x.ticks {
            let x = self.px(*x);
            let _ = write!(
                axes,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
                base + 14.0
            );
        }
        let _ = write!(
            axes,
            "<path class=\"axis\" d=\"M{left} {base}H{end}\"/><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"label start\" x=\"0\" y=\"9\">{}</text>",
            (left + end) / 2.0,
            SIZE.1 - 5.0,
            self.x.title,
            self.y.title
        );
        axes
    }

    /// A line through the points.
    pub(super) fn line(&self, points: &[(f64, f64)], class: &str) -> String {
        let places = self.places(points.iter());
        format!("<polyline class=\"line {class}\" points=\"{places}\"/>")
    }

    /// What lies between two lines.
    pub(super) fn band(&self, low: &[(f64, f64)], high: &[(f64, f64)], class: &str) -> String {
        let places = self.places(low.iter().chain(high.iter().rev()));
        format!("<polygon class=\"band {class}\" points=\"{places}\"/>")
    }

    fn places<'a>(&self, points: impl Iterator<Item = &'a (f64, f64)>) -> String {
        let points = points.filter(|(x, y)| x.is_finite() && y.is_finite());
        let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", self.px(*x), self.py(*y));
        points.map(place).collect::<Vec<_>>().join(" ")
    }

    /// A dot at each point, as large as `radius` says.
    pub(super) fn dot(&self, (x, y): (f64, f64), radius: f64, class: &str) -> String {
        let (x, y) = (self.px(x), self.py(y));
        format!("<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>")
    }

    /// A bar from zero to `y` between two places of the x axis.
    pub(super) fn bar(&self, (from, to): (f64, f64), y: f64, class: &str) -> String {
        let (left, right) = (self.px(from), self.px(to));
        let (zero, end) = (self.py(self.y.from.max(0.0)), self.py(y));
        format!(
            "<rect class=\"bar {class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            end.min(zero),
            (right - left).max(0.5),
            (zero - end).abs()
        )
    }

    /// An upright line, such as an interval.
    pub(super) fn upright(&self, x: f64, (low, high): (f64, f64), class: &str) -> String {
        let x = self.px(x);
        format!(
            "<path class=\"{class}\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
            self.py(low),
            self.py(high)
        )
    }
}

/// Text as HTML and SVG have it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
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

    #[test]
    fn what_users_write_is_no_markup() {
        assert_eq!(
            escape("<img src=\"x\"> & é"),
            "&lt;img src=&quot;x&quot;&gt; &amp; é"
        );
    }
}
