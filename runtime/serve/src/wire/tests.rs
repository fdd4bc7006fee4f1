//! Bodies that are damaged: an error of one shape or a row, never a panic.

use super::*;

const MESSAGES: &str = r#"[{"role":"user","content":[{"type":"image","image":"a.png"},{"type":"text","text":"q"}]},{"role":"assistant","content":"Red."}]"#;
const PROMPT: &str = r"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>q<|im_end|>\n<|im_start|>assistant\n";

/// Reads many damaged copies of `body`; the number of those that had a row.
fn damage<W: Wire>(body: &str) -> usize {
    let context = Context {
        labels_are_images: true,
        ..Context::default()
    };
    let read = |body: &[u8]| match W::read(body, &context) {
        Ok((_, rows)) => rows.iter().filter(|row| row.is_ok()).count(),
        Err(refusal) => {
            assert!([400, 422].contains(&refusal.status.as_u16()), "{refusal:?}");
            0
        }
    };
    assert_eq!(read(body.as_bytes()), 1, "{body}");
    let (mut state, mut rows) = (1u64, 0);
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..2000 {
        let mut damaged = body.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(damaged.len());
            match random(4) {
                0 => drop(damaged.remove(at)),
                1 => damaged[at] = random(256) as u8,
                2 => damaged.truncate(at.max(1)),
                _ => {
                    let end = (at + random(20)).min(damaged.len());
                    let copy = damaged[at..end].to_vec();
                    damaged.splice(at..at, copy);
                }
            }
        }
        rows += read(&damaged);
    }
    rows
}

#[test]
fn damaged_bodies_are_refused_or_read() {
    let labels = r#"[{"images":["a.png"],"prompt":"q"}]"#;
    let rows = [
        damage::<Rewards>(&format!(
            r#"{{"id":1,"messages":{MESSAGES},"images":null}}"#
        )),
        damage::<Rewards>(
            r#"{"requests":[{"prompt":"q","images":["a.png"],"responses":["r","s"]}]}"#,
        ),
        damage::<ChatCompletion>(&format!(r#"{{"model":"m","messages":{MESSAGES},"n":1}}"#)),
        damage::<Classify>(&format!(
            r#"{{"messages":{MESSAGES},"use_activation":false}}"#
        )),
        damage::<GetReward>(&format!(
            r#"{{"query":["{PROMPT}Red.<|im_end|>"],"prompts":["{PROMPT}"],"labels":{labels}}}"#
        )),
        damage::<RemoteReward>(r#"{"prompt":"<image>q","response":"r","label":"a.png"}"#),
    ];
    // Damage within texts leaves a row.
    assert!(
        rows.iter().all(|rows| (20..1980).contains(rows)),
        "{rows:?}"
    );
}
