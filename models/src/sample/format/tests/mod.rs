//! Rows of every format, good and broken.
mod carried;
mod conversations;

use std::io::Write;

use serde_json::Value;

use super::super::{Group, ImageRef, Pair, sft};
use super::*;
use crate::chat::{Message, Prompt};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/");

fn named(format: &str) -> Format {
    format.parse().unwrap()
}

fn golden_rows(file: &str) -> Vec<String> {
    let lines = Lines::open(format!("{GOLDEN}{file}")).unwrap();
    lines.map(|item| item.unwrap().1.unwrap()).collect()
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// The same completions as the hub writes them: a list of objects.
fn as_on_the_hub(row: &str) -> String {
    let mut row: Value = serde_json::from_str(row).unwrap();
    let columns = row["completions"].take();
    let completion = |index: usize| {
        let of = |key: &str| (key.to_owned(), columns[key][index].clone());
        Value::Object(
            ["annotations", "model", "response"]
                .map(of)
                .into_iter()
                .collect(),
        )
    };
    let count = columns["response"].as_array().unwrap().len();
    row["completions"] = (0..count).map(completion).collect();
    row.to_string()
}

fn expand_all(rows: impl Iterator<Item = String>) -> PreferenceRow {
    let mut all = PreferenceRow::default();
    for row in rows {
        let row = PreferenceRow::parse(&row).unwrap();
        all.pairs.extend(row.pairs);
        all.ties_dropped += row.ties_dropped;
        all.non_numeric_dropped += row.non_numeric_dropped;
    }
    all
}

#[test]
fn vlfeedback_expands_as_published() {
    let golden = std::fs::read_to_string(format!("{GOLDEN}vlfeedback_pairs.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let rows = golden_rows("vlfeedback.jsonl");
    let expanded = expand_all(rows.iter().cloned());
    assert_eq!(
        expand_all(rows.iter().map(|row| as_on_the_hub(row))),
        expanded
    );

    let expected = golden["pairs"].as_array().unwrap();
    assert_eq!(expanded.pairs.len(), expected.len());
    for (pair, expected) in expanded.pairs.iter().zip(expected) {
        assert_eq!(pair.prompt, expected["prompt"].as_str().unwrap().into());
        assert_eq!(pair.chosen, expected["chosen"]);
        assert_eq!(pair.rejected, expected["rejected"]);
        assert_eq!(
            pair.chosen_images,
            files(&[expected["img_path"].as_str().unwrap()])
        );
        assert_eq!(pair.rejected_images, pair.chosen_images);
    }
    let dropped = expanded.ties_dropped + expanded.non_numeric_dropped;
    assert_eq!(golden["skipped"], dropped);
    assert_eq!(expanded.non_numeric_dropped, 3 + 6, "rows 1 and 3 have N/A");
}

#[test]
fn golden_pairwise_rows_are_read() {
    let expanded = expand_all(golden_rows("pairwise.jsonl").into_iter());
    assert_eq!(expanded.pairs.len(), 12);
    assert_eq!(expanded.pairs[4].chosen, "答案是 teal。");
    assert_eq!(
        expanded.pairs[4].chosen_images,
        files(&["../images/train_4.png"])
    );
}

#[test]
fn a_pair_may_have_an_image_for_each_side() {
    let row = r#"{"prompt":"p","chosen":"c","rejected":"r","chosen_img_path":"a.png","rejected_img_path":["b.png","d.png"]}"#;
    let pair = PreferenceRow::parse(row).unwrap().pairs.remove(0);
    assert_eq!(pair.chosen_images, files(&["a.png"]));
    assert_eq!(pair.rejected_images, files(&["b.png", "d.png"]));
    assert_eq!(
        sft(row, &CarriedKeys::default()).unwrap().images,
        files(&["a.png"])
    );
}

#[test]
fn a_pair_may_have_no_image() {
    for images in ["", "null", "[]", r#""""#, r#"["",null]"#] {
        let images = if images.is_empty() {
            String::new()
        } else {
            format!(r#","img_path":{images}"#)
        };
        let row = format!(r#"{{"prompt":"p","chosen":"c","rejected":""{images}}}"#);
        assert_eq!(
            PreferenceRow::parse(&row).unwrap().pairs[0].chosen_images,
            []
        );
    }
}

#[test]
fn broken_rows_say_what_is_missing() {
    let sides =
        "expected img_path, or chosen_img_path and rejected_img_path (an empty list for no image)";
    for (row, expected) in [
        ("{}", NO_KEYS),
        (
            r#"{"prompt":"p","chosen":"c"}"#,
            "rejected: expected a string, got nothing",
        ),
        (
            r#"{"chosen":"c","rejected":"r"}"#,
            "prompt: expected a string, got nothing",
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":["r"]}"#,
            "rejected: expected a string, got a list",
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","completions":[]}"#,
            "keys of two formats: completions (vlfeedback) and chosen (pairwise)",
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","chosen_img_path":"a"}"#,
            sides,
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","img_path":"i","chosen_img_path":"a","rejected_img_path":"b"}"#,
            sides,
        ),
        (
            r#"{"prompt":"p","completions":[3]}"#,
            "completions: invalid type: integer `3`, expected struct Completion",
        ),
    ] {
        assert_eq!(message(PreferenceRow::parse(row)), expected, "{row}");
    }
}

#[test]
fn supervised_rows_have_a_response_or_a_chosen_one() {
    let row = sft(
        r#"{"prompt":"p","img_path":"i","response":"r"}"#,
        &CarriedKeys::default(),
    )
    .unwrap();
    assert_eq!((row.response.as_str(), row.images.len()), ("r", 1));
    let row = sft(
        r#"{"prompt":"p","chosen":"c","rejected":"x"}"#,
        &CarriedKeys::default(),
    )
    .unwrap();
    assert_eq!(row.response, "c");
    assert_eq!(
        message(sft(r#"{"prompt":"p"}"#, &CarriedKeys::default())),
        NO_KEYS
    );
    assert_eq!(
        message(sft(
            r#"{"prompt":"p","chosen":"c","response":"r"}"#,
            &CarriedKeys::default()
        )),
        "expected response or chosen, got both"
    );
}

const NO_KEYS: &str = "no format has these keys: expected chosen and rejected, completions, responses, messages and \
                       rejected_response, preferred_output and non_preferred_output, response and human_ranking, or Output1, Output2 and Better";

fn files(paths: &[&str]) -> Vec<ImageRef> {
    let file = |path: &&str| ImageRef::File((*path).to_owned());
    paths.iter().map(file).collect()
}

fn pair(prompt: impl Into<Prompt>, chosen: &str, rejected: &str, images: &[&str]) -> Pair {
    let images = files(images);
    Pair {
        prompt: prompt.into(),
        chosen: chosen.to_owned(),
        rejected: rejected.to_owned(),
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }
}

#[test]
fn rows_of_one_pair_may_ask_for_a_margin() {
    let margin = |row: &str| PreferenceRow::parse(row).map(|row| row.pairs[0].margin);
    for (row, expected) in [
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","margin":1.5}"#,
            1.5,
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","margin":null}"#,
            0.0,
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","images":[],"margin":2}"#,
            2.0,
        ),
    ] {
        assert_eq!(margin(row).unwrap(), expected, "{row}");
    }
    let text = r#"{"prompt":"p","chosen":"c","rejected":"r","margin":"1.5"}"#;
    assert_eq!(
        message(margin(text)),
        "margin: expected a number, got a string"
    );
}

#[test]
fn an_instruction_with_its_output_is_learnt() {
    let learnt = |row: &str| sft(row, &CarriedKeys::default());
    let row = r#"{"instruction":"p","input":"q","output":"yes","system":"s"}"#;
    let row = learnt(row).unwrap();
    let asked = vec![Message::system("s"), Message::user("p\nq")];
    assert_eq!((row.prompt, &*row.response), (asked.into(), "yes"));
    let pair = r#"{"instruction":"p","chosen":"yes","rejected":"no"}"#;
    assert_eq!(learnt(pair).unwrap().response, "yes");
    assert_eq!(
        message(learnt(r#"{"instruction":"p"}"#)),
        "response: expected a string, got nothing"
    );
    // Next to another prompt it is plain data.
    let row = r#"{"prompt":"q","instruction":"p","response":"yes"}"#;
    assert_eq!(learnt(row).unwrap().prompt, "q".into());
}

fn group(area: &str, part: Option<&str>) -> Option<Group> {
    Some(Group {
        area: area.to_owned(),
        part: part.map(str::to_owned),
    })
}

/// One row of each format, the recognised format, and its pair.
#[test]
fn every_format_is_recognised_and_read() {
    let one = |prompt: &str, images: &[&str]| pair(prompt, "yes", "no", images);
    let turn = |text: &str, images: &[&str]| pair(vec![Message::user(text)], "yes", "no", images);
    for (row, format, expected) in [
        (
            r#"{"prompt":"p","img_path":"a.png","chosen":"yes","rejected":"no"}"#,
            "pairwise",
            one("p", &["a.png"]),
        ),
        (
            r#"{"prompt":"p","completions":[{"annotations":{"A":{"Rating":"1"}},"response":"no"},{"annotations":{"A":{"Rating":"2"}},"response":"yes"}]}"#,
            "vlfeedback",
            one("p", &[]),
        ),
        (
            r#"{"prompt":"p","img_path":"a.png","responses":["no","yes"],"chosen_index":1}"#,
            "responses",
            one("p", &["a.png"]),
        ),
        (
            r#"{"prompt":"p","responses":["no","yes","?"],"ratings":[0.5,2,null]}"#,
            "responses",
            one("p", &[]),
        ),
        (
            r#"{"prompt":"p","chosen":"yes","rejected":"no","images":["a.png","b.png"]}"#,
            "trl",
            turn("p", &["a.png", "b.png"]),
        ),
        (
            r#"{"prompt":[{"role":"user","content":[{"type":"image","text":null},{"type":"text","text":"p"}]}],"chosen":[{"role":"assistant","content":[{"type":"text","text":"yes"}]}],"rejected":[{"role":"assistant","content":"no"}],"images":[{"bytes":null,"path":"a.png"}]}"#,
            "trl",
            turn("<image>\np", &["a.png"]),
        ),
        (
            r#"{"chosen":[{"role":"user","content":"p"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"p"},{"role":"assistant","content":"no"}]}"#,
            "trl",
            turn("p", &[]),
        ),
        (
            r#"{"messages":[{"role":"user","content":"<image>p"},{"role":"assistant","content":"yes"}],"rejected_response":"no","images":["a.png"]}"#,
            "ms-swift",
            turn("<image>p", &["a.png"]),
        ),
        (
            r#"{"messages":[{"role":"user","content":"<image> or <image>?"},{"role":"assistant","content":"yes"}],"rejected_response":"no","images":["a.png","b.png"]}"#,
            "ms-swift",
            turn("<image> or <image>?", &["a.png", "b.png"]),
        ),
        (
            r#"{"image":"a.png","question":"<image>\np","chosen":"yes","rejected":"no"}"#,
            "internvl",
            turn("<image>\np", &["a.png"]),
        ),
        (
            r#"{"instruction":"p","input":"q","chosen":"yes","rejected":"no","images":["a.png"],"output":"","history":[]}"#,
            "alpaca",
            turn("p\nq", &["a.png"]),
        ),
        (
            r#"{"instruction":"p<image>","input":"","chosen":"yes","rejected":"no","image":"a.png"}"#,
            "alpaca",
            turn("p<image>", &["a.png"]),
        ),
        (
            r#"{"input":{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"a.png"}},{"type":"text","text":"p"}]}],"tools":[],"parallel_tool_calls":true},"preferred_output":[{"role":"assistant","content":"yes"}],"non_preferred_output":[{"role":"assistant","content":"no"}]}"#,
            "openai",
            turn("<image>\np", &["a.png"]),
        ),
        (
            r#"{"id":"RLAIF-V-14","image_path":"images/rlaif-v/a.jpg","query":"p","response":["no","yes"],"human_ranking":[1,0]}"#,
            "vl-rewardbench",
            one("p", &["images/rlaif-v/a.jpg"]),
        ),
        (
            r#"{"id":7,"image":"long/a.jpg","prompt":"<image>\np","chosen":"yes","rejected":"no","chosen_reason":"","rejected_reason":""}"#,
            "mm-rlhf-rewardbench",
            one("p", &["long/a.jpg"]),
        ),
        (
            r#"{"ID":"math_1","Text":"p","Image":"images/a.jpg","Output1":"no","Output2":"yes","Better":"Output2","Category":"reasoning"}"#,
            "multimodal-rewardbench",
            one("p", &["images/a.jpg"]),
        ),
    ] {
        let fields = Fields::parse(row, &CarriedKeys::default()).unwrap();
        assert_eq!(Format::of(&fields).unwrap().name(), format, "{row}");
        let pairs = PreferenceRow::parse(row).unwrap().pairs;
        assert_eq!(pairs, [expected], "{row}");
        assert_eq!(named(format).to_string(), format);
    }
}

#[test]
fn broken_rows_of_other_formats_say_what_is_wrong() {
    for (row, expected) in [
        (
            r#"{"instruction":"p","chosen":"yes"}"#,
            "rejected: expected a string, got nothing",
        ),
        (
            r#"{"instruction":"p","input":7,"chosen":"yes","rejected":"no"}"#,
            "input: expected a string, got a number",
        ),
        (
            r#"{"instruction":"<image>","chosen":"yes","rejected":"no"}"#,
            "instruction: expected one <image> in the prompt for each image, or none at all: got 1 for 0 images",
        ),
        (
            r#"{"preferred_output":[],"non_preferred_output":[]}"#,
            "input: expected an object with messages, got nothing",
        ),
        (
            r#"{"input":"p","preferred_output":[]}"#,
            "input: expected an object with messages, got a string",
        ),
        (
            r#"{"input":{"messages":[{"role":"user","content":"p"}],"tools":[{"type":"function"}]},"preferred_output":[]}"#,
            "input: tools: calls of tools are not supported",
        ),
        (
            r#"{"input":{"messages":[{"role":"user","content":"p"}]},"preferred_output":[]}"#,
            "preferred_output: expected a list of one message of role assistant, got 0",
        ),
        (
            r#"{"input":{"messages":[{"role":"user","content":"p"}]},"preferred_output":[{"role":"assistant","content":"yes"}],"non_preferred_output":"no"}"#,
            "non_preferred_output: expected a list of one message of role assistant, got a string",
        ),
        (
            r#"{"prompt":"p","responses":["a","b"],"chosen_index":2}"#,
            "chosen_index: expected the place of the best of 2 responses, got 2",
        ),
        (
            r#"{"prompt":"p","responses":["a","b"]}"#,
            "expected chosen_index or ratings: which response is the better one",
        ),
        (
            r#"{"prompt":"p","responses":["a","b"],"ratings":[1]}"#,
            "ratings: expected one for each of 2 responses, got 1",
        ),
        (
            r#"{"chosen":[{"role":"tool","content":"s"}],"rejected":[]}"#,
            "chosen: [0]: expected a message of role system, user or assistant, got one of role tool",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"rejected_response":"x"}"#,
            "messages: expected a last message of role assistant",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"}],"rejected_response":"x"}"#,
            "messages: [1]: expected a message of role assistant, got one of role user (turns alternate; a system message is the first one)",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            NO_KEYS,
        ),
        (
            r#"{"messages":[{"role":"user","content":"<image> or <image>?"},{"role":"assistant","content":"b"}],"rejected_response":"x","images":["a"]}"#,
            "messages: expected one <image> in the prompt for each image, or none at all: got 2 for 1 images",
        ),
        (
            r#"{"prompt":"p","chosen":"c","rejected":"r","images":[{"bytes":"x","path":null}]}"#,
            "images: [0]: bytes: expected base64: Invalid input length: 1",
        ),
        (
            r#"{"chosen":"pc","rejected":"pr","images":[]}"#,
            "prompt: expected a string, a list of messages, or chosen and rejected that begin with them",
        ),
        (
            r#"{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"user","content":"p"},{"role":"assistant","content":"c"}],"rejected":"r"}"#,
            "expected chosen and rejected to answer the same prompt",
        ),
        (
            r#"{"id":"x","query":"p","response":["a","b"],"human_ranking":[0,0],"image":"a"}"#,
            "human_ranking: expected [0, 1] or [1, 0], got [0,0]",
        ),
        (
            r#"{"id":"1","prompt":"p","chosen":"c","rejected":"r","video":"v/1"}"#,
            "video: videos are not supported",
        ),
        (
            r#"{"Text":"p","Output1":"a","Output2":"b","Better":"1"}"#,
            "Better: expected Output1 or Output2, got 1",
        ),
    ] {
        assert_eq!(message(PreferenceRow::parse(row)), expected, "{row}");
    }
}

#[test]
fn benchmarks_file_their_rows_as_the_official_scripts_do() {
    let group_of = |row: &str| PreferenceRow::parse(row).unwrap().group;
    let vl = |id: &str, path: &str| {
        group_of(&format!(
            r#"{{"id":"{id}"{path},"query":"p","response":["a","b"],"human_ranking":[0,1]}}"#
        ))
    };
    let folder = r#","image_path":"images/povid/a.jpg""#;
    assert_eq!(vl("x", folder), group("hallucination", Some("povid")));
    assert_eq!(
        vl("mmmu_pro_test_1", ""),
        group("reasoning", Some("reasoning_tasks"))
    );
    assert_eq!(
        vl("hallucination_1", ""),
        group("hallucination", Some("povid"))
    );
    assert_eq!(
        vl("wildvision-1", ""),
        group("general", Some("wildvision-battle"))
    );
    let other = r#","image_path":"elsewhere/a.jpg""#;
    assert_eq!(
        vl("LRVInstruction-7", other),
        group("general", Some("vlfeedback"))
    );

    let multimodal = |id: &str, category: &str| {
        group_of(&format!(
            r#"{{"ID":"{id}","Text":"p","Image":"a","Output1":"a","Output2":"b","Better":"Output1","Category":"{category}"}}"#
        ))
    };
    assert_eq!(
        multimodal("PAIRS_1", "safety"),
        group("safety", Some("bias"))
    );
    assert_eq!(
        multimodal("memes_1", "safety"),
        group("safety", Some("toxicity"))
    );
    assert_eq!(
        multimodal("EMMA_1", "reasoning"),
        group("reasoning", Some("coding"))
    );
    assert_eq!(multimodal("math_1", "vqa"), group("vqa", None));

    let row = r#"{"id":"q1","image":"images/short_long/a.jpg","prompt":"p","chosen":"a","rejected":"b","chosen_reason":""}"#;
    let row = PreferenceRow::parse(row).unwrap();
    assert_eq!(
        (row.group, row.question.as_deref()),
        (group("long", None), Some("q1"))
    );
}

#[test]
fn a_file_is_of_the_format_of_its_first_row() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let pairwise = r#"{"prompt":"p","chosen":"c","rejected":"r"}"#;
    write!(file, "\nnot JSON\n{{}}\n{pairwise}\n").unwrap();
    let reader = PreferenceReader::recognise(file.path(), CarriedKeys::default()).unwrap();
    assert_eq!(reader.format(), Some(named("pairwise")));
    let other = r#"{"question":"p","chosen":"c","rejected":"r"}"#;
    let expected = "expected a row of format pairwise, as the file's first, got internvl";
    assert_eq!(message(reader.read(other)), expected);
    assert!(
        PreferenceReader::named(named("internvl"), CarriedKeys::default())
            .read(other)
            .is_ok()
    );
    let expected = "question: expected a string, got nothing";
    assert_eq!(
        message(PreferenceReader::named(named("internvl"), CarriedKeys::default()).read(pairwise)),
        expected
    );
}

#[test]
fn a_file_without_a_known_row_has_no_format() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[1]\n{}\n").unwrap();
    let reader = PreferenceReader::recognise(file.path(), CarriedKeys::default()).unwrap();
    assert_eq!(reader.format(), None);
    assert_eq!(message(reader.read("{}")), NO_KEYS);
    assert!(
        message(PreferenceReader::recognise(
            Path::new("no/such"),
            CarriedKeys::default()
        ))
        .starts_with("no/such: ")
    );
    let unknown = message("csv".parse::<Format>());
    assert!(
        unknown.starts_with("format csv: expected one of pairwise, vlfeedback"),
        "{unknown}"
    );
}

#[test]
fn a_chosen_answer_of_any_format_can_be_imitated() {
    let row = r#"{"question":"p","chosen":"c","rejected":"r","image":"a.png"}"#;
    let row = sft(row, &CarriedKeys::default()).unwrap();
    assert_eq!(
        (row.prompt, row.response.as_str()),
        (vec![Message::user("p")].into(), "c")
    );
    assert_eq!(row.images, files(&["a.png"]));
    let rated = r#"{"prompt":"p","responses":["a","b"],"ratings":[1,2]}"#;
    let expected = "expected response, or one chosen, got rated responses";
    assert_eq!(message(sft(rated, &CarriedKeys::default())), expected);
}
