//! Rewards against the published implementation, through LibTorch and through ONNX Runtime, alone and packed.
//!
//! Tolerance: 1e-4 · max(1, |reward|). Correct fp32 evaluations of the golden set differ by less than 1e-5 among each
//! other; replacing any one tensor by its neutral value moves rewards by 7e-3 or more. Rows with a JPEG get 0.05,
//! since decoders differ by a grey level here and there.

use std::fs;
use std::path::PathBuf;

use seeward_export::{Options as ExportOptions, export};
use seeward_models::bundle::{InputMode, Precision, Target};
use seeward_models::net::Branch;
use seeward_runtime::{Image, Options, Request, RewardModel, Usage};
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, number};
use seeward_train::batch::{Inputs, View};
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::{Row, Rows};
use seeward_train::model::Model;
use seeward_train::setup::Start;
use serde_json::{Value, json};
use tch::Device;

/// A literal pad token moves the published reward into the middle of the text; ours is read at the last token.
const READ_ELSEWHERE: [(usize, usize); 1] = [(6, 0)];
const MODELS: [&str; 3] = ["qwen2", "qwen2_tied", "qwen2_dual"];
const MODES: [(&str, InputMode); 3] = [
    ("full", InputMode::Full),
    ("text_only", InputMode::TextOnly),
    ("image_only", InputMode::ImageOnly),
];

/// One conversation of the golden set, with its reward.
#[derive(Clone, Debug)]
struct Case {
    row: usize,
    prompt: String,
    image: PathBuf,
    response: String,
    reward: f64,
}

impl Case {
    fn check(&self, what: &str, got: f64) {
        let jpeg = self
            .image
            .extension()
            .is_some_and(|extension| extension == "jpg");
        let tolerance = if jpeg {
            Tolerance {
                absolute: 0.05,
                relative: 0.0,
            }
        } else {
            Tolerance::reward(1e-4, self.reward)
        };
        assert_close(
            &format!("{what}: row {}, {:?}", self.row, self.response),
            &[got],
            &[self.reward],
            tolerance,
        );
    }
}

/// The golden conversations of a model in one input mode that are read where the published code reads them.
fn cases(model: &str, block: &str, key: &str) -> Vec<Case> {
    let kept =
        |(place, case): ((usize, usize), Case)| (!READ_ELSEWHERE.contains(&place)).then_some(case);
    all_cases(model, block, key)
        .into_iter()
        .filter_map(kept)
        .collect()
}

/// All of them with row and response; `key` names the reward.
fn all_cases(model: &str, block: &str, key: &str) -> Vec<((usize, usize), Case)> {
    let text = fs::read_to_string(golden::path(&format!("forward/{model}/cases.jsonl")))
        .expect("golden cases");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let golden = golden::json(&format!("forward/{model}/golden.json"));
    let results = golden[block]["results"].as_array().expect("results");
    let place = |r: &Value| {
        (
            r["row"].as_u64().expect("row") as usize,
            r["response"].as_u64().expect("index") as usize,
        )
    };
    let case = |result: &Value| {
        let (row, response) = place(result);
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        Case {
            row,
            prompt: text(&rows[row]["prompt"]),
            image: golden::path(&format!("forward/{model}")).join(text(&rows[row]["img_path"])),
            response: text(&rows[row]["responses"][response]),
            reward: number(&result[key]),
        }
    };
    results
        .iter()
        .map(|result| (place(result), case(result)))
        .collect()
}

/// Neighbours of one row, so that each conversation is a branch beside another.
fn neighbours(cases: &[Case]) -> Vec<[&Case; 2]> {
    cases
        .windows(2)
        .filter(|pair| pair[0].row == pair[1].row)
        .map(|pair| [&pair[0], &pair[1]])
        .collect()
}

/// A model in LibTorch.
struct LibTorch {
    model: Model,
    view: View,
}

impl LibTorch {
    fn load(name: &str, mode: InputMode, branch: Branch) -> Self {
        tch::set_num_threads(1);
        let config = Config {
            model_name_or_path: golden::path(&format!("models/{name}"))
                .display()
                .to_string(),
            algorithm: if branch == Branch::TextOnly {
                Algorithm::ShortcutAware
            } else {
                Algorithm::Standard
            },
            use_text_only: mode == InputMode::TextOnly,
            use_image_only: mode == InputMode::ImageOnly,
            max_length: 4096,
            ..Config::default()
        };
        let start = Start::load(&config, None, Device::Cpu).expect("golden model");
        let (models, views) = (start.models, start.views);
        match branch {
            Branch::Main => Self {
                model: models.main,
                view: views.main,
            },
            Branch::TextOnly => Self {
                model: models.text.expect("both"),
                view: views.text.expect("both"),
            },
        }
    }

    /// Pairs side by side: packed into one row each, or (as the same image under two names) apart.
    fn inputs(&self, pairs: &[[&Case; 2]], packed: bool) -> Inputs {
        let line = |[a, b]: &[&Case; 2]| {
            let other_name = b
                .image
                .display()
                .to_string()
                .replace("images/", "images/./");
            let mut row =
                json!({ "prompt": a.prompt, "chosen": a.response, "rejected": b.response });
            if packed {
                row["img_path"] = json!(a.image);
            } else {
                row["chosen_img_path"] = json!(a.image);
                row["rejected_img_path"] = json!(other_name);
            }
            row.to_string()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, pairs.iter().map(line).collect::<Vec<_>>().join("\n")).expect("written");
        let Rows::Pairs(rows) = Rows::pairs(&path, None).expect("rows") else {
            panic!("pairs")
        };
        self.view
            .pairs(&rows.iter().collect::<Vec<&Row<_>>>())
            .expect("inputs")
    }

    fn rewards(&self, inputs: &Inputs) -> Vec<f64> {
        let rewards = tch::no_grad(|| self.model.rewards(inputs)).expect("rewards");
        Vec::try_from(rewards.to_kind(tch::Kind::Double)).expect("one dimension")
    }
}

fn libtorch_agrees(name: &str, cases: &[Case], torch: &LibTorch) {
    let pairs = neighbours(cases);
    let (packed, apart) = (torch.inputs(&pairs, true), torch.inputs(&pairs, false));
    for (what, inputs) in [("packed", &packed), ("alone", &apart)] {
        for (case, got) in pairs.iter().flatten().zip(torch.rewards(inputs)) {
            case.check(&format!("LibTorch {name} {what}"), got);
        }
    }
    if torch.view.mode != InputMode::TextOnly {
        assert_eq!(
            (packed.forest.rows, apart.forest.rows),
            (pairs.len(), 2 * pairs.len()),
            "{name}"
        );
        assert!(
            2 * packed.tiles == apart.tiles
                && 10 * packed.forest.used_tokens < 7 * apart.forest.used_tokens,
            "{name}"
        );
    }
}

#[test]
fn libtorch_rewards_are_the_published_ones() {
    for name in MODELS {
        for (block, mode) in MODES {
            libtorch_agrees(
                name,
                &cases(name, block, "reward"),
                &LibTorch::load(name, mode, Branch::Main),
            );
        }
    }
    let text = LibTorch::load("qwen2_dual", InputMode::Full, Branch::TextOnly);
    libtorch_agrees(
        "text-only branch",
        &cases("qwen2_dual", "full", "reward_bias_branch"),
        &text,
    );
}

fn exported(name: &str, branch: Branch, mode: InputMode) -> RewardModel {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("bundle");
    let options = ExportOptions {
        checkpoint: golden::path(&format!("models/{name}")),
        output: output.clone(),
        branch,
        target: Target::Portable,
        precision: Precision::Fp32,
        max_length: None,
    };
    export(&options).expect("exported");
    RewardModel::load(
        &output,
        Options {
            input: mode,
            threads: Some(1),
            ..Options::default()
        },
    )
    .expect("loaded")
}

fn request(cases: &[&Case]) -> Request {
    Request {
        prompt: cases[0].prompt.clone(),
        images: vec![Image::Path(cases[0].image.clone())],
        responses: cases.iter().map(|case| case.response.clone()).collect(),
    }
}

fn score(model: &RewardModel, requests: &[Request]) -> (Vec<f64>, Usage) {
    let scored = model.score(requests).expect("the engine runs");
    let rewards = scored
        .results
        .into_iter()
        .flat_map(|result| result.expect("a good request").rewards);
    (rewards.map(f64::from).collect(), scored.usage)
}

fn onnx_agrees(name: &str, cases: &[Case], model: &RewardModel) {
    let by_row: Vec<Vec<&Case>> = cases
        .chunk_by(|a, b| a.row == b.row)
        .map(|row| row.iter().collect())
        .collect();
    let packed: Vec<Request> = by_row.iter().map(|row| request(row)).collect();
    let (together, usage) = score(model, &packed);
    let alone: Vec<f64> = cases
        .iter()
        .flat_map(|case| score(model, &[request(&[case])]).0)
        .collect();
    for (case, (packed, alone)) in cases.iter().zip(together.iter().zip(&alone)) {
        case.check(&format!("ONNX Runtime {name} packed"), *packed);
        case.check(&format!("ONNX Runtime {name} alone"), *alone);
        assert_close(
            &format!("{name}: packed against alone"),
            &[*packed],
            &[*alone],
            Tolerance::reward(1e-5, *alone),
        );
    }
    assert!(
        10 * usage.tokens < 7 * usage.tokens_without_sharing,
        "{name}: {usage:?}"
    );
    assert!(
        usage.images_encoded <= by_row.len() as u64,
        "{name}: {usage:?}"
    );
}

#[test]
fn exported_rewards_are_the_published_ones() {
    for name in MODELS {
        for (block, mode) in MODES {
            onnx_agrees(
                name,
                &cases(name, block, "reward"),
                &exported(name, Branch::Main, mode),
            );
        }
    }
    // The bundle of a text-only branch knows that it sees the white image.
    let text = exported("qwen2_dual", Branch::TextOnly, InputMode::Full);
    onnx_agrees(
        "text-only branch",
        &cases("qwen2_dual", "full", "reward_bias_branch"),
        &text,
    );
}

/// The exempt rows: a pad token written in the text is a token like any other, and the reward is read at the last one.
#[test]
fn a_literal_pad_token_moves_no_reward() {
    for name in MODELS {
        let all = all_cases(name, "full", "reward");
        let exempt: Vec<Case> = all
            .into_iter()
            .filter(|(place, _)| READ_ELSEWHERE.contains(place))
            .map(|(_, case)| case)
            .collect();
        let (torch, onnx) = (
            LibTorch::load(name, InputMode::Full, Branch::Main),
            exported(name, Branch::Main, InputMode::Full),
        );
        for case in &exempt {
            assert!(
                case.response.contains("<|endoftext|>") || case.prompt.contains("<|endoftext|>"),
                "{case:?}"
            );
            let reward = torch.rewards(&torch.inputs(&[[case, case]], true))[0];
            let exported = score(&onnx, &[request(&[case])]).0;
            assert_close(name, &exported, &[reward], Tolerance::reward(1e-4, reward));
            // The published reward, of a token in the middle of the text, is another one.
            assert!((reward - case.reward).abs() > 1e-3, "{reward} {case:?}");
        }
        assert_eq!(exempt.len(), 1);
    }
}

#[test]
fn the_golden_cases_are_all_there() {
    assert_eq!(cases("qwen2", "full", "reward").len(), 17);
    assert!(neighbours(&cases("qwen2", "full", "reward")).len() >= 8);
}
