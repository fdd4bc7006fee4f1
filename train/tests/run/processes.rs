//! Several processes that train together give the results of one process with their passes.

use std::fs;

use serde_json::Value;

use crate::launch::free_port;
use crate::support::{Run, golden, largest_difference, message, shortcut_aware, weights};

const ROWS: &str = "per_device_train_batch_size: 2";
const STATE: [&str; 2] = ["model.safetensors", "optimizer.safetensors"];

/// One process that takes the passes of `size` ones.
fn alone(size: usize, run: &dyn Fn(&str) -> Run, keys: &str) -> Run {
    run(&format!(
        "{ROWS}\ngradient_accumulation_steps: {size}\n{keys}"
    ))
    .succeed()
}

fn together(size: usize, run: &dyn Fn(&str) -> Run, keys: &str) -> Run {
    run(&format!("{ROWS}\n{keys}")).succeed_with(size, &[])
}

fn assert_same_bytes(one: &Run, other: &Run) {
    for file in STATE {
        let bytes = |run: &Run| fs::read(run.last().join(file)).unwrap();
        assert!(bytes(one) == bytes(other), "{file} differs");
    }
}

/// The records without the norm, whose sum over parts has another order, and the norms.
fn records(run: &Run) -> (Vec<Value>, Vec<f64>) {
    let mut records = run.records();
    for record in &mut records {
        record.as_object_mut().unwrap().remove("grad_norm");
    }
    (records, run.series("grad_norm"))
}

fn assert_same_records(one: &Run, other: &Run) {
    let ((one, norms), (other, others)) = (records(one), records(other));
    assert_eq!(one, other);
    for (norm, other) in norms.iter().zip(&others) {
        assert!((norm - other).abs() <= 1e-12 * norm, "{norm} {other}");
    }
}

/// Two ranks add two gradients in one way only, so not even the last bit may differ.
fn two_are_one(run: &dyn Fn(&str) -> Run, keys: &str) {
    let (one, two) = (alone(2, run, keys), together(2, run, keys));
    assert_same_bytes(&one, &two);
    assert_same_records(&one, &two);
}

#[test]
fn two_processes_give_the_bytes_of_one_with_two_passes() {
    two_are_one(&Run::new, "weight_decay: 0.05");
}

#[test]
fn two_processes_give_the_bytes_of_one_with_two_branches_and_a_warm_up() {
    two_are_one(
        &shortcut_aware,
        "text_branch_warmup_steps: 2\nwarmup_steps: 1\nlr_scheduler_type: cosine",
    );
}

#[test]
fn two_processes_give_the_bytes_of_one_in_bf16_with_activation_checkpointing() {
    two_are_one(&shortcut_aware, "bf16: true\ngrad_checkpoint: true");
}

#[test]
fn two_processes_give_the_bytes_of_one_with_low_rank_additions_and_dropout() {
    let keys =
        "freeze_llm: true\nuse_llm_lora: true\nlora_r: 4\nlora_dropout: 0.1\ndrop_path_rate: 0.2";
    two_are_one(&Run::new, keys);
}

#[test]
fn two_processes_give_the_bytes_of_one_in_next_token_training() {
    two_are_one(
        &Run::new,
        "algorithm: sft\nunfreeze_lm_head: true\nfreeze_backbone: true",
    );
}

/// Evaluations, the best of them, early stopping, TensorBoard and probes are one process's.
#[test]
fn evaluations_and_their_decisions_are_those_of_one_process() {
    let keys = format!(
        "max_steps: 12\nnum_train_epochs: 1\nsave_steps: 5\neval_steps: 1\nper_device_eval_batch_size: 5\n\
         load_best_model_at_end: true\nearly_stopping_patience: 2\nlearning_rate: 0.03\neval_data: {{all: {}}}",
        golden("train/pairwise.jsonl").display()
    );
    let (one, two) = (
        alone(2, &shortcut_aware, &keys),
        together(2, &shortcut_aware, &keys),
    );
    assert_same_bytes(&one, &two);
    assert_same_records(&one, &two);
    assert_eq!(one.names("checkpoint"), two.names("checkpoint"));
    let steps = one.metrics().last().unwrap()["step"].as_u64().unwrap();
    assert!(steps < 12, "stopped early");
    let probes = |run: &Run| fs::read(run.last().join("probes/probes.json")).unwrap();
    assert!(probes(&one) == probes(&two));
}

/// With more than two processes only the order of sums differs.
#[test]
fn four_processes_differ_by_rounding_only_and_give_the_same_bytes_again() {
    let one = alone(4, &shortcut_aware, "");
    let four = together(4, &shortcut_aware, "");
    let difference = largest_difference(&weights(&one.last()), &weights(&four.last()));
    // Steps of 1e-3, whose direction rounding hardly changes.
    assert!(difference < 1e-4, "{difference:e}");
    let first = |run: &Run| run.series("loss")[0];
    assert_eq!(first(&one), first(&four));
    assert_same_bytes(&four, &together(4, &shortcut_aware, ""));
}

/// Twelve rows in batches of two make six passes: eight processes, of which some have none.
#[test]
fn a_process_may_have_no_rows() {
    let keys = "max_steps: 2\nnum_train_epochs: 2";
    let (one, eight) = (alone(8, &Run::new, keys), together(8, &Run::new, keys));
    let difference = largest_difference(&weights(&one.last()), &weights(&eight.last()));
    assert!(difference < 1e-4, "{difference:e}");
    assert_eq!(one.series("loss")[0], eight.series("loss")[0]);
}

/// A checkpoint does not depend on the number of processes: rows per step decide.
#[test]
fn a_run_resumes_with_any_number_of_processes() {
    let keys = "max_steps: 3\nsave_steps: 1";
    let whole = alone(2, &Run::new, keys);
    for (first, second) in [(2, 1), (1, 2)] {
        let run = Run::new(&format!("{ROWS}\n{keys}"));
        let passes = |size: usize| format!("gradient_accumulation_steps={}", 2 / size);
        let run = run.succeed_with(first, &["--set", &passes(first)]);
        fs::remove_dir_all(run.last()).unwrap();
        let run = run.succeed_with(second, &["--set", &passes(second)]);
        assert_same_bytes(&whole, &run);
    }
}

#[test]
fn another_number_of_rows_per_step_is_refused_and_another_split_is_noticed() {
    let run = Run::new("max_steps: 2\nsave_steps: 1").succeed();
    fs::remove_dir_all(run.last()).unwrap();
    let accumulate = ["--set", "gradient_accumulation_steps=2"];
    let stderr = run.refuse(&accumulate);
    assert!(
        stderr.contains("a step of the run so far has 4 rows, now 8: choose"),
        "{stderr}"
    );
    let split = [&accumulate[..], &["--set", "per_device_train_batch_size=2"]].concat();
    let output = run.train(&split);
    assert!(output.status.success(), "{}", message(&output));
    let stderr = message(&output);
    assert!(
        stderr.contains("batches of 4 rows so far, of 2 from here"),
        "{stderr}"
    );
}

/// Rows that are skipped count for all processes, and only rank 0 reports them.
#[test]
fn skipped_rows_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let text = fs::read_to_string(golden("train/pairwise.jsonl")).unwrap();
    fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    // The second pass of the first step, the first of the second, both of the third.
    let broken = |(number, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let image = golden(&format!("images/train_{}.png", number % 4));
        row["img_path"] = match [2, 4, 5, 8, 9, 10, 11].contains(&number) {
            true => Value::from("broken.png"),
            false => serde_json::json!(image),
        };
        row.to_string() + "\n"
    };
    fs::write(
        &rows,
        text.lines().enumerate().map(broken).collect::<String>(),
    )
    .unwrap();
    let keys = format!(
        "dataset_path: {}\nshuffle: false\nmax_bad_fraction: 0.6\nmax_steps: 3",
        rows.display()
    );
    let one = alone(2, &Run::new, &keys);
    let two = Run::new(&format!("{ROWS}\n{keys}"));
    let outputs = two.launch(2, &[]).outputs();
    let notices = |rank: usize| {
        message(&outputs[rank])
            .matches("this row is skipped")
            .count()
    };
    assert_eq!((notices(0), notices(1)), (7, 0), "{}", message(&outputs[0]));
    assert_same_bytes(&one, &two);
    assert_same_records(&one, &two);
    let limit = [
        "--set",
        "max_bad_fraction=0.5",
        "--set",
        "overwrite_output_dir=true",
    ];
    for output in two.launch(2, &limit).outputs() {
        assert_eq!(output.status.code(), Some(2));
        let stderr = message(&output);
        assert!(stderr.contains("(7 of 12 rows are unreadable"), "{stderr}");
    }
}

#[test]
fn one_command_starts_all_processes() {
    let keys = "max_steps: 2";
    let one = alone(2, &Run::new, keys);
    let two = Run::new(&format!("{ROWS}\n{keys}"));
    let output = two.train(&["--processes", "2"]);
    assert!(output.status.success(), "{}", message(&output));
    assert_same_bytes(&one, &two);
    let other = Run::new(keys);
    let stderr = other.refuse(&["--processes", "2", "--set", "dataset_path=/nowhere"]);
    let error = stderr.matches("error: rank ").count();
    // Both fail; one may also hear of the other's error.
    assert!(error >= 2 && stderr.contains("/nowhere"), "{stderr}");
    let stderr = two.refuse(&["--device", "cuda:0", "--processes", "2"]);
    assert!(
        stderr.contains("or a GPU for each as cuda:0,cuda:1"),
        "{stderr}"
    );
}

#[test]
fn a_dry_run_estimates_for_several_processes() {
    let run = Run::new(&format!("{ROWS}\nmax_steps: -1\nnum_train_epochs: 2"));
    let survey = |arguments: &[&str]| -> Value {
        let output = run.train(&[&["--dry-run"][..], arguments].concat());
        assert!(output.status.success(), "{}", message(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (one, three) = (survey(&[]), survey(&["--world-size", "3"]));
    let bytes = |survey: &Value, key: &str| survey["memory"][key].as_u64().unwrap();
    assert_eq!(
        bytes(&three, "optimizer"),
        bytes(&one, "optimizer").div_ceil(3)
    );
    assert_eq!(bytes(&three, "weights"), bytes(&one, "weights"));
    let steps = |survey: &Value| survey["total_steps"].as_u64().unwrap();
    assert_eq!((steps(&one), steps(&three)), (12, 4));
}

#[test]
fn half_an_environment_is_refused_at_once() {
    let run = Run::new("");
    let mut program = run.program();
    let output = program.env("WORLD_SIZE", "2").env("RANK", "1").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        message(&output),
        "error: WORLD_SIZE=2 without MASTER_ADDR\n"
    );
}

/// Processes that were started with different configs or rows do not train.
#[test]
fn processes_that_differ_are_named() {
    let run = Run::new("max_steps: 1");
    let port = free_port();
    let start = |rank: usize, set: &str| {
        let mut command = run.rank(rank, 2, port);
        command.args(["--set", set]).spawn().unwrap()
    };
    let children = vec![start(0, "seed=1"), start(1, "seed=2")];
    for output in crate::launch::Processes(children).outputs() {
        assert_eq!(output.status.code(), Some(2));
        let stderr = message(&output);
        assert!(
            stderr.contains("rank 1 has another config than rank 0"),
            "{stderr}"
        );
    }
}
