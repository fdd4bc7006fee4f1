//! Configurations that are accepted, and those that are refused with the reason.

use super::*;
use crate::net;
use crate::rope::RopeScaling;
use serde_json::json;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

fn model(name: &str) -> Value {
    let path = format!("{GOLDEN}/models/{name}/config.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn golden() -> Value {
    model("qwen2")
}

fn published(name: &str) -> Config {
    let path = format!("{GOLDEN}/configs/{name}.json");
    Config::parse(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap()
}

fn refused(change: impl FnOnce(&mut Value), expected: &str) {
    refused_of("qwen2", change, expected);
}

fn refused_of(name: &str, change: impl FnOnce(&mut Value), expected: &str) {
    let mut value = model(name);
    change(&mut value);
    let message = Config::parse(value).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn reads_a_published_style_config() {
    let config = Config::parse(golden()).unwrap();
    assert_eq!(config.text.family.architecture(), "Qwen2ForCausalLM");
    assert_eq!(
        (
            config.text.heads,
            config.text.kv_heads,
            config.text.head_dim
        ),
        (4, 2, 16)
    );
    assert_eq!(config.vision.as_ref().unwrap().layers_run, 2);
    assert_eq!(config.tokens_per_tile(), 4);
    assert_eq!(config.template, "Hermes-2".parse().ok());
    assert!(config.tiles.dynamic && config.tiles.max_tiles == 6);
}

#[test]
fn refuses_by_name_what_it_cannot_compute() {
    refused(
        |c| c["llm_config"]["architectures"] = json!(["MambaForCausalLM"]),
        "llm_config: architecture MambaForCausalLM is not supported (supported: Qwen2ForCausalLM, \
         Qwen3ForCausalLM, LlamaForCausalLM, InternLM2ForCausalLM, Phi3ForCausalLM)",
    );
    refused(
        |c| c["llm_config"]["architectures"] = json!(["Qwen3MoeForCausalLM"]),
        "architecture Qwen3MoeForCausalLM is not supported: a mixture of experts (",
    );
    refused(
        |c| {
            c["llm_config"]["architectures"] = Value::Null;
            c["llm_config"]["model_type"] = json!("qwen3_5_text");
        },
        "model_type qwen3_5_text is not supported: layers of linear attention (supported: qwen2, qwen3, ",
    );
    refused(
        |c| c["llm_config"]["layer_types"] = json!(["full_attention", "sliding_attention"]),
        "layer_types: \"sliding_attention\" is not supported (supported: full_attention alone)",
    );
    refused(
        |c| c["vision_config"]["norm_type"] = json!("batch_norm"),
        "vision_config: norm_type: expected one of layer_norm, rms_norm, got \"batch_norm\"",
    );
    refused(
        |c| c["llm_config"]["use_sliding_window"] = json!(true),
        "use_sliding_window",
    );
    refused(
        |c| c["ps_version"] = json!("v3"),
        "ps_version: expected one of v1, v2, got \"v3\"",
    );
    refused(
        |c| c["force_image_size"] = json!(60),
        "patch_size (14) does not divide force_image_size (60)",
    );
    refused(|c| c["select_layer"] = json!(-9), "select_layer -9");
    refused(|c| c["model_type"] = json!("llava"), "internvl_chat");
}

#[test]
fn refuses_sizes_that_do_not_divide() {
    refused(
        |c| c["llm_config"]["num_key_value_heads"] = json!(3),
        "does not divide num_attention_heads (4)",
    );
    refused(
        |c| c["vision_config"]["patch_size"] = json!(13),
        "does not divide image_size (56)",
    );
    refused(
        |c| c["downsample_ratio"] = json!(0.3),
        "expected 1/n, got 0.3",
    );
    refused(
        |c| c["llm_config"]["hidden_size"] = json!("64"),
        "hidden_size: expected a positive integer, got \"64\"",
    );
    refused(
        |c| c["llm_config"]["hidden_size"] = Value::Null,
        "got nothing",
    );
}

/// The same config as transformers 5 writes it.
fn with_rope_parameters(mut config: Value) -> Value {
    let model = config["llm_config"].as_object_mut().unwrap();
    let theta = model.remove("rope_theta").unwrap();
    let mut parameters = model.remove("rope_scaling").unwrap_or_default();
    if parameters.is_null() {
        parameters = json!({});
    }
    let kind = parameters.get("type").cloned();
    parameters["rope_type"] = kind.unwrap_or(json!("default"));
    parameters["rope_theta"] = theta;
    parameters.as_object_mut().unwrap().remove("type");
    model.insert("rope_parameters".into(), parameters);
    config
}

#[test]
fn rope_parameters_are_read_as_rope_theta_and_rope_scaling() {
    for name in ["qwen2", "llama", "internlm2", "internlm2_dyn", "phi3_su"] {
        let rope = |config: Value| Config::parse(config).unwrap().text.rope;
        let old = rope(model(name));
        assert_eq!(rope(with_rope_parameters(model(name))), old, "{name}");

        let mut both = with_rope_parameters(model(name));
        both["llm_config"]["rope_theta"] = model(name)["llm_config"]["rope_theta"].clone();
        let scaling = model(name)["llm_config"].get("rope_scaling").cloned();
        both["llm_config"]["rope_scaling"] = scaling.unwrap_or_default();
        assert_eq!(rope(both), old, "{name}");
    }
    let mut longer = with_rope_parameters(model("phi3_su"));
    longer["llm_config"]["rope_parameters"]["original_max_position_embeddings"] = json!(7);
    match Config::parse(longer).unwrap().text.rope.scaling {
        Some(RopeScaling::LongRope {
            original_positions, ..
        }) => assert_eq!(original_positions, 7),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rope_keys_that_would_be_ignored_are_refused() {
    refused(
        |c| c["llm_config"]["rope_base"] = json!(1e6),
        "llm_config: rope_base: unknown key (supported: rope_theta, rope_scaling, rope_parameters)",
    );
    refused(
        |c| c["llm_config"]["rope_parameters"] = json!({"rope_theta": 7.0}),
        "rope_theta and rope_parameters contradict each other",
    );
    refused(
        |c| {
            c["llm_config"]["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0});
            c["llm_config"]["rope_parameters"] = json!({"rope_type": "default"});
        },
        "rope_scaling and rope_parameters contradict each other",
    );
    refused(
        |c| {
            *c = with_rope_parameters(c.take());
            c["llm_config"]["rope_parameters"]["full_attention"] = json!({});
        },
        "rope_parameters: full_attention: unknown key of a scaling of type default",
    );
    refused(
        |c| {
            *c = with_rope_parameters(c.take());
            c["llm_config"]["rope_parameters"]["rope_theta"] = json!("1e6");
        },
        "rope_parameters: rope_theta: expected a number, got",
    );
    refused(
        |c| {
            *c = with_rope_parameters(c.take());
            c["llm_config"]["rope_parameters"]["partial_rotary_factor"] = json!(0.5);
        },
        "partial_rotary_factor: 0.5 is not supported (supported: 1.0)",
    );
}

#[test]
fn refuses_rope_scaling_that_the_family_does_not_compute() {
    let scaled = |kind: Value| move |c: &mut Value| c["llm_config"]["rope_scaling"] = kind;
    for (family, kind, expected) in [
        (
            "phi3",
            json!({"type": "yarn"}),
            "llm_config: rope_scaling: yarn is not supported (supported for Phi3ForCausalLM: su, longrope)",
        ),
        (
            "llama",
            json!({"factor": 2.0}),
            "without a type is not supported (supported for LlamaForCausalLM: linear, dynamic, llama3)",
        ),
        (
            "internlm2",
            json!({"type": "dynamic"}),
            "rope_scaling: factor: expected a number, got nothing",
        ),
        (
            "phi3_su",
            json!({"type": "su", "short_factor": [1.0, 2.0], "long_factor": []}),
            "short_factor: expected a list of 6 positive numbers",
        ),
    ] {
        refused_of(family, scaled(kind), expected);
    }
}

#[test]
fn a_window_narrower_than_the_positions_is_refused() {
    refused_of(
        "phi3",
        |c| c["llm_config"]["sliding_window"] = json!(2047),
        "sliding_window: 2047 is not supported (supported: at least max_position_embeddings, 4096)",
    );
}

#[test]
fn families_have_the_scaling_of_their_configuration() {
    let scaling = |name: &str| Config::parse(model(name)).unwrap().text.rope.scaling;
    assert_eq!(scaling("llama"), None);
    assert_eq!(
        scaling("internlm2_dyn"),
        Some(RopeScaling::Dynamic {
            factor: 2.0,
            max_positions: 143
        })
    );
    let Some(RopeScaling::LongRope {
        original_positions,
        max_positions,
        short_factors,
        ..
    }) = scaling("phi3_su")
    else {
        panic!("phi3_su is scaled")
    };
    assert_eq!((original_positions, max_positions), (126, 4032));
    assert_eq!((short_factors.len(), short_factors[0]), (6, 1.2859));
    let mut llama31 = model("llama");
    llama31["llm_config"]["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_positions: 8192,
    };
    assert_eq!(
        Config::parse(llama31).unwrap().text.rope.scaling,
        Some(expected)
    );
}

#[test]
fn tiles_of_another_size_have_other_tokens() {
    let mut value = golden();
    value["force_image_size"] = json!(84);
    let config = Config::parse(value).unwrap();
    let sides = |config: &Config| {
        let vision = config.vision.as_ref().unwrap();
        (vision.image_size, config.tiles.image_size)
    };
    assert_eq!(sides(&config), (56, 84));
    assert_eq!(config.tokens_per_tile(), 9);
    let fitted = config.fitted().unwrap();
    assert_eq!(sides(&fitted), (84, 84));
}

#[test]
fn a_model_may_be_without_vision_if_it_says_so() {
    let whole = Config::parse(golden()).unwrap();
    let blind = whole.without_vision().unwrap();
    assert_eq!((&blind.vision, blind.tokens_per_tile()), (&None, 0));
    assert_eq!(blind.fitted().unwrap(), blind);
    let names = net::parameters(&blind, net::Branch::Main);
    let is_text = |name: &str| name.starts_with("language_model.") || name == net::SCORE_HEAD;
    assert!(names.iter().all(|parameter| is_text(&parameter.name)));
    let mut silent = golden();
    silent.as_object_mut().unwrap().remove("vision_config");
    let message = Config::parse(silent).unwrap_err().to_string();
    assert_eq!(message, "vision_config: expected an object, got nothing");
}

#[test]
fn a_model_may_keep_its_first_layers() {
    let whole = Config::parse(golden()).unwrap();
    assert_eq!(whole.text.layers, 2);
    assert_eq!(whole.with_layers(1).unwrap().text.layers, 1);
    assert_eq!(whole.with_layers(3).unwrap(), whole);
}

/// Parameters of the whole model without score head, in billions, as the model cards round them.
#[test]
fn the_published_models_are_accepted_at_their_sizes() {
    for (name, family, billions) in [
        ("InternVL2-1B", "Qwen2ForCausalLM", 0.94),
        ("InternVL2-2B", "InternLM2ForCausalLM", 2.21),
        ("InternVL2-4B", "Phi3ForCausalLM", 4.15),
        ("InternVL2-8B", "InternLM2ForCausalLM", 8.08),
        ("InternVL2-26B", "InternLM2ForCausalLM", 25.5),
        ("InternVL2-40B", "LlamaForCausalLM", 40.1),
        ("InternVL2-Llama3-76B", "LlamaForCausalLM", 76.3),
        ("InternVL2_5-1B", "Qwen2ForCausalLM", 0.94),
        ("InternVL2_5-2B", "InternLM2ForCausalLM", 2.21),
        ("InternVL2_5-4B", "Qwen2ForCausalLM", 3.71),
        ("InternVL2_5-8B", "InternLM2ForCausalLM", 8.08),
        ("InternVL2_5-38B", "Qwen2ForCausalLM", 38.4),
        ("InternVL2_5-78B", "Qwen2ForCausalLM", 78.4),
        ("InternVL3-1B", "Qwen2ForCausalLM", 0.94),
        ("InternVL3_5-1B", "Qwen3ForCausalLM", 1.06),
        ("InternVL3_5-8B", "Qwen3ForCausalLM", 8.53),
    ] {
        let config = published(name);
        assert_eq!(
            (config.text.family.architecture(), config.tokens_per_tile()),
            (family, 256),
            "{name}"
        );
        let parameters = net::parameters(&config, net::Branch::Main);
        let is_counted = |p: &&net::Parameter| match p.kind {
            net::Kind::OutputProjection => !config.text.tied_embeddings,
            kind => kind != net::Kind::Score,
        };
        let sizes = parameters.iter().filter(is_counted);
        let count: usize = sizes.map(|p| p.shape.iter().product::<usize>()).sum();
        let got = count as f64 / 1e9;
        assert!((got / billions - 1.0).abs() < 0.005, "{name}: {got}");
    }
}
