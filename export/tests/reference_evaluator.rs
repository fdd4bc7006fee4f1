//! ONNX's own reference evaluator runs the portable graphs of every golden family whole, from pixels to rewards, and comes to
//! the published rewards. It is written in NumPy and shares no code with ONNX Runtime or LibTorch.
//!
//! Tolerance: 1e-4 · max(1, |reward|), as everywhere in fp32.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use seeward_export::export;
use seeward_models::bundle::Bundle;
use seeward_models::forest::{Document, Forest};
use seeward_models::image::{DEFAULT_MAX_PIXELS, Extent, Pixels, decode};
use seeward_models::net::Branch;
use seeward_models::prompt::{Conversation, Prompter};
use seeward_models::rope::RopeSettings;
use seeward_models::tokenizer::Tokenizer;
use serde_json::{Value, json};
use support::{golden, options, reward_models};

const PYTHON_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../third_party/python");
const FORWARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/forward");
/// Documents of a row of the forest.
const DOCUMENTS: usize = 2;

/// Reads inputs by name as (type, shape, values), runs both graphs, and compares.
const RUN: &str = "
import json, sys, numpy
from onnx.reference import ReferenceEvaluator
vision, reward, case = sys.argv[1:]
case = json.load(open(case))
array = lambda entry: numpy.array(entry['values'], entry['type']).reshape(entry['shape'])
embeds, = ReferenceEvaluator(vision).run(None, {'pixels': array(case['pixels'])})
feed = {name: array(entry) for name, entry in case['inputs'].items()}
feed['image_embeds'] = embeds.reshape(-1, embeds.shape[-1])[array(case['image_rows'])]
rewards, = ReferenceEvaluator(reward).run(None, feed)
expected = numpy.array(case['rewards'])
difference = abs(rewards - expected) / numpy.maximum(1, abs(expected))
print(f'{len(expected)} rewards differ by at most {difference.max():.1e}')
assert rewards.shape == expected.shape and difference.max() < 1e-4, list(zip(rewards, expected))
";

/// Conversations about one image, and the published rewards of those that end where the published code reads them.
struct Row {
    pixels: Vec<u8>,
    tiles: usize,
    conversations: Vec<Conversation>,
    rewards: Vec<f64>,
}

/// The golden rows.
fn rows(family: &str, bundle: &Bundle) -> Vec<Row> {
    let folder = Path::new(FORWARD).join(family);
    let manifest = bundle.manifest();
    let tokenizer = Tokenizer::open(bundle.folder()).unwrap();
    let prompter = Prompter::new(tokenizer, manifest.prompt.clone()).unwrap();
    let text = fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let image = folder.join(case["img_path"].as_str().unwrap());
        let image = decode(&fs::read(image).unwrap(), DEFAULT_MAX_PIXELS).unwrap();
        let Pixels::Tiles(pixels) = manifest.images.cut(&image).unwrap() else {
            panic!("tiles");
        };
        let count = pixels.shape()[0];
        let mut row = Row {
            pixels: pixels.into_raw_vec_and_offset().0,
            tiles: count,
            conversations: Vec::new(),
            rewards: Vec::new(),
        };
        for (response, reward) in published(&folder, index) {
            let prompt = case["prompt"].as_str().unwrap();
            let response = case["responses"][response].as_str().unwrap();
            if let Ok(conversation) =
                prompter.conversation(&prompt.into(), response, &[Extent::Tiles(count)])
            {
                row.conversations.push(conversation);
                row.rewards.push(reward);
            }
        }
        rows.push(row);
    }
    rows
}

/// The responses of a row whose published reward is at the last token, with their rewards.
fn published(folder: &Path, row: usize) -> Vec<(usize, f64)> {
    let golden = fs::read(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let results = golden["full"]["results"].as_array().unwrap();
    let of_row = results.iter().filter(|result| {
        let number = |key: &str| result[key].as_u64();
        let at_last = number("pooled_index").is_none_or(|at| Some(at + 1) == number("seq_len"));
        number("row") == Some(row as u64) && at_last
    });
    let response = |result: &Value| {
        (
            result["response"].as_u64().unwrap() as usize,
            result["reward"].as_f64().unwrap(),
        )
    };
    of_row.map(response).collect()
}

/// Everything that the graphs read, and the rewards to come to.
fn case(rows: &[Row], rope: &RopeSettings, tokens_per_tile: usize) -> Value {
    let (mut documents, mut rewards, mut pixels, mut tiles) =
        (Vec::new(), Vec::new(), Vec::new(), 0);
    for row in rows {
        let first = tiles * tokens_per_tile;
        tiles += row.tiles;
        pixels.extend(row.pixels.iter().copied());
        let image_rows = first as i64..(tiles * tokens_per_tile) as i64;
        // Conversations that are scaled differently share nothing.
        let mut by_scaling = BTreeMap::<usize, (Vec<&Conversation>, Vec<f64>)>::new();
        for (conversation, reward) in row.conversations.iter().zip(&row.rewards) {
            let scaling = rope.scaled_by(conversation.ids.len());
            let (branches, expected) = by_scaling.entry(scaling).or_default();
            branches.push(conversation);
            expected.push(*reward);
        }
        for (branches, expected) in by_scaling.into_values() {
            let image_rows = image_rows.clone().collect();
            documents.push(Document {
                branches,
                image_rows,
            });
            rewards.extend(expected);
        }
    }
    let documents: Vec<&Document> = documents.iter().collect();
    let rows: Vec<Vec<&Document>> = documents.chunks(DOCUMENTS).map(<[_]>::to_vec).collect();
    let forest = Forest::new(&rows, rope).unwrap();
    let tables = rope.tables(&forest.rope);
    let array = |kind: &str, shape: &[usize], values: Value| json!({"type": kind, "shape": shape, "values": values});
    macro_rules! input {
        ($kind:literal, $values:expr) => {
            array(
                $kind,
                $values.shape(),
                json!($values.iter().collect::<Vec<_>>()),
            )
        };
    }
    let list = |values: &[i64]| array("int64", &[values.len()], json!(values));
    let side = ((pixels.len() / tiles / 3) as f64).sqrt() as usize;
    json!({
        "pixels": array("uint8", &[tiles, side, side, 3], json!(pixels)),
        "image_rows": list(&forest.image_rows),
        "rewards": rewards,
        "inputs": {
            "input_ids": input!("int64", forest.input_ids),
            "position_ids": input!("int64", forest.position_ids),
            "document_ids": input!("int32", forest.document_ids),
            "branch_ids": input!("int32", forest.branch_ids),
            "image_positions": list(&forest.image_positions),
            "rope_cos": input!("float32", tables.cos),
            "rope_sin": input!("float32", tables.sin),
            "reward_positions": list(&forest.reward_positions()),
        },
    })
}

fn evaluate(graphs: [PathBuf; 2], case: &Path) -> String {
    let run = Command::new("python3")
        .env("PYTHONPATH", PYTHON_PACKAGES)
        .args(["-c", RUN])
        .args(graphs)
        .arg(case)
        .output()
        .unwrap();
    let [output, errors] =
        [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(run.status.success(), "{output}{errors}");
    output
}

#[test]
fn the_reference_evaluator_comes_to_the_published_rewards() {
    for family in &reward_models() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("bundle");
        export(&options(&golden(family), &output, Branch::Main)).unwrap();
        let bundle = Bundle::open(&output).unwrap();
        let rows = rows(family, &bundle);
        let manifest = bundle.manifest();
        let case = case(&rows, &manifest.rope, manifest.prompt.tokens_per_tile);
        let path = folder.path().join("case.json");
        fs::write(&path, case.to_string()).unwrap();
        let graphs = ["vision.onnx", "reward.onnx"].map(|graph| output.join(graph));
        print!("{family}: {}", evaluate(graphs, &path));
    }
}
