//! The two phases of a run.

use std::ops::Range;

use crate::data::loader::Preprocessors;
use crate::data::preprocess::Preprocessor;
use crate::data::sampler::{Sampler, Steps};
use crate::model::branches::Branches;

/// A phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Steps of the text-only branch alone: it learns the shortcut before the main branch can.
    TextWarmUp,
    /// Steps of all branches.
    Joint,
}

impl Phase {
    /// Its name on the terminal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TextWarmUp => "text-only warm-up",
            Self::Joint => "train",
        }
    }

    /// The place of one of its steps, counted from 1, in messages.
    pub(crate) fn place(self, step: usize) -> String {
        match self {
            Self::TextWarmUp => format!("text-only warm-up, step {step}"),
            Self::Joint => format!("step {step}"),
        }
    }

    /// The branches that it trains.
    pub(crate) fn branches(self, preprocessors: &Branches<Preprocessor>) -> Preprocessors<'_> {
        Preprocessors {
            main: (self == Self::Joint).then_some(&preprocessors.main),
            text: preprocessors.text.as_ref(),
        }
    }

    /// The row numbers of the batches of each of these steps.
    pub(crate) fn batches(self, sampler: &Sampler, steps: Range<usize>) -> Steps {
        match self {
            Self::TextWarmUp => sampler.warmup_steps(steps),
            Self::Joint => sampler.steps(steps),
        }
    }
}
