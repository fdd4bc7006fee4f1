//! Every config is valid, and so is every command in its head comment.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use seeward_train::config::{Algorithm, Config, SchedulerKind};

const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");

fn configs(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(CONFIGS).join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let configs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert!(!configs.is_empty(), "{folder}");
    configs
}

/// The commands of the head comment, each with the values of its `--set`.
fn commands(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let head = text.lines().map_while(|line| line.strip_prefix('#'));
    let commands = head.filter_map(|line| line.trim().strip_prefix("cargo train --config "));
    let shown = |command: &str| {
        let mut words = command.split_whitespace();
        let named = Path::new(CONFIGS).join("..").join(words.next().unwrap());
        assert_eq!(named.canonicalize().unwrap(), path.canonicalize().unwrap());
        let words: Vec<&str> = words.collect();
        let sets = words.iter().zip(words.iter().skip(1));
        sets.filter(|(flag, _)| **flag == "--set")
            .map(|(_, value)| (*value).to_owned())
            .collect()
    };
    commands.map(shown).collect()
}

#[test]
fn every_config_and_command_is_valid() {
    for path in ["demo", "published", "families"]
        .into_iter()
        .flat_map(configs)
    {
        Config::load(&path, &[]).unwrap();
        let commands = commands(&path);
        assert!(!commands.is_empty(), "{}", path.display());
        for sets in commands {
            Config::load(&path, &sets).unwrap();
        }
    }
}

/// On any number of processes, the steps of published settings and of today's families have 128 pairs.
#[test]
fn steps_have_the_same_pairs_on_several_gpus() {
    for path in ["published", "families"].into_iter().flat_map(configs) {
        let (config, _) = Config::load(&path, &[]).unwrap();
        let batch = config.per_device_train_batch_size;
        assert_eq!(
            batch * config.gradient_accumulation_steps,
            128,
            "{}",
            path.display()
        );
    }
    let readme = fs::read_to_string(Path::new(CONFIGS).join("published/README.md")).unwrap();
    let families = configs("families").into_iter();
    let heads: String = families
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (text, batch) in [(readme, 4), (heads, 8)] {
        let several = text.lines().filter_map(|line| {
            let (_, line) = line.split_once("--processes ")?;
            let (processes, passes) = line.split_once(" --set gradient_accumulation_steps=")?;
            Some(processes.parse::<usize>().unwrap() * passes.parse::<usize>().unwrap())
        });
        let several: Vec<_> = several.collect();
        assert!(
            !several.is_empty() && several.iter().all(|passes| batch * passes == 128),
            "{several:?}"
        );
    }
}

#[test]
fn the_published_experiments_are_eighteen_with_the_published_settings() {
    let mut outputs = BTreeSet::new();
    for path in configs("published") {
        let runs = commands(&path);
        assert_eq!(runs.len(), 9, "{}", path.display());
        for sets in runs {
            let (config, _) = Config::load(&path, &sets).unwrap();
            let batch = config.per_device_train_batch_size * config.gradient_accumulation_steps;
            assert_eq!((batch, config.max_length), (128, 4096));
            assert_eq!((config.learning_rate, config.weight_decay), (1e-5, 0.05));
            assert_eq!((config.adam_beta1, config.adam_beta2), (0.9, 0.98));
            assert_eq!(config.lr_scheduler_type, SchedulerKind::Cosine);
            assert!(config.freeze_backbone && config.bf16 && !config.freeze_llm);
            let shortcut_aware = config.algorithm == Algorithm::ShortcutAware;
            assert_eq!(config.bias_model_path.is_some(), shortcut_aware);
            let start = config
                .bias_model_path
                .unwrap_or(config.model_name_or_path.clone());
            assert_eq!(start, config.model_name_or_path);
            outputs.insert(config.output_dir);
        }
    }
    assert_eq!(outputs.len(), 18, "{outputs:?}");
}
