//! Nonlinearities of f32 values, written so that compilers vectorize them.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

/// x · Φ(x) with an error below 1e-6, by approximation 7.1.26 of erf in Abramowitz and Stegun, "Handbook of Mathematical
/// Functions" (1964).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    const P: f32 = 0.327_591_1;
    const POWERS: [f32; 5] = [
        0.254_829_6,
        -0.284_496_74,
        1.421_413_7,
        -1.453_152,
        1.061_405_4,
    ];
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + P * z);
    let tail = 0.5 * t * polynomial(t, &POWERS) * exp2(-LOG2_E * z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// x · sigmoid(x) with a relative error below 1e-6.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp2(-LOG2_E * x))
}

#[inline(always)]
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    let reversed = coefficients.iter().rev();
    reversed.fold(0.0_f32, |sum, coefficient| sum.mul_add(x, *coefficient))
}

/// Rounds by being added: the last bits of its sum with a value of a magnitude below 2²² are the nearest integer, ties to even.
pub(crate) const ROUNDER: f32 = 1.5 * (1 << 23) as f32;
/// Coefficients of 2^x around 0: powers of ln 2 divided by factorials.
pub(crate) const EXP2: [f32; 7] = [
    1.0,
    LN_2,
    0.240_226_5,
    0.055_504_11,
    0.009_618_129,
    0.001_333_355_8,
    0.000_154_035_3,
];

/// 2 to the power of x, with x clamped to −126 and 127.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let x = if x < 127.0 { x } else { 127.0 };
    let rounded = x + ROUNDER;
    let power = polynomial(x - (rounded - ROUNDER), &EXP2);
    f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> impl Iterator<Item = f32> {
        (-12_000..=12_000).map(|n| n as f32 / 1000.0)
    }

    /// erf by its Taylor series, in f64.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_the_exact_one() {
        for x in values().filter(|x| x.abs() < 5.5) {
            let wide = f64::from(x);
            let expected = 0.5 * wide * (1.0 + erf(wide / std::f64::consts::SQRT_2));
            assert!((f64::from(gelu(x)) - expected).abs() < 1e-6, "{x}");
        }
        assert!(gelu(-12.0).abs() < 1e-9 && gelu(12.0) == 12.0 && gelu(0.0) == 0.0);
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_a_value_times_its_sigmoid() {
        for x in values().chain([-100.0, 100.0, -1e30, 1e30]) {
            let wide = f64::from(x);
            let expected = wide / (1.0 + (-wide).exp());
            let differs = (f64::from(silu(x)) - expected).abs();
            assert!(differs <= 1e-6 * expected.abs() + 1e-7, "{x}: {differs}");
        }
        assert!(silu(f32::NAN).is_nan());
    }
}
