//! Token ids of a prompt about 7 tiles and of its responses, each of about 150 tokens, on one thread:
//!
//! ```sh
//! TOKENIZER=InternVL2-1B RAYON_NUM_THREADS=1 cargo bench -p seeward-models --bench conversations
//! ```
//!
//! `TOKENIZER` is a folder with a tokenizer. Without it the tests' small one is taken, which cuts texts into more tokens.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seeward_models::config::Config;
use seeward_models::forest::{Cost, Document, ModelFlops, Packing, Rates, batches};
use seeward_models::image::Extent;
use seeward_models::kinds::{Precision, Target};
use seeward_models::prompt::{Conversation, PromptSettings, Prompter};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const TILES: usize = 7;
const TOKENS_PER_TILE: usize = 256;
const SENTENCE: &str = "The photograph shows a busy market street, where two people in blue coats bargain over oranges \
                        and the rain has just stopped. ";

fn prompter() -> Prompter {
    let folder = std::env::var("TOKENIZER").unwrap_or_else(|_| format!("{GOLDEN}/models/qwen2"));
    let settings = PromptSettings {
        template: "Hermes-2".parse().expect("a template"),
        tokens_per_tile: TOKENS_PER_TILE,
        max_length: 8192,
        literal_special_tokens: false,
    };
    let tokenizer = settings.template.tokenizer(Path::new(&folder));
    Prompter::new(tokenizer.expect("a tokenizer"), settings).expect("the template's tokens")
}

/// Different texts of about 150 tokens.
fn responses(count: usize) -> Vec<String> {
    let response = |number| format!("Answer {number}: {}", SENTENCE.repeat(6));
    (0..count).map(response).collect()
}

fn conversations(prompter: &Prompter, responses: &[String]) -> Vec<Conversation> {
    let prompt = format!("What is happening here? {}", SENTENCE.repeat(8)).into();
    let shared = prompter.shared(&prompt, &[Extent::Tiles(TILES)]);
    let shared = shared.expect("a valid prompt");
    let read = responses.iter().map(|text| shared.conversation(text));
    let read = read.collect::<Result<_, _>>();
    read.expect("valid conversations")
}

fn tokens(criterion: &mut Criterion) {
    let prompter = prompter();
    let mut group = criterion.benchmark_group("conversations");
    for count in [1, 8, 64] {
        let responses = responses(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("ids of {count}"), |bencher| {
            bencher.iter(|| conversations(black_box(&prompter), &responses));
        });
    }
}

fn layouts(criterion: &mut Criterion) {
    let text = std::fs::read_to_string(format!("{GOLDEN}/configs/InternVL2-1B.json"));
    let config = serde_json::from_str(&text.expect("a golden file")).expect("JSON");
    let rope = Config::parse(config).expect("valid").text.rope;
    let packing = Packing {
        batch_tokens: 6144,
        most_rows: usize::MAX,
        row_multiple: 1,
        cost: Cost::new(
            ModelFlops::default(),
            Rates::of(Target::Portable, Precision::Fp32),
        ),
    };
    let prompter = prompter();
    let mut group = criterion.benchmark_group("conversations");
    for count in [1, 8, 64] {
        let conversations = conversations(&prompter, &responses(count));
        let document = Document {
            branches: conversations.iter().collect(),
            image_rows: (0..(TILES * TOKENS_PER_TILE) as i64).collect(),
        };
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("layout of {count}"), |bencher| {
            bencher.iter(|| batches(black_box(std::slice::from_ref(&document)), &rope, &packing));
        });
    }
}

criterion_group!(benches, tokens, layouts);
criterion_main!(benches);
