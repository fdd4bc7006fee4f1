//! JSONL files of rows to score.

use std::fs;
use std::io::Cursor;

use proptest::prelude::*;
use seeward_models::sample::{CarriedKeys, Lines, ScoreRow, Scored};

use crate::damage::damaged;
use crate::{check_message, fuzz, golden};

const ROWS: &str = concat!(
    "{\"prompt\":\"p\",\"img_path\":[\"a.png\",\"b.png\"],\"responses\":[\"a\",\"\\u00e9\\ud83d\\ude00\"],\"n\":1.50}\r\n",
    "\n",
    "{\"responses\":[\"\"],\"x\":{\"y\":[1,null,{}]},\"prompt\":\"<image>\\n\"}\n",
);

#[test]
fn damaged_rows_are_read_or_refused() {
    let cases = fs::read(golden("forward/qwen2/cases.jsonl")).unwrap();
    let files = vec![cases, ROWS.as_bytes().to_vec()];
    fuzz(300, damaged(files), |bytes| {
        for line in Lines::new(Cursor::new(&bytes)) {
            let (_, text) = line.unwrap();
            let row = text.and_then(|text| ScoreRow::parse(&text, &CarriedKeys::default()));
            let Some(row) = check_message(row)? else {
                continue;
            };
            let score = Scored {
                score: 0.5,
                truncated: false,
            };
            // A row that was read can be written: a line of JSON for each response.
            let lines = row.lines(&vec![score; row.responses.len()]);
            let Some(lines) = check_message(lines)? else {
                continue;
            };
            for line in lines.lines() {
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
                prop_assert!(parsed.is_ok(), "{}", line);
            }
            prop_assert_eq!(lines.lines().count(), row.responses.len());
        }
        Ok(())
    });
}
