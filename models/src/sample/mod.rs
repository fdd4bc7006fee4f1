//! The JSONL rows, in one home: preference pairs ([`pairs`]: pairwise and VLFeedback), supervised rows ([`sft`]) and
//! scoring input and output ([`ScoreRow`]). [`Lines`] cuts a file into rows and knows where each one is.
//!
//! Every error here names the key and what was expected; the caller puts `file:line` before it. Keys that a row type
//! does not know are ignored in training data and carried through in scoring.

mod fields;
mod lines;
mod preference;
mod rating;
mod score;
mod vlfeedback;

pub use lines::{Line, Lines, MAX_LINE_BYTES};
pub use preference::{Expanded, Pair, PreferenceRow, Sft, pairs, sft};
pub use score::{ScoreRow, Scored, error_line};
