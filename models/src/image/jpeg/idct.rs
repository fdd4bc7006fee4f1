//! The inverse transform: the accurate integer one of the Independent JPEG Group, in the widths of libjpeg-turbo's vector
//! code, so that values that no encoder writes come out the same too.

use std::ops::{Add, Mul, Sub};

use multiversion::multiversion;

use super::tables::Block;

/// Eight values, one for each row or column.
#[derive(Clone, Copy)]
struct Lanes([i32; 8]);

// Loops, because closures given to the library's functions are compiled without the wider instructions.
impl Lanes {
    #[inline(always)]
    fn with(mut self, other: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = f(*lane, other);
        }
        self
    }

    #[inline(always)]
    fn map(mut self, f: impl Fn(i32) -> i32) -> Self {
        for lane in &mut self.0 {
            *lane = f(*lane);
        }
        self
    }

    /// The lowest 16 bits, as a signed number.
    #[inline(always)]
    fn wrapped(self) -> Self {
        self.map(|lane| i32::from(lane as i16))
    }

    /// Rounded to `shift` fewer bits, and limited.
    #[inline(always)]
    fn descaled(self, shift: u32, least: i32, most: i32) -> Self {
        let half = 1 << (shift - 1);
        self.map(|lane| (lane.wrapping_add(half) >> shift).clamp(least, most))
    }
}

impl Add for Lanes {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, i32::wrapping_add)
    }
}

impl Sub for Lanes {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, i32::wrapping_sub)
    }
}

/// By a constant of 13 fractional bits.
impl Mul<i32> for Lanes {
    type Output = Self;
    #[inline(always)]
    fn mul(self, factor: i32) -> Self {
        self.map(|lane| lane.wrapping_mul(factor))
    }
}

/// Rows of samples from rows of coefficients and their divisors.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn inverse_transform(coefficients: &Block, divisors: &Block<u16>) -> [[u8; 8]; 8] {
    let mut rows = [Lanes([0; 8]); 8];
    for (at, (coefficient, divisor)) in coefficients.iter().zip(divisors).enumerate() {
        rows[at / 8].0[at % 8] = coefficient.wrapping_mul(*divisor as i16).into();
    }
    let mut columns = [Lanes([0; 8]); 8];
    // Without vertical frequencies, which is common, all rows are alike.
    if coefficients[8..]
        .iter()
        .all(|&coefficient| coefficient == 0)
    {
        for (column, value) in columns.iter_mut().zip((rows[0] * 4).wrapped().0) {
            *column = Lanes([value; 8]);
        }
    } else {
        rows = pass(rows);
        for row in &mut rows {
            *row = row.descaled(11, i16::MIN.into(), i16::MAX.into());
        }
        columns = transposed(rows);
    }
    columns = pass(columns);
    let mut samples = [[0; 8]; 8];
    for (column, lanes) in columns.into_iter().enumerate() {
        for (row, sample) in lanes.descaled(18, -128, 127).0.into_iter().enumerate() {
            samples[row][column] = (sample + 128) as u8;
        }
    }
    samples
}

/// One dimension of the transform, over eight vectors at once; the result has 13 more fractional bits.
#[inline(always)]
fn pass(v: [Lanes; 8]) -> [Lanes; 8] {
    let even = (v[2] + v[6]) * 4433;
    let t2 = even - v[6] * 15137;
    let t3 = even + v[2] * 6270;
    let t0 = (v[0] + v[4]).wrapped() * 8192;
    let t1 = (v[0] - v[4]).wrapped() * 8192;
    let evens = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

    let (a, b) = ((v[7] + v[3]).wrapped(), (v[5] + v[1]).wrapped());
    let odd = (a + b) * 9633;
    let (a, b) = (odd - a * 16069, odd - b * 3196);
    let (c, d) = ((v[7] + v[1]) * -7373, (v[5] + v[3]) * -20995);
    let odds = [
        v[1] * 12299 + c + b,
        v[3] * 25172 + d + a,
        v[5] * 16819 + d + b,
        v[7] * 2446 + c + a,
    ];

    let mut out = v;
    for (i, (even, odd)) in evens.into_iter().zip(odds).enumerate() {
        out[i] = even + odd;
        out[7 - i] = even - odd;
    }
    out
}

#[inline(always)]
fn transposed(rows: [Lanes; 8]) -> [Lanes; 8] {
    let mut columns = rows;
    for (i, row) in rows.iter().enumerate() {
        for (column, lane) in columns.iter_mut().zip(row.0) {
            column.0[i] = lane;
        }
    }
    columns
}
