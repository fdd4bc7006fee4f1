//! Where the tokens of a conversation stand, as rows of the rope tables.

use crate::image::Extent;
use crate::prompt::Conversation;
use crate::rope::{ImagePlace, RopeSettings};

/// The position of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// In a text.
    Line(usize),
    /// The token of this number in an image.
    Image(ImagePlace, usize),
}

/// The positions of all tokens. An image is at one position of time, and the text after it continues at the largest of its
/// positions.
pub(super) fn positions(conversation: &Conversation, rope: &RopeSettings) -> Vec<Position> {
    let length = conversation.ids.len();
    if rope.sections.is_none() {
        return (0..length).map(Position::Line).collect();
    }
    let mut positions = Vec::with_capacity(length);
    let (mut next, mut first) = (0, 0);
    for image in &conversation.images {
        let Some(&start) = conversation.image_tokens.get(first) else {
            break;
        };
        let text = start - positions.len();
        positions.extend((next..next + text).map(Position::Line));
        let place = place(*image, next + text);
        let tokens = 0..place.rows * place.columns;
        first += tokens.len();
        positions.extend(tokens.map(|token| Position::Image(place, token)));
        next = place.end();
    }
    let rest = length - positions.len();
    positions.extend((next..next + rest).map(Position::Line));
    positions
}

fn place(image: Extent, start: usize) -> ImagePlace {
    let (rows, columns) = match image {
        Extent::Grid { rows, columns } => (rows, columns),
        // Only grids have positions with several axes; tiles would count on.
        Extent::Tiles(count) => (1, count),
    };
    ImagePlace {
        start,
        rows,
        columns,
    }
}
