//! The golden conversations, with the rewards that the published implementation gave them.

use std::fs;
use std::path::PathBuf;

use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, number};
use serde_json::Value;

/// One conversation of the golden set, with its reward.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) row: usize,
    /// Whether the published reward is read at the last token. A literal pad token moves it into the middle of the
    /// text; ours stays.
    pub(crate) at_last_token: bool,
    /// Whether the conversation was cut inside its image tokens.
    pub(crate) image_cut: bool,
    pub(crate) prompt: String,
    pub(crate) image: PathBuf,
    pub(crate) response: String,
    pub(crate) reward: f64,
}

impl Case {
    pub(crate) fn check(&self, what: &str, got: f64) {
        self.check_within(1e-4, what, got);
    }

    /// Allows `scale` · max(1, |reward|).
    pub(crate) fn check_within(&self, scale: f64, what: &str, got: f64) {
        assert_close(
            &format!("{what}: row {}, {:?}", self.row, self.response),
            &[got],
            &[self.reward],
            Tolerance::reward(scale, self.reward),
        );
    }
}

/// The golden conversations of a model in one input mode that are read where the published code reads them.
pub(crate) fn cases(model: &str, block: &str, key: &str) -> Vec<Case> {
    let mut cases = all_cases(model, block, key);
    cases.retain(|case| case.at_last_token);
    cases
}

/// All of them; `key` names the reward.
pub(crate) fn all_cases(model: &str, block: &str, key: &str) -> Vec<Case> {
    let golden = golden::json(&format!("forward/{model}/golden.json"));
    read_cases(model, &golden[block]["results"], key)
}

pub(crate) fn read_cases(model: &str, results: &Value, key: &str) -> Vec<Case> {
    let folder = golden::path(&format!("forward/{model}"));
    let text = fs::read_to_string(folder.join("cases.jsonl")).expect("golden cases");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let case = |result: &Value| {
        let index = |key: &str| result[key].as_u64().map(|index| index as usize);
        let row = index("row").expect("a row");
        let response = index("response").expect("an index");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        Case {
            row,
            at_last_token: index("pooled_index").is_none_or(|at| Some(at + 1) == index("seq_len")),
            image_cut: index("num_img_context") < index("num_tiles").map(|tiles| 4 * tiles)
                && index("num_img_context").is_some(),
            prompt: text(&rows[row]["prompt"]),
            image: folder.join(text(&rows[row]["img_path"])),
            response: text(&rows[row]["responses"][response]),
            reward: number(&result[key]),
        }
    };
    let results = results.as_array().expect("results");
    results.iter().map(case).collect()
}

/// Neighbours in one row, so that each conversation is a branch next to another.
pub(crate) fn neighbours(cases: &[Case]) -> Vec<[&Case; 2]> {
    cases
        .windows(2)
        .filter(|pair| pair[0].row == pair[1].row)
        .map(|pair| [&pair[0], &pair[1]])
        .collect()
}
