//! Products of rows with a panel of weights: the operation that instruction sets differ in.

use crate::cpu_features::Portable;
use crate::lanes::{LANES, Lanes, PortableLanes};
use crate::pair::Pair;
use crate::panel::{PANEL_OUTPUTS, ROWS};

/// Inputs of a group of packed weights.
pub const PANEL_GROUP: usize = 2;

/// Two neighbouring inputs of some rows.
pub(crate) type RowPairs = [Pair; ROWS];
/// A panel's weights of two neighbouring inputs.
pub(crate) type WeightPairs = [Pair; PANEL_OUTPUTS];
/// Sums of a panel's outputs, of some rows.
pub(crate) type Sums = [[f32; PANEL_OUTPUTS]; ROWS];

/// A token with the instructions that multiply pairs of bf16.
pub(crate) trait PairDot: Copy {
    /// Its registers.
    type Lanes: Lanes<Token = Self>;

    /// Adds the products of all inputs to the sum of each row and output, pair by pair. Subnormal values may count as zero.
    fn add_products(self, rows: &[RowPairs], weights: &[WeightPairs], sums: &mut Sums);
}

impl PairDot for Portable {
    type Lanes = PortableLanes;

    #[inline(always)]
    fn add_products(self, rows: &[RowPairs], weights: &[WeightPairs], sums: &mut Sums) {
        add::<PortableLanes, ROWS, 1>(self, rows, weights, sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu_features::{Avx2, Avx512Bf16};
    use crate::lanes::{Avx2Lanes, Avx512Lanes};

    impl PairDot for Avx512Bf16 {
        type Lanes = Avx512Lanes;

        /// Keeps sums in 24 of 32 registers.
        #[inline(always)]
        fn add_products(self, rows: &[RowPairs], weights: &[WeightPairs], sums: &mut Sums) {
            add::<Avx512Lanes, ROWS, 4>(self, rows, weights, sums);
        }
    }

    impl PairDot for Avx2 {
        type Lanes = Avx2Lanes;

        /// Keeps sums in 6 of 16 registers, and weights in 4.
        #[inline(always)]
        fn add_products(self, rows: &[RowPairs], weights: &[WeightPairs], sums: &mut Sums) {
            add::<Avx2Lanes, 3, 1>(self, rows, weights, sums);
        }
    }
}

/// Pairs of inputs whose weights stay in the first cache.
const CACHED: usize = 64;

/// With the sums of some rows and of some registers of outputs at a time.
#[inline(always)]
fn add<L: Lanes, const SUMMED: usize, const REGISTERS: usize>(
    token: L::Token,
    rows: &[RowPairs],
    weights: &[WeightPairs],
    sums: &mut Sums,
) {
    for (rows, weights) in rows.chunks(CACHED).zip(weights.chunks(CACHED)) {
        for row in (0..ROWS).step_by(SUMMED) {
            for register in (0..PANEL_OUTPUTS / LANES).step_by(REGISTERS) {
                add_tile::<L, SUMMED, REGISTERS>(token, rows, weights, sums, [row, register]);
            }
        }
    }
}

/// The sums from this row and this register on.
#[inline(always)]
fn add_tile<L: Lanes, const SUMMED: usize, const REGISTERS: usize>(
    token: L::Token,
    rows: &[RowPairs],
    weights: &[WeightPairs],
    sums: &mut Sums,
    [row, register]: [usize; 2],
) {
    let mut registers = [[L::zero(token); REGISTERS]; SUMMED];
    for (registers, sums) in registers.iter_mut().zip(&sums[row..]) {
        for (register, sums) in registers.iter_mut().zip(&sums.as_chunks().0[register..]) {
            *register = L::load(token, sums);
        }
    }
    for (pairs, weights) in rows.iter().zip(weights) {
        let weights = &weights.as_chunks().0[register..][..REGISTERS];
        for (registers, pair) in registers.iter_mut().zip(&pairs[row..]) {
            for (register, weights) in registers.iter_mut().zip(weights) {
                *register = register.dot2_bf16(*pair, weights);
            }
        }
    }
    for (registers, sums) in registers.iter().zip(&mut sums[row..]) {
        let sums = &mut sums.as_chunks_mut().0[register..];
        for (register, sums) in registers.iter().zip(sums) {
            register.store(sums);
        }
    }
}
