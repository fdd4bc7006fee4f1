//! The list of parameters against the network itself: an interpreter that computes nothing writes down every weight
//! that the network asks for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use seeward_models::Result;
use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::{Config, VisionConfig};
use seeward_models::image::{ImageSettings, Normalization};
use seeward_models::kinds::TokenOrder;
use seeward_models::net::{self, Activation, Bias, Branch, Kind, Ops, Parameter, Part};
use seeward_models::net::{GridInputs, ImageInputs, RewardInputs, Tokens};

/// The weights asked for so far, under their full names.
#[derive(Default)]
struct Recorder {
    scopes: Vec<String>,
    asked: BTreeSet<String>,
}

impl Recorder {
    fn ask(&mut self, name: &str) -> Result<()> {
        let path: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        self.asked.insert([&path[..], &[name]].concat().join("."));
        Ok(())
    }

    fn weight(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("{name}.weight"))
    }

    fn bias(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("{name}.bias"))
    }
}

impl Ops for Recorder {
    type T = ();
    type Mask = ();
    type Rope = ();

    fn enter(&mut self, scope: &str) {
        self.scopes.push(scope.to_owned());
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn embedding(&mut self, name: &str, _ids: &()) -> Result<()> {
        self.weight(name)
    }

    fn linear(&mut self, name: &str, _x: &(), bias: Bias) -> Result<()> {
        self.weight(name)?;
        match bias {
            Bias::Yes => self.bias(name),
            Bias::No => Ok(()),
        }
    }

    fn layer_norm(&mut self, name: &str, _x: &(), _epsilon: f64) -> Result<()> {
        self.weight(name)?;
        self.bias(name)
    }

    fn rms_norm(&mut self, name: &str, _x: &(), _epsilon: f64) -> Result<()> {
        self.weight(name)
    }

    fn rms_norm_heads(&mut self, name: &str, _x: &(), _heads: usize, _epsilon: f64) -> Result<()> {
        self.weight(name)
    }

    fn patch_embedding(
        &mut self,
        name: &str,
        _pixels: &(),
        _patch: usize,
        _n: Normalization,
    ) -> Result<()> {
        self.weight(name)?;
        self.bias(name)
    }

    fn patch_projection(
        &mut self,
        name: &str,
        _patches: &(),
        bias: Bias,
        _n: Normalization,
    ) -> Result<()> {
        self.linear(name, &(), bias)
    }

    fn embedding_sum(&mut self, name: &str, _ids: &(), _weights: &()) -> Result<()> {
        self.weight(name)
    }

    fn prepend_parameter(&mut self, name: &str, _x: &()) -> Result<()> {
        self.ask(name)
    }

    fn add_parameter(&mut self, name: &str, _x: &()) -> Result<()> {
        self.ask(name)
    }

    fn mul_parameter(&mut self, name: &str, _x: &()) -> Result<()> {
        self.ask(name)
    }

    fn activation(&mut self, _kind: Activation, _x: &()) -> Result<()> {
        Ok(())
    }

    fn add(&mut self, _x: &(), _y: &()) -> Result<()> {
        Ok(())
    }

    fn mul(&mut self, _x: &(), _y: &()) -> Result<()> {
        Ok(())
    }

    fn split(&mut self, _x: &(), _groups: usize, sizes: &[usize]) -> Result<Vec<()>> {
        Ok(vec![(); sizes.len()])
    }

    fn concatenate(&mut self, _parts: &[()]) -> Result<()> {
        Ok(())
    }

    fn merge_tokens(&mut self, _x: &(), _count: usize, _width: usize) -> Result<()> {
        Ok(())
    }

    fn skip_tokens(&mut self, _x: &(), _count: usize) -> Result<()> {
        Ok(())
    }

    fn pixel_shuffle(
        &mut self,
        _x: &(),
        _side: usize,
        _window: usize,
        _order: TokenOrder,
    ) -> Result<()> {
        Ok(())
    }

    fn squeeze_last(&mut self, _x: &()) -> Result<()> {
        Ok(())
    }

    fn scatter_rows(&mut self, _x: &(), _source: &(), _at: &()) -> Result<()> {
        Ok(())
    }

    fn gather_rows(&mut self, _x: &(), _at: &()) -> Result<()> {
        Ok(())
    }

    fn tree_mask(&mut self, _documents: &(), _branches: &()) -> Result<()> {
        Ok(())
    }

    fn window_mask(&mut self, _windows: &()) -> Result<()> {
        Ok(())
    }

    fn rope_table(&mut self, _cos: &(), _sin: &(), _positions: &()) -> Result<()> {
        Ok(())
    }

    fn rope(&mut self, _x: &(), _table: &(), _heads: usize) -> Result<()> {
        Ok(())
    }

    fn attention(
        &mut self,
        _q: &(),
        _k: &(),
        _v: &(),
        _mask: Option<&()>,
        _heads: (usize, usize),
    ) -> Result<()> {
        Ok(())
    }
}

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models");

const FAMILIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/families");

fn golden(model: &str) -> Config {
    Config::open(&Path::new(MODELS).join(model)).unwrap()
}

fn tokens() -> Tokens<()> {
    Tokens {
        input_ids: (),
        position_ids: (),
        document_ids: (),
        branch_ids: (),
        image_embeds: (),
        image_positions: (),
        rope_cos: (),
        rope_sin: (),
    }
}

fn images(config: &Config) -> ImageInputs<()> {
    match config.images {
        ImageSettings::Tiles(_) => ImageInputs::Tiles(()),
        ImageSettings::Grid(settings) => ImageInputs::Grid(GridInputs {
            patches: (),
            position_ids: (),
            rope_cos: (),
            rope_sin: (),
            window_ids: settings.window.map(|_| ()),
            taps: settings.table.map(|_| ((), ())),
        }),
    }
}

/// Every name that the whole model asks for: image embeddings, rewards and logits.
fn asked(config: &Config) -> BTreeSet<String> {
    let mut recorder = Recorder::default();
    let inputs = RewardInputs {
        tokens: tokens(),
        reward_positions: Some(()),
    };
    net::image_embeddings(&mut recorder, config, &images(config)).unwrap();
    net::rewards(&mut recorder, config, &inputs).unwrap();
    net::logits(&mut recorder, config, &tokens(), &()).unwrap();
    assert!(recorder.scopes.is_empty(), "{:?}", recorder.scopes);
    recorder.asked
}

/// The listed names that the network does not ask for, after checking that it asks for no other.
fn unused(config: &Config) -> Vec<String> {
    let asked = asked(config);
    let listed = net::parameters(config, Branch::Main);
    let names: BTreeSet<String> = listed.into_iter().map(|p| p.name).collect();
    let unlisted: Vec<&String> = asked.difference(&names).collect();
    assert!(unlisted.is_empty(), "asked for, not listed: {unlisted:?}");
    names.difference(&asked).cloned().collect()
}

#[test]
fn the_network_asks_for_every_parameter_and_no_other() {
    for model in [
        "qwen2",
        "llama",
        "internlm2",
        "internlm2_dyn",
        "phi3",
        "vit6b",
    ] {
        assert_eq!(unused(&golden(model)), [""; 0], "{model}");
    }
}

#[test]
fn the_network_asks_for_every_parameter_of_a_grid() {
    for family in ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"] {
        let folder = Path::new(FAMILIES).join(family).join("model");
        let config = Config::open(&folder).unwrap();
        assert_eq!(unused(&config), [""; 0], "{family}");
        let (checkpoint, _) = net::open(&folder, &config).unwrap();
        let found = net::branches(&checkpoint, &config).unwrap();
        assert_eq!(found, [Branch::Main], "{family}");
    }
}

#[test]
fn the_golden_checkpoints_hold_exactly_the_parameters() {
    for model in [
        "qwen2",
        "qwen2_tied",
        "llama",
        "internlm2",
        "internlm2_dyn",
        "internlm2_plain",
        "phi3",
        "phi3_su",
        "vit6b",
    ] {
        let folder = Path::new(MODELS).join(model);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let found = net::branches(&checkpoint, &golden(model)).unwrap();
        assert_eq!(found, [Branch::Main], "{model}");
    }
}

#[test]
fn biases_are_listed_where_the_configuration_has_them() {
    let mut config = golden("llama");
    (config.text.attention_bias, config.text.mlp_bias) = (true, true);
    assert_eq!(unused(&config), [""; 0]);
    let listed = net::parameters(&config, Branch::Main);
    let biases = |p: &&Parameter| p.part == Part::Language && p.is_bias;
    // Seven projections a layer.
    assert_eq!(listed.iter().filter(biases).count(), 7 * config.text.layers);
}

#[test]
fn a_tied_model_does_without_its_output_projection() {
    let head = "language_model.lm_head.weight";
    assert_eq!(unused(&golden("qwen2_tied")), [head]);
    let listed = net::parameters(&golden("qwen2_tied"), Branch::Main);
    let optional = listed.iter().filter(|p| p.optional).map(|p| &p.name[..]);
    assert_eq!(optional.collect::<Vec<_>>(), [head, net::SCORE_HEAD]);
}

#[test]
fn vision_layers_after_the_selected_one_are_listed_but_not_run() {
    let mut config = golden("qwen2");
    let Some(VisionConfig::InternVit(vision)) = &mut config.vision else {
        panic!("an encoder of tiles");
    };
    vision.layers_run -= 1;
    let last = format!("vision_model.encoder.layers.{}.", vision.layers_run);
    let unused = unused(&config);
    // Two layer scales; two norms and four linears, each with a bias.
    assert_eq!(unused.len(), 14);
    assert!(unused.iter().all(|n| n.starts_with(&last)), "{unused:?}");
}

#[test]
fn the_text_only_branch_has_the_same_parameters_under_its_scope() {
    let config = golden("qwen2_dual").text_only_branch().unwrap();
    let names = |branch| -> Vec<String> {
        let listed = net::parameters(&config, branch).into_iter();
        listed.map(|parameter| parameter.name).collect()
    };
    assert_eq!(unused(&config), [""; 0]);
    let scoped = names(Branch::Main).into_iter();
    let scoped: Vec<String> = scoped
        .map(|n| format!("{}.{n}", net::TEXT_ONLY_SCOPE))
        .collect();
    assert_eq!(names(Branch::TextOnly), scoped);
}

#[test]
fn a_parameter_knows_its_place_as_its_name_says_it() {
    for model in ["qwen2", "llama", "internlm2", "phi3", "vit6b"] {
        for branch in [Branch::Main, Branch::TextOnly] {
            for parameter in net::parameters(&golden(model), branch) {
                let Parameter { name, part, .. } = &parameter;
                assert_eq!((parameter.branch, Branch::of(name)), (branch, branch));
                let module = format!("{}{}.", branch.prefix(), part.module());
                let rest = name.strip_prefix(&module).unwrap();
                let block = parameter.layer.map(|layer| format!("layers.{layer}."));
                assert_eq!(block.is_some(), rest.contains("layers."), "{name}");
                assert!(block.is_none_or(|block| rest.contains(&block)), "{name}");
                assert_eq!(parameter.is_bias, name.ends_with(".bias"), "{name}");
            }
        }
    }
}

#[test]
fn every_block_has_its_linear_layers() {
    for (model, in_language) in [("qwen2", 7), ("internlm2", 5), ("phi3", 4)] {
        let config = golden(model);
        let linears = net::block_linears(&config, Branch::Main);
        let count = |part: Part, layer: usize| {
            let of = |p: &&Parameter| (p.part, p.layer) == (part, Some(layer));
            linears.iter().filter(of).count()
        };
        assert_eq!(count(Part::Vision, 0), 4, "{model}");
        assert_eq!(count(Part::Language, 0), in_language, "{model}");
        assert!(linears.iter().all(|p| p.shape.len() == 2), "{model}");
        let attention = |p: &&Parameter| matches!(p.kind, Kind::Attention(_));
        let mut names = linears.iter().filter(attention).map(|p| &p.name);
        assert!(names.all(|name| name.contains("att")), "{model}");
    }
}

#[test]
fn a_branch_knows_its_own_names() {
    assert_eq!(Branch::Main.strip("score.weight"), Some("score.weight"));
    assert_eq!(Branch::TextOnly.strip("score.weight"), None);
    let name = "bias_reward_model.score.weight";
    assert_eq!(Branch::TextOnly.strip(name), Some("score.weight"));
    assert_eq!(Branch::Main.strip(name), None);
    let other = "bias_reward_models.score.weight";
    assert_eq!(Branch::of(other), Branch::Main);
}
