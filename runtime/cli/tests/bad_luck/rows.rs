//! Invalid rows, and unusual files.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::support::{Bench, assert_exit};

const GOOD: &str = r#"{"prompt":"p","responses":["a"]}"#;

#[test]
fn bad_rows_are_reported_by_line_and_spoil_no_other() {
    let long = format!(
        "{{\"prompt\":\"{}\",\"responses\":[\"a\"]}}",
        "p".repeat(65_000_000)
    );
    let bad: [(&[u8], &str); 12] = [
        (
            br#"{"prompt":"p","responses":["a""#,
            "not JSON: column 30: EOF while parsing a list",
        ),
        (br#"["prompt"]"#, "expected an object, got a list"),
        (br#""prompt""#, "expected an object, got a string"),
        (
            br#"{"prompt":3,"responses":["a"]}"#,
            "prompt: expected a string, got a number",
        ),
        (
            br#"{"responses":["a"]}"#,
            "prompt: expected a string, got nothing",
        ),
        (
            br#"{"prompt":"p","responses":"a"}"#,
            "responses: expected a list of strings, got a string",
        ),
        (
            br#"{"prompt":"p","responses":["a",{}]}"#,
            "responses: [1]: expected a string, got an object",
        ),
        (
            br#"{"prompt":"p","responses":[]}"#,
            "responses: expected at least one",
        ),
        (
            br#"{"prompt":"p","img_path":7,"responses":["a"]}"#,
            "img_path: expected a path, or an object with path or bytes, got a number",
        ),
        (
            b"{\"prompt\":\"\xff\",\"responses\":[\"a\"]}",
            "not UTF-8: byte 12 of the row is 0xff",
        ),
        (
            br#"{"prompt":"\ud800","responses":["a"]}"#,
            "prompt: not JSON: column 8: unexpected end of hex escape",
        ),
        (
            long.as_bytes(),
            "expected a line of at most 64000000 bytes, got 65000032",
        ),
    ];
    let mut input = Vec::new();
    for (row, _) in &bad {
        input.extend([GOOD.as_bytes(), b"\n", row, b"\n"].concat());
    }
    let bench = Bench::new(input);
    assert_exit(&bench.run("out", &[]), 1, "12 rows failed: ");
    assert_eq!(bench.json_lines("out").len(), bad.len());
    let expected: Vec<(u64, String)> = (1..)
        .zip(&bad)
        .map(|(n, (_, m))| (2 * n, (*m).to_owned()))
        .collect();
    assert_eq!(bench.errors("out"), expected);
}

#[test]
fn keys_that_hold_images_or_turns_are_refused_unless_they_are_declared_plain() {
    let row = |extra: &str| format!("{{\"prompt\":\"p\",\"responses\":[\"a\"],{extra}}}\n");
    let bench = Bench::new(
        [
            row(r#""image_path":["vqa0.png"]"#),
            row(r#""img_url":"vqa0.png""#),
            row(r#""history":[["q","a"]]"#),
            row(r#""video":{"path":"v.mp4"}"#),
            row(r#""image":12,"margin":0.5"#),
        ]
        .concat(),
    );
    assert_exit(&bench.run("out", &[]), 1, "3 rows failed: ");
    let errors = bench.errors("out");
    let lines: Vec<u64> = errors.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 4]);
    assert_eq!(
        errors[1].1,
        "img_url: not read in scoring rows: their images are under img_path, images or image (plain data? --carry \
         img_url, in a training config carry: [img_url])"
    );
    let carry = ["--carry", "img_url", "--carry", "image_path"];
    assert_exit(&bench.run("carried", &carry), 1, "1 rows failed: ");
    let carried = bench.json_lines("carried");
    assert_eq!(carried[0]["image_path"][0], "vqa0.png");
    // The declaration decides the bytes, so that a run resumes only with the same one.
    assert_exit(&bench.run("carried", &[]), 2, "carry was");
    assert_exit(&bench.run("out", &carry), 2, "carry was not set");
}

#[test]
fn a_line_of_ten_megabytes_is_scored() {
    let carried = "x".repeat(10_000_000);
    let prompt = "word ".repeat(20_000);
    let row =
        format!("{{\"prompt\":\"{prompt}\",\"responses\":[\"a\"],\"carried\":\"{carried}\"}}\n");
    let bench = Bench::new(row);
    assert_exit(&bench.run("out", &[]), 0, "1 responses");
    let line = &bench.json_lines("out")[0];
    assert_eq!(line["carried"].as_str().unwrap().len(), carried.len());
    assert_eq!(line["truncated"], true);
}

#[test]
fn an_empty_file_gives_empty_files() {
    for input in ["", "\n\r\n", "\u{feff}"] {
        let bench = Bench::new(input);
        assert_exit(&bench.run("out", &[]), 0, "0 rows, 0 responses");
        assert_eq!(
            (bench.read("out"), bench.read("out.errors")),
            Default::default()
        );
    }
}

#[test]
fn a_byte_order_mark_and_other_line_ends_change_no_byte() {
    let rows = [GOOD, "", "no row", GOOD];
    let (plain, odd) = (
        Bench::new(rows.join("\n")),
        Bench::new("\u{feff}".to_owned() + &rows.join("\r\n")),
    );
    for bench in [&plain, &odd] {
        assert_exit(&bench.run("out", &[]), 1, "1 rows failed");
    }
    for file in ["out", "out.errors"] {
        assert_eq!(odd.read(file), plain.read(file));
    }
}

#[test]
fn a_missing_input_is_reported_before_anything_is_written() {
    let bench = Bench::new("");
    std::fs::remove_file(bench.path("in.jsonl")).unwrap();
    assert_exit(
        &bench.run("out", &[]),
        2,
        "in.jsonl: No such file or directory",
    );
    std::fs::create_dir(bench.path("in.jsonl")).unwrap();
    assert_exit(
        &bench.run("out", &[]),
        2,
        "in.jsonl: expected a file, got a folder",
    );
    assert_eq!(bench.files(), ["in.jsonl"]);
}

/// A row with some changed bytes.
fn damaged_row() -> impl Strategy<Value = Vec<u8>> {
    let rows = [
        r#"{"prompt":"what <image>","img_path":"vqa0.png","responses":["a","<IMG_CONTEXT>"],"n":1e5}"#,
        r#"{"prompt":"p\u00e9","img_path":["vqa0.png","vqa1.png"],"responses":["","\"\\"],"d":[{"x":[null,true]}]}"#,
        GOOD,
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = prop::collection::vec(change, 0..3);
    (
        prop::sample::select(rows.to_vec()),
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(row, changes, end, cut)| {
            let mut row = row.as_bytes().to_vec();
            for (place, byte) in changes {
                let place = place.index(row.len());
                row[place] = byte;
            }
            row.truncate(if cut { end.index(row.len()) } else { row.len() });
            row
        })
}

proptest! {
    #![proptest_config(Config { cases: 4, rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_row_is_scored_or_reported(rows in prop::collection::vec(damaged_row(), 200)) {
        let mut input = rows.join(&b'\n');
        input.push(b'\n');
        let bench = Bench::new(input);
        let run = bench.run("out", &["--stats", bench.path("stats").to_str().unwrap()]);
        prop_assert!(matches!(run.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&run.stderr));
        let failed = bench.errors("out").len() as u64;
        let stats: serde_json::Value = serde_json::from_str(&bench.read("stats")).unwrap();
        prop_assert_eq!(stats["errors"].as_u64().unwrap(), failed);
        prop_assert_eq!(stats["responses"].as_u64().unwrap(), bench.json_lines("out").len() as u64);
        prop_assert!(failed > 0 && stats["rows"].as_u64().unwrap() > failed);
    }
}
