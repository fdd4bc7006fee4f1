//! The map from values to coordinates.

use super::svg::Tenths;

/// A linear map from values to coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The values at both ends.
    pub values: (f64, f64),
    /// The coordinates at both ends.
    pub places: (f64, f64),
}

impl Span {
    /// Shares from 0 to 1.
    pub fn of_shares(places: (f64, f64)) -> Self {
        Self {
            values: (0.0, 1.0),
            places,
        }
    }

    /// The coordinate of `value`.
    pub fn at(&self, value: f64) -> f64 {
        let ((from, to), (start, end)) = (self.values, self.places);
        start + (value - from) / (to - from) * (end - start)
    }
}

/// A horizontal and a vertical axis.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// From left to right.
    pub x: Span,
    /// From bottom to top.
    pub y: Span,
}

impl Plane {
    /// The `points` attribute of a polyline or polygon. Points that are not finite are skipped.
    pub fn points<'a>(&self, points: impl Iterator<Item = &'a (f64, f64)>) -> String {
        let points = points.filter(|(x, y)| x.is_finite() && y.is_finite());
        let place = |(x, y): &(f64, f64)| {
            let (x, y) = (Tenths(self.x.at(*x)), Tenths(self.y.at(*y)));
            format!("{x},{y}")
        };
        points.map(place).collect::<Vec<_>>().join(" ")
    }

    /// The `points` attribute of the polygon between two lines.
    pub fn points_between(&self, low: &[(f64, f64)], high: &[(f64, f64)]) -> String {
        self.points(low.iter().chain(high.iter().rev()))
    }
}
