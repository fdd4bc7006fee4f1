//! System messages and several turns, in every format that has them.

use super::*;

#[test]
fn conversations_keep_their_system_message_and_turns() {
    let turns = || {
        vec![
            Message::system("s"),
            Message::user("<image>a"),
            Message::assistant("b"),
            Message::user("c"),
        ]
    };
    let text = r#"{"role":"system","content":"s"},{"role":"user","content":"<image>a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}"#;
    let answer = |text: &str| format!(r#"{{"role":"assistant","content":"{text}"}}"#);
    let (yes, no) = (answer("yes"), answer("no"));
    for row in [
        format!(r#"{{"messages":[{text},{yes}],"rejected_response":"no","images":["i"]}}"#),
        format!(
            r#"{{"messages":[{text},{yes}],"rejected_messages":[{text},{no}],"images":["i"]}}"#
        ),
        format!(r#"{{"prompt":[{text}],"chosen":[{yes}],"rejected":[{no}],"images":["i"]}}"#),
        format!(r#"{{"prompt":[{text}],"chosen":"yes","rejected":"no","images":["i"]}}"#),
        format!(r#"{{"chosen":[{text},{yes}],"rejected":[{text},{no}],"images":["i"]}}"#),
    ] {
        let pairs = PreferenceRow::parse(&row).unwrap().pairs;
        assert_eq!(pairs, [pair(turns(), "yes", "no", &["i"])], "{row}");
    }
    let learnt = sft(
        &format!(r#"{{"messages":[{text},{yes}],"images":["i"]}}"#),
        &CarriedKeys::default(),
    );
    let learnt = learnt.unwrap();
    assert_eq!((learnt.prompt, &*learnt.response), (turns().into(), "yes"));
}

#[test]
fn a_system_message_and_earlier_turns_may_have_their_own_keys() {
    let whole = |first: &str| {
        let texts = [
            Message::system("s"),
            Message::user(first),
            Message::assistant("b"),
            Message::user("c"),
        ];
        pair(texts.to_vec(), "yes", "no", &["i"])
    };
    let extra = r#""system":"s","history":[["a","b"]]"#;
    for row in [
        format!(r#"{{"prompt":"c","img_path":"i","chosen":"yes","rejected":"no",{extra}}}"#),
        format!(r#"{{"prompt":"c","images":["i"],"chosen":"yes","rejected":"no",{extra}}}"#),
        format!(r#"{{"question":"c","image":"i","chosen":"yes","rejected":"no",{extra}}}"#),
        format!(
            r#"{{"messages":[{{"role":"user","content":"c"}},{{"role":"assistant","content":"yes"}}],"rejected_response":"no","images":["i"],{extra}}}"#
        ),
        format!(
            r#"{{"prompt":"c","images":["i"],"responses":["no","yes"],"ratings":["1", 2],{extra}}}"#
        ),
    ] {
        assert_eq!(
            PreferenceRow::parse(&row).unwrap().pairs,
            [whole("a")],
            "{row}"
        );
    }
    let messages =
        r#""history":[{"role":"user","content":"<image>a"},{"role":"assistant","content":"b"}]"#;
    let row = format!(
        r#"{{"prompt":"c","img_path":"i","chosen":"yes","rejected":"no","system_prompt":"s",{messages}}}"#
    );
    assert_eq!(
        PreferenceRow::parse(&row).unwrap().pairs,
        [whole("<image>a")]
    );
    let twice = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"c"},{"role":"assistant","content":"yes"}],"rejected_response":"no","system":"t"}"#;
    assert_eq!(
        message(PreferenceRow::parse(twice)),
        "expected one system message, got two"
    );
}

#[test]
fn the_conversations_of_llama_factory_and_internvl_are_read() {
    let asked = r#"{"from":"system","value":"s"},{"from":"human","value":"<image>a"},{"from":"gpt","value":"b"},{"from":"human","value":"c"}"#;
    let texts = [
        Message::system("s"),
        Message::user("<image>a"),
        Message::assistant("b"),
        Message::user("c"),
    ];
    let expected = pair(texts.to_vec(), "yes", "no", &["i"]);
    let sides = r#""chosen":{"from":"gpt","value":"yes"},"rejected":{"from":"gpt","value":"no"}"#;
    for row in [
        format!(r#"{{"conversations":[{asked}],{sides},"images":["i"]}}"#),
        format!(r#"{{"conversations":[{asked}],"chosen":"yes","rejected":"no","image":"i"}}"#),
    ] {
        let fields = Fields::parse(&row, &CarriedKeys::default()).unwrap();
        assert_eq!(Format::of(&fields).unwrap().name(), "llama-factory");
        assert_eq!(
            PreferenceRow::parse(&row).unwrap().pairs,
            std::slice::from_ref(&expected),
            "{row}"
        );
    }
    let learnt =
        format!(r#"{{"image":"i","conversations":[{asked},{{"from":"gpt","value":"yes"}}]}}"#);
    let learnt = sft(&learnt, &CarriedKeys::default()).unwrap();
    assert_eq!((learnt.prompt, &*learnt.response), (expected.prompt, "yes"));
    let asked = r#"{"conversations":[],"chosen":{"from":"human","value":"x"},"rejected":"y"}"#;
    assert!(
        message(PreferenceRow::parse(asked)).starts_with("conversations: expected a last message")
    );
}

#[test]
fn images_may_be_named_within_messages() {
    for part in [
        r#"{"type":"image","image":"i"}"#,
        r#"{"type":"image","path":"i"}"#,
        r#"{"type":"image_url","image_url":{"url":"i"}}"#,
        r#"{"type":"input_image","image_url":"i"}"#,
    ] {
        let asked = format!(
            r#"{{"role":"user","content":[{{"type":"text","text":"see "}},{part},{{"type":"text","text":"?"}}]}}"#
        );
        let row = format!(r#"{{"prompt":[{asked}],"chosen":"yes","rejected":"no"}}"#);
        let expected = pair(vec![Message::user("see <image>\n?")], "yes", "no", &["i"]);
        assert_eq!(
            PreferenceRow::parse(&row).unwrap().pairs,
            [expected],
            "{row}"
        );
        let both =
            format!(r#"{{"prompt":[{asked}],"chosen":"yes","rejected":"no","images":["j"]}}"#);
        let expected = "expected images in the messages or under images, got both";
        assert_eq!(message(PreferenceRow::parse(&both)), expected);
    }
    let answered = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"image","image":"i"}]}],"rejected_response":"x"}"#;
    let expected = "messages: [1]: content: expected images in messages of role user only, got one in a message of role assistant";
    assert_eq!(message(PreferenceRow::parse(answered)), expected);
}

#[test]
fn a_margin_counts_in_every_format() {
    for row in [
        r#"{"prompt":"p","chosen":"c","rejected":"r","margin":5}"#,
        r#"{"prompt":"p","chosen":"c","rejected":"r","images":null,"margin":5}"#,
        r#"{"question":"p","chosen":"c","rejected":"r","margin":5}"#,
        r#"{"messages":[{"role":"user","content":"p"},{"role":"assistant","content":"c"}],"rejected_response":"r","margin":5}"#,
        r#"{"conversations":[{"from":"human","value":"p"}],"chosen":"c","rejected":"r","margin":5}"#,
        r#"{"prompt":"p","responses":["c","r"],"chosen_index":0,"margin":5}"#,
    ] {
        assert_eq!(
            PreferenceRow::parse(row).unwrap().pairs[0].margin,
            5.0,
            "{row}"
        );
    }
}

#[test]
fn rows_without_images_are_of_the_format_of_the_others() {
    let row = |images: &str| format!(r#"{{"prompt":"p","chosen":"c","rejected":"r"{images}}}"#);
    let (none, null, one) = (row(""), row(r#","images":null"#), row(r#","images":["i"]"#));
    for rows in [
        [&none, &null, &one],
        [&null, &one, &none],
        [&one, &none, &null],
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for row in rows {
            writeln!(file, "{row}").unwrap();
        }
        let reader = PreferenceReader::recognise(file.path(), CarriedKeys::default()).unwrap();
        assert_eq!(reader.format(), Some(named("trl")));
        for row in rows {
            reader.read(row).unwrap();
        }
    }
}

#[test]
fn ratings_may_be_texts_and_numbers_of_python() {
    let row = r#"{"prompt":"p","responses":["a","b","c","d"],"ratings":["4",NaN,Infinity,"N/A"]}"#;
    let row = PreferenceRow::parse(row).unwrap();
    assert_eq!(
        (row.pairs.len(), row.ties_dropped, row.non_numeric_dropped),
        (1, 2, 3)
    );
    assert_eq!((&*row.pairs[0].chosen, &*row.pairs[0].rejected), ("c", "a"));
}
