//! Randomness as a function of (seed, place, index): there is no generator state to save.

use std::sync::{Mutex, PoisonError};

/// A reproducible stream of 64-bit numbers (splitmix64).
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

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What `f` draws with LibTorch's own generator, started at this stream's next number.
    pub fn torch<T>(mut self, f: impl FnOnce() -> T) -> T {
        // The generator is the process's: nobody else may draw in between.
        static GENERATOR: Mutex<()> = Mutex::new(());
        let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed((self.draw() >> 1) as i64);
        f()
    }

    /// A number from 0 to below 1, of 53 bits.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`, by multiplication; the bias is below bound / 2⁶⁴.
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
    fn permutations_depend_on_all_three_and_hold_everyone() {
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
