//! All JSONL rows: preferences in every [`Format`] ([`PreferenceReader`]), supervised rows ([`sft`]) and
//! scoring input and output ([`ScoreRow`]). [`Lines`] cuts a file into rows and knows the place of each.
//!
//! Every error here names the key and the expected value; the caller puts `file:line` before it. Keys that a row type
//! does not know are ignored in training data and carried through in scoring, unless their name suggests an image,
//! a video, turns or a margin: then the row is refused ([`CarriedKeys`] excepted).

mod addresses;
mod carried;
mod context;
mod fields;
mod format;
mod image_ref;
mod images;
mod keys;
mod lines;
mod messages;
mod preference;
mod python_json;
mod rating;
mod row_prompt;
mod score;
mod sft;

pub use carried::CarriedKeys;
pub use format::{Format, PreferenceReader};
pub use image_ref::ImageRef;
pub use lines::{Line, Lines, MAX_LINE_BYTES};
pub use preference::{Candidates, Group, Pair, PreferenceRow};
pub use row_prompt::seen_keys;
pub use score::{ScoreRow, Scored, error_line};
pub use sft::{Sft, sft};
