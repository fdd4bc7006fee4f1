//! The golden conversations of the model families: rows with any number of images and several responses.

use std::path::{Path, PathBuf};

use seeward_models::image::Extent;
use seeward_models::kinds::InputMode;
use seeward_models::prompt::Template;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, number};
use serde_json::{Value, json};

/// A row of the set.
pub(crate) struct Row {
    pub(crate) prompt: String,
    pub(crate) images: Vec<PathBuf>,
    pub(crate) responses: Vec<Response>,
    /// For each image its extent and the hash of its pixels: of its tiles, or of the resized image.
    pub(crate) extents: Vec<(Extent, String)>,
}

/// A response with what the published implementation computed for it.
pub(crate) struct Response {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    /// Time, row and column of every token, where positions have three axes; of a row's first response.
    pub(crate) positions: Option<[Vec<usize>; 3]>,
    golden: Value,
}

/// The folder of a family's checkpoint.
pub(crate) fn model(family: &str) -> PathBuf {
    golden::path(&format!("families/{family}/model"))
}

/// Every family.
pub(crate) fn families() -> Vec<String> {
    golden::folders("families")
}

/// The template of a family whose checkpoint names none.
pub(crate) fn template(family: &str) -> Option<Template> {
    let golden = golden::json(&format!("families/{family}/golden.json"));
    let name = golden["template"].as_str()?;
    Some(name.parse().expect("a template"))
}

/// The family's rows that have rewards in this mode: all families have some in each, but those without vision.
pub(crate) fn rows_of(family: &str, mode: InputMode) -> Vec<Row> {
    let mut all = rows(family);
    let sees = all.iter().any(|row| !row.images.is_empty());
    all.retain(|row| row.has(mode));
    assert_eq!(
        all.is_empty(),
        !sees && mode != InputMode::Full,
        "{family}: {mode:?}"
    );
    all
}

/// The rows of a family; one without vision sees no images.
pub(crate) fn rows(family: &str) -> Vec<Row> {
    let golden = golden::json(&format!("families/{family}/golden.json"));
    let cases = std::fs::read_to_string(golden::path("families/cases.jsonl")).expect("cases");
    let cases = cases
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let golden = golden["rows"].as_array().expect("rows").clone();
    cases
        .zip(golden)
        .map(|(case, golden)| row(&case, &golden))
        .collect()
}

fn row(case: &Value, golden: &Value) -> Row {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let extents: Vec<_> = list(&golden["images"]).iter().map(extent).collect();
    let mut images = match &case["img_path"] {
        Value::String(path) => vec![path.clone()],
        paths => list(paths).iter().map(text).collect(),
    };
    images.truncate(extents.len());
    let images = images
        .iter()
        .map(|name| golden::path("families").join(name))
        .collect();
    let responses = list(&case["responses"]);
    let responses = responses.iter().zip(list(&golden["responses"]));
    Row {
        prompt: text(&case["prompt"]),
        images,
        responses: responses
            .map(|(response, golden)| Response {
                text: text(response),
                ids: serde_json::from_value(golden["input_ids"].clone()).expect("ids"),
                positions: serde_json::from_value(golden["position_ids"].clone()).expect("axes"),
                golden,
            })
            .collect(),
        extents,
    }
}

/// An image's extent, and the hash of its pixels.
fn extent(image: &Value) -> (Extent, String) {
    let count = |value: &Value| value.as_u64().expect("a count") as usize;
    let hash = |key: &str| image[key].as_str().expect("a hash").to_owned();
    match &image["grid"] {
        Value::Null => (Extent::Tiles(count(&image["tiles"])), hash("pixels_sha256")),
        // In patches, of which 2 × 2 are a token.
        patches => {
            let [rows, columns] = [0, 1].map(|axis| count(&patches[axis]) / 2);
            (Extent::Grid { rows, columns }, hash("rgb_sha256"))
        }
    }
}

impl Row {
    /// Whether the set has its rewards in this mode.
    fn has(&self, mode: InputMode) -> bool {
        self.responses
            .iter()
            .all(|r| !r.golden[key(mode)].is_null())
    }

    /// Compares rewards, one for each response. `scale` is the tolerance in multiples of max(1, |reward|); decoders of
    /// JPEG differ by a grey level here and there.
    pub(crate) fn check(&self, what: &str, mode: InputMode, got: &[f64], scale: f64) {
        for (response, got) in self.responses.iter().zip(got) {
            let expected = number(&response.golden[key(mode)]);
            let what = format!("{what}: {mode:?}, {:?}, {:?}", self.prompt, response.text);
            let mut tolerance = Tolerance::reward(scale, expected);
            if mode != InputMode::TextOnly && self.images.iter().any(|image| is_jpeg(image)) {
                tolerance.absolute = tolerance.absolute.max(0.05);
            }
            assert_close(&what, &[*got], &[expected], tolerance);
        }
    }

    /// Two responses as a row of preferences, the better one chosen.
    pub(crate) fn better(&self, a: usize, b: usize) -> Value {
        let [first, second] = [a, b].map(|index| &self.responses[index]);
        let reward = |response: &Response| number(&response.golden["reward"]);
        match reward(first) > reward(second) {
            true => self.pair(a, b),
            false => self.pair(b, a),
        }
    }

    /// Two responses as a row of preferences.
    pub(crate) fn pair(&self, chosen: usize, rejected: usize) -> Value {
        let response = |index: usize| &self.responses[index].text;
        json!({
            "prompt": self.prompt, "img_path": self.images,
            "chosen": response(chosen), "rejected": response(rejected)
        })
    }
}

fn key(mode: InputMode) -> &'static str {
    match mode {
        InputMode::Full => "reward",
        InputMode::TextOnly => "reward_text_only",
        InputMode::ImageOnly => "reward_image_only",
    }
}

pub(crate) fn is_jpeg(image: &Path) -> bool {
    image
        .extension()
        .is_some_and(|extension| extension == "jpg")
}
