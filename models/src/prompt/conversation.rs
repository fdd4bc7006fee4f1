//! A conversation as the network reads it.

use crate::image::Extent;

/// A tokenised conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// At most `max_length` of them.
    pub ids: Vec<u32>,
    /// The first token that lies wholly in the response (which includes its closing separator); `ids.len()` if the
    /// response is empty or cut off entirely. Labels of supervised training begin here.
    pub response_start: usize,
    /// Whether `max_length` cut tokens off.
    pub truncated: bool,
    /// Indices of the image tokens in `ids`, in order of the images, their tiles and the tokens of a tile.
    pub image_tokens: Vec<usize>,
    /// The extents of the images.
    pub images: Vec<Extent>,
}
