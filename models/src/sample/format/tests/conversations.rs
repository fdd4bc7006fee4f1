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
