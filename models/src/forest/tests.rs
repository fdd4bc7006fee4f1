use super::*;
use crate::prompt::Conversation;
use crate::rope::{RopeBlock, RopeScaling, RopeSettings};

fn conversation(ids: &[u32], image_tokens: &[usize]) -> Conversation {
    Conversation {
        ids: ids.to_vec(),
        response_start: 0,
        truncated: false,
        image_tokens: image_tokens.to_vec(),
    }
}

fn document<'a>(branches: &[&'a Conversation], image_rows: &[i64]) -> Document<'a> {
    Document {
        branches: branches.to_vec(),
        image_rows: image_rows.to_vec(),
    }
}

const UNSCALED: RopeSettings = RopeSettings {
    theta: 10000.0,
    head_dim: 4,
    scaling: None,
};
/// Every length beyond 3 scales differently.
const DYNAMIC: RopeSettings = RopeSettings {
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
    let block = |length, positions| RopeBlock { length, positions };
    assert_eq!(f.rope, [block(3, 2), block(5, 5)]);
    assert_eq!(f.position_ids.flatten().to_vec(), [2, 3, 4, 5, 6, 0, 1]);
    let mixed = document(&[&short, &long], &[]);
    let text = Forest::new(&[vec![&mixed]], &DYNAMIC).expect_err("mixed");
    let text = text.to_string();
    assert!(text.contains("scaled alike, those of 2 and 5"), "{text}");
}
