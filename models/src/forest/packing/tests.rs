use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError};

use super::*;
use crate::forest::{ModelFlops, Rates};
use crate::kinds::{Precision, Target};
use crate::prompt::Conversation;
use crate::rope::RopeScaling;

type Check = std::result::Result<(), TestCaseError>;

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

fn packing(batch_tokens: usize) -> Packing {
    Packing {
        batch_tokens,
        most_rows: usize::MAX,
        row_multiple: 1,
        cost: Cost::new(
            ModelFlops::default(),
            Rates::of(Target::Portable, Precision::Fp32),
        ),
    }
}

fn conversation(ids: Vec<u32>) -> Conversation {
    Conversation {
        ids,
        response_start: 0,
        truncated: false,
        image_tokens: Vec::new(),
        images: Vec::new(),
    }
}

/// Conversations that share `prefix` tokens; `seed` distinguishes prompts.
fn answers(seed: u32, prefix: usize, own: &[usize]) -> Vec<Conversation> {
    let answer = |(number, &own): (usize, &usize)| {
        let shared = (0..prefix as u32).map(|token| 1000 * seed + token);
        let answer = (0..own as u32).map(|token| 900_000 + 1000 * number as u32 + token);
        conversation(shared.chain(answer).collect())
    };
    own.iter().enumerate().map(answer).collect()
}

fn document(branches: &[Conversation]) -> Document<'_> {
    Document {
        branches: branches.iter().collect(),
        image_rows: Vec::new(),
    }
}

fn cut(trees: &[Vec<Conversation>], packing: &Packing) -> Vec<Batch> {
    let documents: Vec<Document> = trees.iter().map(|tree| document(tree)).collect();
    batches(&documents, &UNSCALED, packing).expect("valid documents")
}

/// (rows, tokens) of every run.
fn shapes(runs: &[Batch]) -> Vec<(usize, usize)> {
    let shape = |run: &Batch| (run.forest.rows(), run.forest.tokens());
    runs.iter().map(shape).collect()
}

fn seconds(runs: &[Batch], cost: &Cost) -> f64 {
    let run = |(rows, tokens)| cost.run(rows, tokens);
    shapes(runs).into_iter().map(run).sum()
}

#[test]
fn small_documents_share_a_row_and_long_ones_get_separate_rows() {
    let small: Vec<_> = (0..8).map(|seed| answers(seed, 20, &[5, 9])).collect();
    assert_eq!(shapes(&cut(&small, &packing(4096))).len(), 1);
    let [long, short] = [answers(1, 1800, &[40]), answers(2, 30, &[10])];
    let runs = cut(&[short, long], &packing(4096));
    let padded: usize = shapes(&runs)
        .iter()
        .map(|(rows, tokens)| rows * tokens)
        .sum();
    assert_eq!(padded, 1840 + 40, "{:?}", shapes(&runs));
}

#[test]
fn rows_of_a_length_lie_side_by_side() {
    let long: Vec<_> = (0..2).map(|seed| answers(seed, 1500, &[40])).collect();
    let [(rows, tokens)] = shapes(&cut(&long, &packing(4096)))[..] else {
        panic!("expected one run");
    };
    // In one row their 3080² pairs would be twice as many.
    assert_eq!((rows, tokens), (2, 1540));
}

#[test]
fn a_run_has_no_more_rows_than_allowed() {
    let long: Vec<_> = (0..2).map(|seed| answers(seed, 1500, &[40])).collect();
    let one_row = Packing {
        most_rows: 1,
        ..packing(4096)
    };
    let runs = cut(&long, &one_row);
    assert!(shapes(&runs).iter().all(|&(rows, _)| rows == 1));
    let rewards: usize = runs.iter().map(|run| run.sources.len()).sum();
    assert_eq!(rewards, 2);
}

#[test]
fn many_branches_take_several_rows_where_attention_would_cost_more_than_the_prefix() {
    let few = [answers(1, 2000, &[128; 8])];
    assert_eq!(shapes(&cut(&few, &packing(1 << 20))), [(1, 2000 + 8 * 128)]);
    let many = [answers(1, 2000, &[128; 64])];
    let runs = cut(&many, &packing(1 << 20));
    let rows: usize = shapes(&runs).iter().map(|(rows, _)| rows).sum();
    assert!((2..6).contains(&rows), "{rows}");
    let free_pairs = Packing {
        cost: Cost::new(
            ModelFlops {
                attention: 0,
                ..ModelFlops::default()
            },
            Rates::of(Target::Portable, Precision::Fp32),
        ),
        ..packing(1 << 20)
    };
    assert_eq!(shapes(&cut(&many, &free_pairs)).len(), 1);
}

#[test]
fn a_shares_rows_are_of_a_length() {
    let own: Vec<usize> = (1..=30).map(|n| 8 * n).collect();
    let runs = cut(&[answers(1, 200, &own)], &packing(1000));
    let rows = runs.iter().map(|run| run.forest.rows()).sum::<usize>();
    let used: usize = runs.iter().map(|run| run.forest.used_tokens).sum();
    assert!(used * 100 > shapes(&runs).iter().map(|(r, t)| r * t).sum::<usize>() * 95);
    assert_eq!(used, own.iter().sum::<usize>() + rows * 200);
}

#[test]
fn branches_that_are_scaled_differently_share_no_prefix() {
    let branches = [&[1, 2, 3, 4][..], &[1, 2], &[1, 2, 3, 5], &[1, 9, 9]];
    let branches = branches.map(|ids| conversation(ids.to_vec()));
    let runs = batches(&[document(&branches)], &DYNAMIC, &packing(1000)).expect("valid documents");
    let [run] = &runs[..] else { panic!("{runs:?}") };
    // Two of 4 tokens share three, two within the limit share one.
    assert_eq!(run.sources, [(0, 0), (0, 2), (0, 1), (0, 3)]);
    assert_eq!(run.forest.used_tokens, 5 + 4);
}

#[test]
fn a_model_is_worth_what_its_config_says() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/configs/InternVL2-1B.json"
    );
    let text = std::fs::read_to_string(file).expect("a golden file");
    let config = crate::config::Config::parse(serde_json::from_str(&text).expect("JSON"));
    assert_eq!(
        ModelFlops::of(&config.expect("valid").text),
        ModelFlops::default()
    );
}

fn tree() -> impl Strategy<Value = Vec<Conversation>> {
    let own = prop::collection::vec(1..60_usize, 1..12);
    (0..50_u32, 0..80_usize, own).prop_map(|(seed, prefix, own)| answers(seed, prefix, &own))
}

/// The conversation that the forest holds at this branch.
fn laid_out(run: &Batch, branch: usize, length: usize) -> Vec<u32> {
    let place = &run.forest.branches[branch];
    let ids = run.forest.input_ids.flatten();
    let token = |token| ids[place.flat(token) as usize] as u32;
    (0..length).map(token).collect()
}

fn check(trees: &[Vec<Conversation>], packing: &Packing) -> Check {
    let runs = cut(trees, packing);
    let mut seen = Vec::new();
    for run in &runs {
        let (rows, tokens) = (run.forest.rows(), run.forest.tokens());
        prop_assert_eq!(tokens % packing.row_multiple, 0);
        let lengths = run
            .sources
            .iter()
            .map(|&(d, branch)| trees[d][branch].ids.len());
        let longest = lengths.max().unwrap_or(0);
        // Others may take the place of its padding.
        let is_of_longest = (rows, tokens) == (1, longest.next_multiple_of(packing.row_multiple));
        prop_assert!(is_of_longest || rows * tokens <= packing.batch_tokens);
        for (index, &(document, branch)) in run.sources.iter().enumerate() {
            let ids = &trees[document][branch].ids;
            prop_assert_eq!(&laid_out(run, index, ids.len()), ids);
            seen.push((document, branch));
        }
    }
    seen.sort();
    let all = trees.iter().enumerate();
    let all = all.flat_map(|(document, tree)| (0..tree.len()).map(move |b| (document, b)));
    prop_assert_eq!(seen, all.collect::<Vec<_>>());
    Ok(())
}

/// A piece is placed without regard to the next, which may then find no room next to it: the maximal cost of that.
const SHORT_SIGHT: f64 = 1.02;

/// No cheaper are a run for every document, and a run for every conversation.
fn check_cost(trees: &[Vec<Conversation>], packing: &Packing) -> Check {
    let chosen = seconds(&cut(trees, packing), &packing.cost);
    let cost = |ids: usize| packing.cost.run(1, ids);
    let conversations = trees.iter().flatten().map(|c| cost(c.ids.len()));
    prop_assert!(chosen <= conversations.sum::<f64>() * SHORT_SIGHT);
    let lengths = trees.iter().map(|tree| document(tree).tokens());
    if lengths.clone().all(|tokens| tokens <= packing.batch_tokens) {
        let documents: f64 = lengths.map(cost).sum();
        prop_assert!(chosen <= documents * SHORT_SIGHT);
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: 200,
        rng_seed: RngSeed::Fixed(0),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn every_conversation_is_laid_out_once_within_the_budget_and_at_hardly_a_higher_cost(
        trees in prop::collection::vec(tree(), 0..12),
        batch_tokens in prop::sample::select(vec![1, 40, 100, 300, 1000, 10_000]),
    ) {
        let packing = packing(batch_tokens);
        check(&trees, &packing)?;
        check_cost(&trees, &packing)?;
        let row_multiple = 64;
        check(&trees, &Packing { row_multiple, ..packing })?;
    }
}
