//! The one comparison of floats: the largest absolute and relative differences, and where they are.

/// How far a value may be from what is expected: `absolute + relative · |expected|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Allowed at any size.
    pub absolute: f64,
    /// Allowed in proportion to the expected value.
    pub relative: f64,
}

impl Tolerance {
    /// For rewards: `scale · max(1, |expected|)`, the form in which the golden set states it.
    pub fn reward(scale: f64, expected: f64) -> Self {
        Self {
            absolute: scale * expected.abs().max(1.0),
            relative: 0.0,
        }
    }
}

/// Compares `got` with `expected`, element by element.
///
/// # Panics
/// When the lengths differ, or a value on either side is not finite or too far off: the message says which and by how much.
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: Tolerance) {
    assert_eq!(
        got.len(),
        expected.len(),
        "{what}: {} values for {}",
        got.len(),
        expected.len()
    );
    let allowed = |e: f64| tolerance.absolute + tolerance.relative * e.abs();
    let excess = |&(_, (g, e)): &(usize, (&f64, &f64))| {
        if g.is_finite() && e.is_finite() {
            (g - e).abs() / allowed(*e)
        } else {
            f64::INFINITY
        }
    };
    let worst = got
        .iter()
        .zip(expected)
        .enumerate()
        .max_by(|a, b| excess(a).total_cmp(&excess(b)));
    if let Some(worst) = worst.filter(|pair| excess(pair) > 1.0) {
        let (index, (g, e)) = worst;
        let difference = (g - e).abs();
        panic!(
            "{what}[{index}]: got {g}, expected {e}: off by {difference:.3e} ({:.3e} relative), allowed {:.3e}",
            difference / e.abs(),
            allowed(*e)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance {
        absolute: 1e-9,
        relative: 0.0,
    };

    #[test]
    fn equal_values_pass() {
        assert_close("x", &[1.0, 2.0], &[1.0, 2.0], EXACT);
    }

    #[test]
    #[should_panic(expected = "x[1]: got 2.5, expected 2")]
    fn the_worst_is_named() {
        assert_close("x", &[1.0, 2.5], &[1.0, 2.0], EXACT);
    }

    #[test]
    #[should_panic(expected = "got NaN")]
    fn a_nan_is_never_close() {
        assert_close("x", &[f64::NAN], &[1.0], EXACT);
    }

    #[test]
    #[should_panic(expected = "expected NaN")]
    fn nor_is_anything_close_to_a_nan() {
        assert_close("x", &[1.0, 1.0], &[1.0, f64::NAN], EXACT);
    }
}
