//! The tokens of a conversation where its reward is read.

use serde::{Deserialize, Serialize};

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Where a reward is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardAt {
    /// At the last token.
    #[default]
    Last,
    /// At every token; the reward is their mean.
    Mean,
    /// At the last token of this name.
    Token(String),
}

impl RewardAt {
    /// `last`, `mean`, or a token.
    pub fn named(name: &str) -> Self {
        match name {
            "last" => Self::Last,
            "mean" => Self::Mean,
            token => Self::Token(token.to_owned()),
        }
    }
}

/// The same with the id of a tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// At the last token.
    #[default]
    Last,
    /// At every token.
    Mean,
    /// At the last token of this id.
    Token(u32),
}

impl Reading {
    /// The place for this tokenizer.
    ///
    /// # Errors
    /// The tokenizer has no such token.
    pub fn of(at: &RewardAt, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(match at {
            RewardAt::Last => Self::Last,
            RewardAt::Mean => Self::Mean,
            RewardAt::Token(token) => Self::Token(tokenizer.id(token).ok_or_else(|| {
                Error::invalid(format!(
                    "the tokenizer has no token {token}, where the reward is read"
                ))
            })?),
        })
    }

    /// Whether a conversation of these tokens has a reward.
    ///
    /// # Errors
    /// The token is missing, or was cut off.
    pub fn check(self, ids: &[u32]) -> Result<()> {
        match self {
            Self::Token(id) if !ids.contains(&id) => Err(Error::invalid(format!(
                "the token {id}, where the reward is read, is not in the conversation (it was cut off, or the template lacks it)"
            ))),
            _ => Ok(()),
        }
    }

    /// The tokens of a conversation of `length` tokens where a reward is read; `is` says whether one has an id. Without
    /// its token ([`Self::check`]), the last one.
    pub(crate) fn tokens(
        self,
        length: usize,
        is: impl Fn(usize, u32) -> bool,
    ) -> std::ops::Range<usize> {
        let last = match self {
            Self::Mean => return 0..length,
            Self::Last => length - 1,
            Self::Token(id) => (0..length)
                .rev()
                .find(|&at| is(at, id))
                .unwrap_or(length - 1),
        };
        last..last + 1
    }
}

/// The reward of each conversation from those that were read for it.
pub fn means(read: &[f32], counts: &[usize]) -> Vec<f32> {
    let mut rest = read;
    let mean = |&count: &usize| {
        let (own, later) = rest.split_at(count);
        rest = later;
        match own {
            [one] => *one,
            several => (several.iter().copied().map(f64::from).sum::<f64>() / count as f64) as f32,
        }
    };
    counts.iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reward_is_read_where_it_is_asked_for() {
        let ids = [5, 7, 5, 7, 9];
        let tokens = |reading: Reading| reading.tokens(ids.len(), |at, id| ids[at] == id);
        assert_eq!(tokens(Reading::Last), 4..5);
        assert_eq!(tokens(Reading::Mean), 0..5);
        assert_eq!(tokens(Reading::Token(5)), 2..3);
        assert!(Reading::Token(9).check(&ids).is_ok() && Reading::Token(6).check(&ids).is_err());
    }

    #[test]
    fn means_are_of_the_conversation() {
        assert_eq!(means(&[1.0, 2.0, 4.0, 7.0], &[1, 2, 1]), [1.0, 3.0, 7.0]);
    }
}
