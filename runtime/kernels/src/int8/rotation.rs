//! A rotation that spreads dominant values.

/// Values that are rotated together and share a scale.
pub const GROUP: usize = 64;

/// Multiplies by a Hadamard matrix H, whose elements are 1 and −1, in place: HᵀH is [`GROUP`] times the identity, so that the
/// dot product of two rotated vectors is `GROUP` times their own. A value that dominates becomes `GROUP` values of the same
/// magnitude: the scale of all of them falls next to their norm, which grows by √`GROUP` (QuaRot, arXiv 2404.00456).
#[inline(always)]
pub fn rotate(values: &mut [f32; GROUP]) {
    butterflies::<1>(values);
    butterflies::<2>(values);
    butterflies::<4>(values);
    butterflies::<8>(values);
    butterflies::<16>(values);
    butterflies::<32>(values);
}

/// Sums and differences of values `DISTANCE` from each other.
#[inline(always)]
fn butterflies<const DISTANCE: usize>(values: &mut [f32; GROUP]) {
    let before = *values;
    for (at, value) in values.iter_mut().enumerate() {
        let other = before[at ^ DISTANCE];
        *value = match at & DISTANCE {
            0 => *value + other,
            _ => other - *value,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuFeatures;
    use crate::int8::dispatch::{Work, dispatch};
    use crate::int8::dot::IntDot;

    struct Rotate<'a>(&'a mut [f32; GROUP]);

    impl Work for Rotate<'_> {
        #[inline(always)]
        fn with<D: IntDot>(self, dot: D) {
            dot.rotate(self.0);
        }
    }

    #[test]
    fn all_instructions_compute_the_same_bits() {
        let values: [f32; GROUP] = std::array::from_fn(|at| (1.7 * at as f32 + 0.3).sin());
        let mut expected = values;
        rotate(&mut expected);
        let features = CpuFeatures::get();
        for features in [features, features.without_avx512(), CpuFeatures::default()] {
            let mut rotated = values;
            dispatch(features, Rotate(&mut rotated));
            assert_eq!(rotated, expected);
        }
    }

    #[test]
    fn columns_are_orthogonal_and_of_ones() {
        let column = |at: usize| {
            let mut values = [0.0; GROUP];
            values[at] = 1.0;
            rotate(&mut values);
            values
        };
        for one in 0..GROUP {
            assert!(column(one).iter().all(|value| value.abs() == 1.0));
            for other in 0..GROUP {
                let products = column(one).into_iter().zip(column(other));
                let product: f32 = products.map(|(a, b)| a * b).sum();
                assert_eq!(product, if one == other { GROUP as f32 } else { 0.0 });
            }
        }
    }
}
