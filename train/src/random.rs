//! Randomness as a function of (seed, place, index): there is no generator state to save.

use std::sync::{Mutex, PoisonError};

/// A reproducible stream of 64-bit integers (splitmix64).
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of one place, such as `"epoch"`, and index, such as the epoch's number.
    pub fn new(seed: u64, place: &str, index: u64) -> Self {
        let mut stream = Self(seed);
        for part in place.bytes().map(u64::from).chain([u64::MAX, index]) {
            stream.0 = stream.draw() ^ part;
        }
        stream
    }

    /// The next integer.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Runs `f` with LibTorch's generator seeded by this stream's next integer.
    pub fn torch<T>(mut self, f: impl FnOnce() -> T) -> T {
        // The generator is global: no other thread may draw in between.
        static GENERATOR: Mutex<()> = Mutex::new(());
        let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed((self.draw() >> 1) as i64);
        f()
    }

    /// A float in [0, 1) with 53 random bits.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An integer below `bound`, by multiplication; the bias is below bound / 2⁶⁴.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    /// 0 to `count` − 1 in random order (Fisher–Yates).
    pub(crate) fn permutation(mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_depend_on_all_three_and_are_complete() {
        let of = |seed, place, index| Stream::new(seed, place, index).permutation(100);
        assert_eq!(of(1, "epoch", 2), of(1, "epoch", 2));
        for other in [of(2, "epoch", 2), of(1, "warmup", 2), of(1, "epoch", 3)] {
            assert_ne!(of(1, "epoch", 2), other);
        }
        let mut sorted = of(1, "epoch", 2);
        sorted.sort();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
