use super::*;
use crate::image::Extent;
use crate::prompt::Conversation;
use crate::rope::{ImagePlace, RopeBlock, RopeScaling, RopeSections, RopeSettings};

fn conversation(ids: &[u32], image_tokens: &[usize]) -> Conversation {
    Conversation {
        ids: ids.to_vec(),
        response_start: 0,
        truncated: false,
        image_tokens: image_tokens.to_vec(),
        images: Vec::new(),
    }
}

fn document<'a>(branches: &[&'a Conversation], image_rows: &[i64]) -> Document<'a> {
    Document {
        branches: branches.to_vec(),
        image_rows: image_rows.to_vec(),
    }
}

const UNSCALED: RopeSettings = RopeSettings {
    sections: None,
    theta: 10000.0,
    head_dim: 4,
    scaling: None,
};
/// Every length beyond 3 scales differently.
const DYNAMIC: RopeSettings = RopeSettings {
    sections: None,
    theta: 10000.0,
    head_dim: 4,
    scaling: Some(RopeScaling::Dynamic {
        factor: 2.0,
        max_positions: 3,
    }),
};

fn forest(rows: &[Vec<&Document>]) -> Forest {
    Forest::new(rows, &UNSCALED).expect("valid documents")
}

/// Padding is documents by themselves, and nothing else moves.
#[test]
fn padded_rows_have_a_length_that_is_a_multiple() {
    let (a, b) = (
        conversation(&[1, 2, 3, 4], &[1]),
        conversation(&[1, 2, 5], &[1]),
    );
    let pair = document(&[&a, &b], &[7]);
    let rows = [vec![&pair]];
    let [plain, padded] = [1, 8].map(|multiple| Forest::padded(&rows, &UNSCALED, multiple));
    let [plain, padded] = [plain, padded].map(|forest| forest.expect("a document"));
    assert_eq!((plain.tokens(), padded.tokens()), (5, 8));
    let values = |ids: &ndarray::Array2<i32>| ids.iter().copied().collect::<Vec<_>>();
    assert_eq!(values(&padded.document_ids), [0, 0, 0, 0, 0, 1, 2, 3]);
    assert_eq!(values(&padded.branch_ids)[5..], [0, 0, 0]);
    assert_eq!(padded.used_tokens, plain.used_tokens);
    assert_eq!(padded.branches, plain.branches);
    assert_eq!(padded.rope, plain.rope);
}

#[test]
fn responses_share_their_prefix() {
    let (a, b) = (
        conversation(&[1, 2, 3, 4], &[1]),
        conversation(&[1, 2, 5], &[1]),
    );
    let pair = document(&[&a, &b], &[7]);
    let f = forest(&[vec![&pair]]);
    assert_eq!(f.input_ids.flatten().to_vec(), [1, 2, 3, 4, 5]);
    assert_eq!(f.position_ids.flatten().to_vec(), [0, 1, 2, 3, 2]);
    assert_eq!(f.branch_ids.flatten().to_vec(), [0, 0, 1, 1, 2]);
    assert_eq!(
        (f.image_positions.as_slice(), f.image_rows.as_slice()),
        ([1].as_slice(), [7].as_slice())
    );
    assert_eq!(f.reward_positions(), [3, 4]);
    assert_eq!(
        (f.branches[1].flat(0), f.branches[1].flat(2), f.used_tokens),
        (0, 4, 5)
    );
}

#[test]
fn every_branch_keeps_at_least_one_token() {
    let (short, long) = (conversation(&[1, 2], &[]), conversation(&[1, 2, 3], &[]));
    assert_eq!(document(&[&short, &long], &[]).prefix(), 1);
    assert_eq!(document(&[&long, &long], &[]).prefix(), 2);
    assert_eq!(document(&[&long], &[]).prefix(), 2);
    let f = forest(&[vec![&document(&[&short, &long], &[])]]);
    assert_eq!(f.reward_positions(), [1, 3]);
}

#[test]
fn padding_and_neighbours_are_separate_documents() {
    let (a, b) = (conversation(&[1, 2], &[]), conversation(&[3], &[]));
    let (first, second) = (document(&[&a], &[]), document(&[&b], &[]));
    let f = forest(&[vec![&first, &second], vec![&second]]);
    assert_eq!(f.document_ids.flatten().to_vec(), [0, 0, 1, 0, 1, 2]);
    assert_eq!((f.rows(), f.tokens(), f.used_tokens), (2, 3, 4));
    assert_eq!(f.reward_positions(), [1, 2, 3]);
}

#[test]
fn images_inside_branches_are_placed_in_each() {
    let (a, b) = (
        conversation(&[1, 9, 3], &[1]),
        conversation(&[2, 9, 4], &[1]),
    );
    let f = forest(&[vec![&document(&[&a, &b], &[5])]]);
    assert_eq!((f.image_positions, f.image_rows), (vec![1, 4], vec![5, 5]));
}

#[test]
fn image_tokens_without_embeddings_are_an_error() {
    let a = conversation(&[1, 9], &[1]);
    let text = Forest::new(&[vec![&document(&[&a], &[])]], &UNSCALED)
        .expect_err("no rows")
        .to_string();
    assert!(text.contains("1 image tokens for 0"), "{text}");
    assert!(Forest::new(&[vec![&document(&[], &[])]], &UNSCALED).is_err());
}

#[test]
fn differently_scaled_documents_have_separate_blocks() {
    let (short, long) = (
        conversation(&[1, 2], &[]),
        conversation(&[1, 2, 3, 4, 5], &[]),
    );
    let (one, other) = (document(&[&short], &[]), document(&[&long], &[]));
    let f = Forest::new(&[vec![&other, &one]], &DYNAMIC).expect("valid documents");
    let block = |length, positions| RopeBlock::Line { length, positions };
    assert_eq!(f.rope, [block(3, 2), block(5, 5)]);
    assert_eq!(f.position_ids.flatten().to_vec(), [2, 3, 4, 5, 6, 0, 1]);
    let mixed = document(&[&short, &long], &[]);
    let text = Forest::new(&[vec![&mixed]], &DYNAMIC).expect_err("mixed");
    let text = text.to_string();
    assert!(text.contains("scaled alike, those of 2 and 5"), "{text}");
}

const WITH_AXES: RopeSettings = RopeSettings {
    sections: Some(RopeSections {
        sizes: [1, 1, 0],
        interleaved: false,
    }),
    theta: 10000.0,
    head_dim: 4,
    scaling: None,
};

/// A text token, an image of 2 × 3 tokens, and the rest.
fn about_an_image(rest: &[u32]) -> Conversation {
    let ids = [&[1][..], &[9; 6], rest].concat();
    Conversation {
        images: vec![Extent::Grid {
            rows: 2,
            columns: 3,
        }],
        ..conversation(&ids, &[1, 2, 3, 4, 5, 6])
    }
}

#[test]
fn text_continues_after_the_longer_side_of_an_image() {
    let (a, b) = (about_an_image(&[2, 3, 4]), about_an_image(&[2, 5]));
    let shared = document(&[&a, &b], &[0, 1, 2, 3, 4, 5]);
    let forest = Forest::new(&[vec![&shared]], &WITH_AXES).expect("a document");
    let place = ImagePlace {
        start: 1,
        rows: 2,
        columns: 3,
    };
    let line = RopeBlock::Line {
        length: 0,
        positions: 7,
    };
    assert_eq!(forest.rope, [line, RopeBlock::Image(place)]);
    // The image is at 1, so that the text after it is at 4; both branches begin at 5.
    let expected = [0, 7, 8, 9, 10, 11, 12, 4, 5, 6, 5];
    assert_eq!(forest.position_ids.as_slice(), Some(&expected[..]));
}

#[test]
fn equal_images_at_equal_places_share_rows_of_the_tables() {
    let (a, b) = (about_an_image(&[2]), about_an_image(&[3, 4]));
    let rows = [0, 1, 2, 3, 4, 5];
    let documents = [document(&[&a], &rows), document(&[&b], &rows)];
    let row: Vec<&Document> = documents.iter().collect();
    let forest = Forest::new(&[row], &WITH_AXES).expect("documents");
    assert_eq!(forest.rope.len(), 2);
}

#[test]
fn branches_must_have_images_of_the_same_extents() {
    let a = about_an_image(&[2]);
    let b = Conversation {
        images: vec![Extent::Grid {
            rows: 3,
            columns: 2,
        }],
        ..a.clone()
    };
    let mixed = document(&[&a, &b], &[0, 1, 2, 3, 4, 5]);
    let message = Forest::new(&[vec![&mixed]], &WITH_AXES)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "a document's conversations must have images of the same extents"
    );
}
