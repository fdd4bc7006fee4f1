//! Rotary position tables, computed on the host so that length-dependent scaling needs no new graph.
//!
//! A run's table has a block of rows for every length that scales differently, one below the other; a token's position id
//! is its row. If scaling does not depend on the length, there is one block, and position ids are positions.
//!
//! Where positions have three axes (time, row, column; "M-RoPE"), those of a text are equal, and the table has another block
//! for every image: a row for each of its tokens.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The settings of the tables; stored in the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeSettings {
    /// Base of the frequencies.
    pub theta: f64,
    /// Width of one attention head.
    pub head_dim: usize,
    /// The change of frequencies for conversations longer than those of the first training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<RopeScaling>,
    /// The axes of each pair of a head, where positions have three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sections: Option<RopeSections>,
}

/// How the pairs of a head are shared by the three axes of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeSections {
    /// Pairs of time, row and column.
    pub sizes: [usize; 3],
    /// Whether the axes take turns, from the first pair on until row or column has its number; else each axis has a run of
    /// neighbours.
    pub interleaved: bool,
}

impl RopeSections {
    /// The axis of a pair.
    fn axis(&self, pair: usize) -> usize {
        let [time, rows, _] = self.sizes;
        match self.interleaved {
            true => match pair % 3 {
                axis @ (1 | 2) if pair < 3 * self.sizes[axis] => axis,
                _ => 0,
            },
            false => usize::from(pair >= time) + usize::from(pair >= time + rows),
        }
    }
}

/// The published ways to scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All angles divided.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Dynamic NTK: beyond `max_positions` the base grows with the conversation.
    Dynamic {
        /// Rate of the growth.
        factor: f64,
        /// The longest conversation that is not scaled.
        max_positions: usize,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, intermediate ones interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Turns within `original_positions` below which a frequency is low.
        low_frequency_factor: f64,
        /// Turns above which it is high.
        high_frequency_factor: f64,
        /// Positions of the first training.
        original_positions: usize,
    },
    /// Phi-3's `su`, later `longrope`: each frequency has its own divisor, one for short and one for long conversations.
    LongRope {
        /// Divisors up to `original_positions`.
        short_factors: Vec<f64>,
        /// Divisors beyond.
        long_factors: Vec<f64>,
        /// The longest conversation that is short.
        original_positions: usize,
        /// The longest conversation; with `original_positions` it decides the factor of cosines and sines.
        max_positions: usize,
    },
}

/// Rows of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeBlock {
    /// Positions of conversations that scale alike.
    Line {
        /// The length they are scaled by ([`RopeSettings::scaled_by`]).
        length: usize,
        /// Number of positions, from 0 on.
        positions: usize,
    },
    /// The tokens of an image, row by row.
    Image(ImagePlace),
}

/// The place of an image among the positions of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImagePlace {
    /// The position of its first token, on all axes.
    pub start: usize,
    /// Rows of tokens.
    pub rows: usize,
    /// Columns of tokens.
    pub columns: usize,
}

impl ImagePlace {
    /// The position after the image.
    pub fn end(self) -> usize {
        self.start + self.rows.max(self.columns)
    }

    /// The position of a token on each axis.
    fn position(self, token: usize) -> [usize; 3] {
        let (row, column) = (token / self.columns, token % self.columns);
        [self.start, self.start + row, self.start + column]
    }
}

impl RopeBlock {
    /// Number of rows.
    pub fn entries(&self) -> usize {
        match self {
            Self::Line { positions, .. } => *positions,
            Self::Image(place) => place.rows * place.columns,
        }
    }

    /// The length its rows are scaled by.
    fn length(&self) -> usize {
        match self {
            Self::Line { length, .. } => *length,
            // Positions with several axes are not scaled by length.
            Self::Image(_) => 0,
        }
    }

    /// The position of a row on each axis.
    fn position(&self, entry: usize) -> [usize; 3] {
        match self {
            Self::Line { .. } => [entry; 3],
            Self::Image(place) => place.position(entry),
        }
    }
}

/// Cosines and sines by position, f32 [entries, head_dim / 2].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RopeTables {
    /// Cosines.
    pub cos: Array2<f32>,
    /// Sines.
    pub sin: Array2<f32>,
}

impl RopeSettings {
    /// Checks that heads have pairs, and each pair a divisor.
    pub(crate) fn check(&self) -> Result<()> {
        let pairs = self.head_dim / 2;
        if pairs == 0 || !self.head_dim.is_multiple_of(2) || pairs > 1 << 16 {
            let problem = format!("head_dim: expected pairs, got {}", self.head_dim);
            return Err(Error::invalid(problem));
        }
        let (positions, factors) = self.sizes(pairs);
        if positions > u32::MAX as usize {
            let problem = format!("scaling: expected fewer positions, got {positions}");
            return Err(Error::invalid(problem));
        }
        if factors != pairs {
            let problem = format!("scaling: expected {pairs} factors, got {factors}");
            return Err(Error::invalid(problem));
        }
        self.check_sections()
    }

    /// Checks that every pair of a head has an axis, if there are several.
    pub(crate) fn check_sections(&self) -> Result<()> {
        let pairs = self.head_dim / 2;
        let Some(sections) = &self.sections else {
            return Ok(());
        };
        if self.scaling.is_some() {
            let problem = "scaling is not supported where positions have three axes";
            return Err(Error::invalid(problem));
        }
        let sum = sections
            .sizes
            .iter()
            .fold(0usize, |sum, size| sum.saturating_add(*size));
        if sum != pairs {
            let problem = format!("sections: expected {pairs} pairs in all, got {sum}");
            return Err(Error::invalid(problem));
        }
        Ok(())
    }

    /// The most positions and the divisors of the scaling: of two lists, one whose length is not `pairs`, if any.
    fn sizes(&self, pairs: usize) -> (usize, usize) {
        match &self.scaling {
            Some(RopeScaling::Dynamic { max_positions, .. }) => (*max_positions, pairs),
            Some(RopeScaling::Llama3 {
                original_positions, ..
            }) => (*original_positions, pairs),
            Some(RopeScaling::LongRope {
                short_factors,
                long_factors,
                original_positions,
                max_positions,
            }) => (
                *original_positions.max(max_positions),
                match short_factors.len() == pairs {
                    true => long_factors.len(),
                    false => short_factors.len(),
                },
            ),
            None | Some(RopeScaling::Linear { .. }) => (1, pairs),
        }
    }

    /// The length that decides the scaling of a conversation of `length` tokens. Equal values mean equal scaling.
    pub fn scaled_by(&self, length: usize) -> usize {
        match &self.scaling {
            Some(RopeScaling::Dynamic { max_positions, .. }) => length.max(*max_positions),
            Some(RopeScaling::LongRope {
                original_positions, ..
            }) => length.clamp(*original_positions, original_positions + 1),
            None | Some(RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. }) => 0,
        }
    }

    /// The blocks one below the other: angle = position · frequency, computed in f32 like the published code.
    pub fn tables(&self, blocks: &[RopeBlock]) -> RopeTables {
        let entries = blocks.iter().map(RopeBlock::entries).sum();
        let mut angles = Array2::zeros([entries, self.head_dim / 2]);
        let mut rows = angles.rows_mut().into_iter();
        for block in blocks {
            let frequencies = self.frequencies(block.length());
            for (entry, mut row) in (0..block.entries()).zip(&mut rows) {
                let position = block.position(entry);
                for (pair, (angle, frequency)) in row.iter_mut().zip(&frequencies).enumerate() {
                    *angle = position[self.axis(pair)] as f32 * frequency;
                }
            }
        }
        let stretch = self.stretch();
        RopeTables {
            cos: angles.mapv(|angle: f32| angle.cos() * stretch),
            sin: angles.mapv(|angle: f32| angle.sin() * stretch),
        }
    }

    /// The axis of a position that turns this pair.
    fn axis(&self, pair: usize) -> usize {
        self.sections.map_or(0, |sections| sections.axis(pair))
    }

    /// One frequency for each pair of a head, for conversations scaled by `length`.
    fn frequencies(&self, length: usize) -> Vec<f32> {
        let plain = |theta: f64| {
            (0..self.head_dim / 2)
                .map(move |pair| self.power(theta, pair))
                .map(f32::recip)
        };
        match &self.scaling {
            None => plain(self.theta).collect(),
            Some(RopeScaling::Linear { factor }) => {
                plain(self.theta).map(|f| f / *factor as f32).collect()
            }
            Some(RopeScaling::Dynamic {
                factor,
                max_positions,
            }) => plain(self.dynamic_theta(*factor, *max_positions, length)).collect(),
            Some(RopeScaling::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_positions,
            }) => {
                let turns = (*low_frequency_factor, *high_frequency_factor);
                plain(self.theta)
                    .map(|f| llama3(f, *factor, turns, *original_positions))
                    .collect()
            }
            Some(RopeScaling::LongRope {
                short_factors,
                long_factors,
                original_positions,
                ..
            }) => {
                let long = length > *original_positions;
                self.divided_by(if long { long_factors } else { short_factors })
            }
        }
    }

    /// One frequency for each pair, with a separate divisor.
    fn divided_by(&self, factors: &[f64]) -> Vec<f32> {
        let pairs = factors.iter().enumerate();
        pairs
            .map(|(pair, factor)| (*factor as f32 * self.power(self.theta, pair)).recip())
            .collect()
    }

    fn power(&self, theta: f64, pair: usize) -> f32 {
        let exponent = (2 * pair) as f32 / self.head_dim as f32;
        (theta as f32).powf(exponent)
    }

    fn dynamic_theta(&self, factor: f64, max_positions: usize, length: usize) -> f64 {
        if length <= max_positions {
            return self.theta;
        }
        let (length, positions, dim) = (length as f64, max_positions as f64, self.head_dim as f64);
        let growth = factor * length / positions - (factor - 1.0);
        self.theta * growth.powf(dim / (dim - 2.0))
    }

    /// The factor of cosines and sines.
    fn stretch(&self) -> f32 {
        match &self.scaling {
            Some(RopeScaling::LongRope {
                original_positions,
                max_positions,
                ..
            }) if max_positions > original_positions => {
                let (original, max) = (*original_positions as f64, *max_positions as f64);
                (1.0 + (max / original).ln() / original.ln()).sqrt() as f32
            }
            _ => 1.0,
        }
    }
}

fn llama3(frequency: f32, factor: f64, (low, high): (f64, f64), original_positions: usize) -> f32 {
    let turns = f64::from(frequency) * original_positions as f64 / std::f64::consts::TAU;
    let (frequency, factor) = (f64::from(frequency), factor);
    let scaled = if turns < low {
        frequency / factor
    } else if turns > high {
        frequency
    } else {
        let kept = (turns - low) / (high - low);
        (1.0 - kept) * frequency / factor + kept * frequency
    };
    scaled as f32
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, concatenate};

    use super::*;

    fn settings(scaling: Option<RopeScaling>) -> RopeSettings {
        RopeSettings {
            theta: 10000.0,
            head_dim: 8,
            scaling,
            sections: None,
        }
    }

    fn dynamic() -> RopeSettings {
        settings(Some(RopeScaling::Dynamic {
            factor: 2.0,
            max_positions: 100,
        }))
    }

    fn close(got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            let difference = (f64::from(*got) / expected - 1.0).abs();
            assert!(difference < 1e-5, "{got} instead of {expected}");
        }
    }

    #[test]
    fn unscaled_frequencies_are_powers_of_theta() {
        close(&settings(None).frequencies(0), &[1.0, 0.1, 0.01, 0.001]);
        let linear = settings(Some(RopeScaling::Linear { factor: 4.0 }));
        close(&linear.frequencies(0), &[0.25, 0.025, 0.0025, 0.000_25]);
    }

    #[test]
    fn dynamic_scaling_begins_beyond_the_limit() {
        let rope = dynamic();
        close(&rope.frequencies(100), &[1.0, 0.1, 0.01, 0.001]);
        // At twice the limit the base is theta · 3^(8/6).
        let theta: f64 = 10000.0 * 3f64.powf(8.0 / 6.0);
        let expected: Vec<f64> = (0..4).map(|i| theta.powf(-0.25 * f64::from(i))).collect();
        close(&rope.frequencies(200), &expected);
        assert_eq!([99, 100, 101].map(|n| rope.scaled_by(n)), [100, 100, 101]);
    }

    /// With 8192 positions and factors 1 and 4, a frequency is low below 2π/8192 and high above 8π/8192.
    #[test]
    fn llama3_scales_low_frequencies_alone() {
        let scaled = |frequency| llama3(frequency, 8.0, (1.0, 4.0), 8192);
        close(&[scaled(0.1), scaled(0.0001)], &[0.1, 0.000_012_5]);
        // 2.5 turns are halfway between.
        let halfway = 2.5 * std::f64::consts::TAU / 8192.0;
        close(&[scaled(halfway as f32)], &[halfway * (0.5 / 8.0 + 0.5)]);
    }

    #[test]
    fn long_rope_has_factors_for_either_length_and_one_stretch() {
        let rope = settings(Some(RopeScaling::LongRope {
            short_factors: vec![1.0, 2.0, 2.0, 2.0],
            long_factors: vec![4.0; 4],
            original_positions: 10,
            max_positions: 1000,
        }));
        assert_eq!([3, 10, 11, 50].map(|n| rope.scaled_by(n)), [10, 10, 11, 11]);
        close(&rope.frequencies(10), &[1.0, 0.05, 0.005, 0.0005]);
        close(&rope.frequencies(11), &[0.25, 0.025, 0.0025, 0.000_25]);
        let block = RopeBlock::Line {
            length: 10,
            positions: 1,
        };
        // sqrt(1 + ln(100) / ln(10)), at position 0, where the cosine is 1.
        close(
            &rope.tables(&[block]).cos.flatten().to_vec(),
            &[3f64.sqrt(); 4],
        );
    }

    #[test]
    fn blocks_lie_one_below_the_other() {
        let rope = dynamic();
        let block = |length, positions| RopeBlock::Line { length, positions };
        let (first, second) = (block(100, 3), block(150, 2));
        let both = rope.tables(&[first, second]);
        let (a, b) = (rope.tables(&[first]), rope.tables(&[second]));
        assert_eq!(both.cos.dim(), (5, 4));
        let rows = |a: &Array2<f32>, b: &Array2<f32>| concatenate(Axis(0), &[a.view(), b.view()]);
        assert_eq!(both.cos, rows(&a.cos, &b.cos).expect("equal widths"));
        assert_eq!(both.sin, rows(&a.sin, &b.sin).expect("equal widths"));
        assert_ne!(
            rope.tables(&[block(100, 2)]).sin,
            rope.tables(&[second]).sin
        );
    }

    /// Sizes and orders of Qwen2.5-VL and of Qwen3-VL.
    #[test]
    fn axes_lie_side_by_side_or_take_turns() {
        let axes = |sizes: [usize; 3], interleaved| {
            let sections = RopeSections { sizes, interleaved };
            let pairs = sizes.iter().sum();
            (0..pairs)
                .map(|pair| sections.axis(pair))
                .collect::<Vec<_>>()
        };
        let side_by_side = [vec![0; 16], vec![1; 24], vec![2; 24]].concat();
        assert_eq!(axes([16, 24, 24], false), side_by_side);
        let turns = [[0, 1, 2].repeat(20), vec![0; 4]].concat();
        assert_eq!(axes([24, 20, 20], true), turns);
    }

    #[test]
    fn an_image_has_a_row_for_each_token() {
        let rope = RopeSettings {
            sections: Some(RopeSections {
                sizes: [1, 2, 1],
                interleaved: false,
            }),
            ..settings(None)
        };
        let place = ImagePlace {
            start: 5,
            rows: 2,
            columns: 3,
        };
        let tables = rope.tables(&[RopeBlock::Image(place)]);
        assert_eq!((tables.cos.nrows(), place.end()), (6, 8));
        // Token 4: row 1, column 1.
        let angles = [5.0, 6.0 * 0.1, 6.0 * 0.01, 6.0 * 0.001];
        close(&tables.sin.row(4).to_vec(), &angles.map(f64::sin));
    }
}
