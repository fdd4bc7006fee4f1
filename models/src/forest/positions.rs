//! Where the tokens of a conversation stand in the rope tables.

use std::ops::Range;

use crate::image::Extent;
use crate::prompt::Conversation;
use crate::rope::{ImagePlace, RopeSettings};

/// Tokens one after the other whose rows of a rope table follow each other too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Their indices in the conversation.
    pub(super) tokens: Range<usize>,
    pub(super) first: Position,
}

/// The position of a stretch's first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// In a text.
    Line(usize),
    /// The first token of an image.
    Image(ImagePlace),
}

/// All of a conversation's tokens. An image is at one position of time, and the text after it continues at the largest of
/// its positions.
pub(super) fn stretches(conversation: &Conversation, rope: &RopeSettings) -> Vec<Stretch> {
    let images = match rope.sections {
        None => &[],
        Some(_) => &conversation.images[..],
    };
    let text = |tokens: Range<usize>, next| Stretch {
        tokens,
        first: Position::Line(next),
    };
    let mut stretches = Vec::with_capacity(2 * images.len() + 1);
    let (mut done, mut next, mut image_token) = (0, 0, 0);
    for image in images {
        let Some(&start) = conversation.image_tokens.get(image_token) else {
            break;
        };
        stretches.push(text(done..start, next));
        let place = place(*image, next + start - done);
        let count = place.rows * place.columns;
        stretches.push(Stretch {
            tokens: start..start + count,
            first: Position::Image(place),
        });
        (done, next) = (start + count, place.end());
        image_token += count;
    }
    stretches.push(text(done..conversation.ids.len(), next));
    stretches.retain(|stretch| !stretch.tokens.is_empty());
    stretches
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
