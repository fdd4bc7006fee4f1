//! Configurations that are accepted, and those that are refused with the reason.

use super::*;
use crate::image::TileSettings;
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

fn published_json(name: &str) -> Value {
    let path = format!("{GOLDEN}/configs/{name}.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn published(name: &str) -> Config {
    Config::parse(published_json(name)).unwrap()
}

/// Parameters without score head, in billions.
fn counted(config: &Config) -> f64 {
    let parameters = net::parameters(config, net::Branch::Main);
    let is_counted = |p: &&net::Parameter| match p.kind {
        net::Kind::OutputProjection => !config.text.tied_embeddings,
        kind => kind != net::Kind::Score,
    };
    let sizes = parameters.iter().filter(is_counted);
    let count: usize = sizes.map(|p| p.shape.iter().product::<usize>()).sum();
    count as f64 / 1e9
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

fn intern_vit(config: &Config) -> &InternVitConfig {
    config.vision.as_ref().unwrap().intern_vit().unwrap()
}

fn tiles(config: &Config) -> TileSettings {
    match config.images {
        ImageSettings::Tiles(tiles) => tiles,
        ImageSettings::Grid(_) => panic!("tiles"),
    }
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
    assert_eq!(intern_vit(&config).layers_run, 2);
    assert_eq!(config.tokens_per_tile(), 4);
    assert_eq!(config.template, "Hermes-2".parse().ok());
    assert!(tiles(&config).dynamic && tiles(&config).max_tiles == 6);
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
    let sides = |config: &Config| (intern_vit(config).image_size, tiles(config).image_size);
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
        let got = counted(&config);
        assert!((got / billions - 1.0).abs() < 0.005, "{name}: {got}");
    }
}

/// The limits of an image's pixels, which no config.json of a published model has.
fn with_pixels(name: &str) -> Value {
    let mut raw = published_json(name);
    raw["min_pixels"] = json!(3136);
    raw["max_pixels"] = json!(1_003_520);
    raw
}

/// Parameters without score head, and the output projection only where it is not tied, in billions.
#[test]
fn qwens_models_are_accepted_at_their_sizes() {
    for (name, billions) in [
        ("Qwen2-VL-2B", 2.21),
        ("Qwen2-VL-7B", 8.29),
        ("Qwen2.5-VL-3B", 3.75),
        ("Qwen2.5-VL-7B", 8.29),
        ("Qwen3-VL-2B", 2.13),
        ("Qwen3-VL-4B", 4.44),
        ("Qwen3-VL-8B", 8.77),
    ] {
        let config = Config::parse(with_pixels(name)).unwrap();
        assert_eq!(config.tokens_per_tile(), 1, "{name}");
        let got = counted(&config);
        assert!((got / billions - 1.0).abs() < 0.005, "{name}: {got}");
    }
}

#[test]
fn qwens_encoders_differ_by_generation() {
    let encoder = |name: &str| match Config::parse(with_pixels(name)).unwrap().vision {
        Some(VisionConfig::Qwen(vision)) => vision,
        _ => panic!("an encoder of grids"),
    };
    let (second, between, third) = (
        encoder("Qwen2-VL-2B"),
        encoder("Qwen2.5-VL-3B"),
        encoder("Qwen3-VL-8B"),
    );
    assert_eq!(
        (second.hidden, second.ffn, second.window),
        (1280, 5120, None)
    );
    assert_eq!(
        (between.window, between.full_layers),
        (Some(4), vec![7, 15, 23, 31])
    );
    assert_eq!((third.table, third.deepstack), (Some(48), vec![8, 16, 24]));
    let config = Config::parse(with_pixels("Qwen3-VL-8B")).unwrap();
    assert_eq!(
        (config.image_width(), config.feature_width()),
        (4 * 4096, 4 * 1152)
    );
    let sections = config.text.rope.sections.unwrap();
    assert_eq!((sections.sizes, sections.interleaved), ([24, 20, 20], true));
}

#[test]
fn configs_of_grids_that_cannot_be_computed_are_refused() {
    let changed = |name: &str, path: &str, value: Value| {
        let mut raw = with_pixels(name);
        *raw.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        Config::parse(raw).unwrap_err().to_string()
    };
    let seven = "Qwen2.5-VL-7B";
    for (message, expected) in [
        (
            changed(seven, "/min_pixels", Value::Null),
            "min_pixels: no file of the folder has it: name it (--min-pixels and --max-pixels",
        ),
        (
            changed(seven, "/max_pixels", json!(100)),
            "min_pixels and max_pixels: expected 1 to",
        ),
        (
            changed(seven, "/vision_config/out_hidden_size", json!(8)),
            "vision_config: its output of width 8 does not fit the language model's 3584",
        ),
        (
            changed(seven, "/vision_config/hidden_act", json!("gelu")),
            "vision_config: hidden_act: \"gelu\" is not supported (supported: \"silu\")",
        ),
        (
            changed(
                seven,
                "/vision_config/fullatt_block_indexes",
                json!([7, 32]),
            ),
            "vision_config: fullatt_block_indexes: expected a list of layers below 32",
        ),
        (
            changed(seven, "/vision_config/window_size", json!(100)),
            "vision_config: patch_size · spatial_merge_size (28) does not divide window_size (100)",
        ),
        (
            changed(seven, "/rope_scaling/mrope_section", json!([16, 24, 23])),
            "sections: expected 64 pairs in all, got 63",
        ),
        (
            changed(seven, "/rope_scaling/type", json!("yarn")),
            "rope_scaling: yarn is not supported (supported: default, mrope)",
        ),
        (
            changed(seven, "/use_sliding_window", json!(true)),
            "use_sliding_window: true is not supported",
        ),
        (
            changed(
                "Qwen3-VL-2B",
                "/text_config/rope_scaling/mrope_interleaved",
                json!(false),
            ),
            "text_config: rope_scaling: mrope_interleaved: false is not supported",
        ),
        (
            changed("Qwen3-VL-2B", "/text_config/num_hidden_layers", json!(2)),
            "deepstack_visual_indexes: 3 layers of the language model would add them, but it has 2",
        ),
        (
            changed(
                "Qwen3-VL-2B",
                "/vision_config/num_position_embeddings",
                json!(2000),
            ),
            "vision_config: num_position_embeddings: expected the number of a square's places",
        ),
        (
            changed("Qwen3-VL-2B", "/model_type", json!("qwen3_vl_moe")),
            "model_type: expected one of internvl_chat, internvl, qwen2_vl, qwen2_5_vl, qwen3_vl, ",
        ),
    ] {
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn the_limits_of_pixels_come_from_the_folder_or_the_user() {
    let golden = |family: &str| format!("{GOLDEN}/families/{family}/model");
    let limits = |config: &Config| match config.images {
        ImageSettings::Grid(grid) => (grid.min_pixels, grid.max_pixels),
        ImageSettings::Tiles(_) => panic!("a grid"),
    };
    let open = |family: &str, given| Config::open_with(Path::new(&golden(family)), given);
    let none = PixelLimits::default();
    for (family, expected) in [
        ("qwen2_vl", (3136, 31_360)),
        ("qwen2_5_vl", (3136, 50_176)),
        ("qwen3_vl", (16_384, 49_152)),
    ] {
        assert_eq!(limits(&open(family, none).unwrap()), expected, "{family}");
    }
    let given = PixelLimits {
        max: Some(9408),
        ..none
    };
    assert_eq!(limits(&open("qwen2_vl", given).unwrap()), (3136, 9408));
    let message = open("internvl3", given).unwrap_err().to_string();
    assert!(
        message.ends_with("the model cuts images into tiles"),
        "{message}"
    );
}
