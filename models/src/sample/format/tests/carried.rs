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
    let internvl =
        r#"{"image":"i","question":"q","chosen":"c","rejected":"r","margin":2}"#.to_owned();
    let rated =
        r#"{"prompt":"p","responses":["x","y"],"chosen_index":0,"images":["i"]}"#.to_owned();
    for (row, expected) in [
        (
            pair(r#""image_path":"i""#),
            "image_path: not read in rows of format pairwise: their images are under img_path, or",
        ),
        (pair(r#""img_paths":["i"]"#), "img_paths: not read in"),
        (pair(r#""system":"s""#), "system: system messages are not"),
        (
            pair(r#""history":[["q","a"]]"#),
            "history: earlier turns are not supported",
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
            swift(r#""margin":5"#),
            "margin: not read in rows of format ms-swift: margins are read in rows of pairwise and trl",
        ),
        (internvl, "margin: not read in rows of format internvl"),
        (
            rated,
            "images: not read in rows of format responses: their images are under img_path",
        ),
    ] {
        let error = message(PreferenceRow::parse(&row));
        assert!(error.starts_with(expected), "{row}: {error}");
    }
    for row in [
        pair(r#""margin":2"#),
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
