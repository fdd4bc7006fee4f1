//! The operations of a register.

use crate::pair::Pair;

/// Values of a register, and keys of a block.
pub(crate) const LANES: usize = 16;

/// A register of f32 values. It starts from a token and so proves that the instructions of its type exist. Where values are
/// compared, NaN comes through.
pub(crate) trait Lanes: Copy {
    /// Proof that the instructions exist.
    type Token: Copy;

    fn splat(token: Self::Token, value: f32) -> Self;
    fn load(token: Self::Token, values: &[f32; LANES]) -> Self;
    fn store(self, into: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// A product and a sum, rounded once or twice.
    fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// The greater value of each lane; `other`'s where one is NaN.
    fn max(self, other: Self) -> Self;
    /// The nearest integers, ties to even, of values of a small magnitude.
    fn round(self) -> Self;
    /// Times 2 to the power of integers between −150 and 0; may be 0 from −126 on.
    fn scale_by_pow2(self, exponents: Self) -> Self;
    /// Adds to each lane both products of `pair` with the lane's own pair.
    fn dot2_bf16(self, pair: Pair, lanes: &[Pair; LANES]) -> Self;
    /// −∞ in lanes whose bit is not set.
    fn mask_neg_inf(self, mask: u16) -> Self;
    /// Neighbours as pairs of bf16.
    fn to_bf16(self) -> [Pair; LANES / 2];

    #[inline(always)]
    fn zero(token: Self::Token) -> Self {
        Self::splat(token, 0.0)
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        self.store(&mut values);
        values
    }
}
