//! Keys that a format does not read: refused, or carried.

use super::*;

#[test]
fn keys_that_hold_images_turns_or_margins_are_read_or_refused() {
    let pair = |extra: &str| format!(r#"{{"prompt":"p","chosen":"c","rejected":"r",{extra}}}"#);
    let swift = |extra: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"c"}}],"rejected_response":"r",{extra}}}"#
        )
    };
    let rated =
        r#"{"prompt":"p","responses":["x","y"],"chosen_index":0,"images_path":["i"]}"#.to_owned();
    for (row, expected) in [
        (
            pair(r#""image_path":"i""#),
            "image_path: not read in rows of format pairwise: their images are under img_path, or",
        ),
        (pair(r#""img_paths":["i"]"#), "img_paths: not read in"),
        (
            pair(r#""chosen_system":"s""#),
            "chosen_system: not read in rows of format pairwise: a",
        ),
        (
            pair(r#""system":["s"]"#),
            "system: not read in rows of format pairwise: a system message",
        ),
        (
            pair(r#""history":"q""#),
            "history: not read in rows of format pairwise: earlier turns",
        ),
        (
            pair(r#""dialogue":["q"]"#),
            "dialogue: not read in rows of format pairwise: earlier",
        ),
        (
            pair(r#""history":[["q"]]"#),
            "history: [0]: expected a question and its answer",
        ),
        (
            pair(r#""system":"s","system_prompt":"s""#),
            "system_prompt: expected one system message",
        ),
        (
            pair(r#""margin":NaN"#),
            "margin: expected a number, got NaN or an infinity",
        ),
        (
            pair(r#""videos":["v"]"#),
            "videos: videos are not supported",
        ),
        (
            pair(r#""images":["i"],"img_path":"i""#),
            "img_path: not read in rows of format trl: their images are under images or image",
        ),
        (
            swift(r#""videos":["v"]"#),
            "videos: videos are not supported",
        ),
        (
            rated,
            "images_path: not read in rows of format responses: their images are under img_path",
        ),
    ] {
        let error = message(PreferenceRow::parse(&row));
        assert!(error.starts_with(expected), "{row}: {error}");
    }
    for row in [
        pair(r#""margin":2,"image":"","video":"","history":[],"system":"""#),
        swift(r#""videos":[],"margin":0,"system":"""#),
    ] {
        PreferenceRow::parse(&row).unwrap();
    }
    let supervised = r#"{"prompt":"p","response":"r","image_path":["i"]}"#;
    assert!(message(sft(supervised, &CarriedKeys::default())).starts_with("image_path: not read"));
}

#[test]
fn carried_keys_are_plain_data() {
    let row = r#"{"prompt":"p","chosen":"c","rejected":"r","system":"gpt"}"#;
    let reader = PreferenceReader::named(named("pairwise"), CarriedKeys::from_iter(["system"]));
    assert_eq!(reader.read(row).unwrap().pairs.len(), 1);
    let supervised = r#"{"prompt":"p","response":"r","image_url":"i"}"#;
    sft(supervised, &CarriedKeys::from_iter(["image_url"])).unwrap();
}
