//! A branch of the run: its configuration and its forward pass.

use std::path::Path;
use std::rc::Rc;

use ndarray::{Array, Dimension};
use seeward_models::config::Config;
use seeward_models::hash::hash;
use seeward_models::image::{Grid, GridPlaces, ImageSettings, PIXELS_VERSION, Pixels};
use seeward_models::net::{
    self, Branch, GridInputs, ImageInputs, Ops, Part, RewardInputs, TEXT_ONLY_SCOPE, Tokens,
};
use seeward_models::reading::Reading;
use seeward_models::{Error, Result};
use tch::kind::Element;
use tch::{Device, Kind, TchError, Tensor};

use crate::data::inputs::{Image, Inputs};
use crate::libtorch::arrays::tensor;
use crate::libtorch::forward_context::ForwardContext;
use crate::libtorch::interpreter::{Torch, Value};
use crate::libtorch::memory;
use crate::libtorch::parameters::Parameters;
use crate::libtorch::precision::{Precision, without_tf32};
use crate::model::feature_cache::{FeatureCache, Layout};

/// One reward model under training.
pub struct Model {
    /// Main or text-only; decides the names of its weights.
    pub branch: Branch,
    /// Its architecture.
    pub config: Config,
    /// The device that computes.
    pub device: Device,
    /// The run's weights, of both branches.
    pub parameters: Rc<Parameters>,
    /// How it obtains image features.
    pub vision: Vision,
    /// Whether it computes a reward at every token, as the published code does, instead of only where one is read.
    pub every_token: bool,
    /// Where rewards are read.
    pub reading: Reading,
}

/// How a branch obtains the features of images.
pub enum Vision {
    /// The vision model trains: every forward pass encodes all images, those in tiles together.
    Trains,
    /// The vision model is frozen, and every forward pass encodes all images anyway, as the published code does.
    Frozen,
    /// The vision model is frozen, and the features of an image are cached.
    Cached(Box<FeatureCache>),
}

impl Model {
    /// One reward per conversation, `[k]`, in the order of the forest's branches, in the run's precision.
    ///
    /// # Errors
    /// Inputs that do not fit the model, or LibTorch's.
    pub fn rewards(&self, inputs: &Inputs) -> Result<Tensor> {
        self.rewards_within(None, inputs)
    }

    /// The same in a training pass.
    pub(crate) fn rewards_within(
        &self,
        pass: Option<&Rc<ForwardContext>>,
        inputs: &Inputs,
    ) -> Result<Tensor> {
        self.rewards_by(self.interpreter(pass), inputs)
    }

    /// The same in fp32, on the weights that a checkpoint holds.
    pub(crate) fn exact_rewards(&self, inputs: &Inputs) -> Result<Tensor> {
        let exact = Torch::new(self.parameters.clone(), Precision::Fp32).merged();
        without_tf32(|| self.rewards_by(exact, inputs))
    }

    fn rewards_by(&self, ops: Torch, inputs: &Inputs) -> Result<Tensor> {
        let (read, counts) = inputs.forest.positions_of(self.reading);
        let read = self.integers(&read);
        let rewards = match self.every_token {
            false => self.rewards_at(ops, inputs, Some(read))?,
            true => {
                let rewards = self.rewards_at(ops, inputs, None)?.flatten(0, -1);
                let picked = rewards.f_index_select(0, &read.0);
                picked.map_err(Error::invalid)?
            }
        };
        means(rewards, &counts).map_err(Error::invalid)
    }

    fn rewards_at(&self, ops: Torch, inputs: &Inputs, at: Option<Value>) -> Result<Tensor> {
        self.interpret(ops, |ops| {
            let tokens = self.tokens(ops, inputs)?;
            net::rewards(
                ops,
                &self.config,
                &RewardInputs {
                    tokens,
                    reward_positions: at,
                },
            )
        })
    }

    /// Next-token logits at the inputs' targets, `[k, vocabulary]`.
    pub(crate) fn logits(
        &self,
        pass: Option<&Rc<ForwardContext>>,
        inputs: &Inputs,
    ) -> Result<Tensor> {
        self.interpret(self.interpreter(pass), |ops| {
            let tokens = self.tokens(ops, inputs)?;
            net::logits(
                ops,
                &self.config,
                &tokens,
                &self.integers(&inputs.targets.at),
            )
        })
    }

    /// An interpreter in the run's precision.
    fn interpreter(&self, pass: Option<&Rc<ForwardContext>>) -> Torch {
        Torch::new(self.parameters.clone(), self.parameters.precision()).with_pass(pass)
    }

    fn interpret(
        &self,
        mut ops: Torch,
        f: impl FnOnce(&mut Torch) -> Result<Value>,
    ) -> Result<Tensor> {
        let value = match self.branch {
            Branch::Main => f(&mut ops),
            Branch::TextOnly => ops.scope(TEXT_ONLY_SCOPE, f),
        };
        value.map(|value| value.0)
    }

    fn tokens(&self, ops: &mut Torch, inputs: &Inputs) -> Result<Tokens<Value>> {
        let forest = &inputs.forest;
        ops.expect(&forest.document_ids, &forest.branch_ids);
        let table = self.config.text.rope.tables(&forest.rope);
        Ok(Tokens {
            input_ids: self.array(&forest.input_ids)?,
            position_ids: self.array(&forest.position_ids)?,
            document_ids: self.array(&forest.document_ids)?,
            branch_ids: self.array(&forest.branch_ids)?,
            image_embeds: self.image_embeddings(ops, inputs)?,
            image_positions: self.integers(&forest.image_positions),
            rope_cos: self.array(&table.cos)?,
            rope_sin: self.array(&table.sin)?,
        })
    }

    /// The embeddings of the batch's images. Each image is encoded once; the forest selects the rows.
    fn image_embeddings(&self, ops: &mut Torch, inputs: &Inputs) -> Result<Value> {
        if inputs.images.is_empty() {
            let width = self.config.image_width() as i64;
            return Ok(Value(Tensor::zeros([0, width], (Kind::Float, self.device))));
        }
        let embeddings = match &self.vision {
            Vision::Cached(features) if !ops.is_merged() => {
                self.cached(ops, features, &inputs.images)?
            }
            _ => self.encoded(ops, &inputs.images)?,
        };
        ops.gather_rows(&embeddings, &self.integers(&inputs.forest.image_rows))
    }

    /// The embeddings of images that are encoded now: all tiles together, or whole images one after the other.
    fn encoded(&self, ops: &mut Torch, images: &[Image]) -> Result<Value> {
        let runs = match self.config.images {
            ImageSettings::Tiles(_) => vec![images],
            ImageSettings::Grid(_) => images.iter().map(std::slice::from_ref).collect(),
        };
        let mut embeddings = Vec::new();
        for images in runs {
            let pixels: Option<Vec<_>> = images.iter().map(|image| image.pixels.as_ref()).collect();
            let pixels = pixels.ok_or_else(|| Error::invalid("an image without pixels"))?;
            // A frozen vision model runs in inference: no drop path, no activation checkpointing.
            let mut encoder = match self.vision {
                Vision::Trains => ops.for_images(images.iter().map(content_and_tiles).collect()),
                _ => ops.inference(),
            };
            let inputs = self.image_inputs(&pixels)?;
            let features = net::image_features(&mut encoder, &self.config, &inputs)?;
            let projected = net::project(ops, &self.config, &features)?;
            embeddings.push(self.by_unit(projected.0, self.embedding_shape())?);
        }
        Ok(Value(joined(&embeddings)?))
    }

    /// The embeddings of images by way of the cache, which holds the vision model's features or, if the projector is
    /// frozen too, the embeddings themselves.
    fn cached(&self, ops: &mut Torch, features: &FeatureCache, images: &[Image]) -> Result<Value> {
        let projects = self.projector_trains();
        let encode = |pixels: &Pixels| {
            let (inputs, mut ops) = (self.image_inputs(&[pixels])?, ops.inference());
            let features = net::image_features(&mut ops, &self.config, &inputs)?;
            let features = match projects {
                true => features,
                false => net::project(&mut ops, &self.config, &features)?,
            };
            self.by_unit(features.0, self.layout().shape)
        };
        let found = images.iter().map(|image| features.of(image, encode));
        let found = Value(joined(&found.collect::<Result<Vec<_>>>()?)?);
        match projects {
            true => self.projected(ops, &found),
            false => Ok(found),
        }
    }

    /// The embeddings of these features, [units, patches, width].
    fn projected(&self, ops: &mut Torch, features: &Value) -> Result<Value> {
        match self.config.images {
            ImageSettings::Tiles(_) => net::project(ops, &self.config, features),
            // Tokens are projected one by one: they may lie in one row.
            ImageSettings::Grid(_) => {
                let width = self.config.feature_width() as i64;
                let row = features.0.f_reshape([1, -1, width]);
                let row = Value(row.map_err(Error::invalid)?);
                let embeddings = net::project(ops, &self.config, &row)?;
                Ok(Value(self.by_unit(embeddings.0, self.embedding_shape())?))
            }
        }
    }

    /// Rows of a unit's embeddings, and their width.
    fn embedding_shape(&self) -> [i64; 2] {
        let (tokens, width) = (self.config.tokens_per_tile(), self.config.image_width());
        [tokens as i64, width as i64]
    }

    /// The features of one or more images, unit by unit.
    fn by_unit(&self, features: Tensor, [tokens, width]: [i64; 2]) -> Result<Tensor> {
        let by_unit = features.f_reshape([-1, tokens, width]);
        by_unit.map_err(Error::invalid)
    }

    /// Whether any tensor of the part trains, additions included.
    pub(crate) fn trains(&self, part: Part) -> bool {
        self.parameters.train_in(&part.scope(self.branch))
    }

    fn projector_trains(&self) -> bool {
        self.trains(Part::Projector)
    }

    /// The layout of the cached features of a unit of an image.
    pub fn layout(&self) -> Layout {
        let config = &self.config;
        let shape = match self.projector_trains() {
            true => [
                config.patches_per_unit() as i64,
                config.feature_width() as i64,
            ],
            false => self.embedding_shape(),
        };
        Layout {
            shape,
            kind: self.parameters.precision().kind(),
        }
    }

    /// Extends the feature cache by up to `bytes` in `folder`, for features that memory has no room for.
    ///
    /// # Errors
    /// The disk fails.
    pub fn cache_on_disk(&self, folder: &Path, bytes: usize) -> Result<()> {
        match &self.vision {
            Vision::Cached(features) if bytes > 0 => {
                let folder = folder.join(format!("{:?}", self.branch).to_lowercase());
                features.open_disk(&folder, &self.vision_identity(), bytes as u64)
            }
            _ => Ok(()),
        }
    }

    /// A hash of everything that an image's features depend on except the image.
    fn vision_identity(&self) -> String {
        let parts = [Part::Vision, Part::Projector].map(|part| part.scope(self.branch));
        let of_vision = |name: &str| parts.iter().any(|part| name.starts_with(part));
        let weights = self.parameters.data().into_iter();
        let weights = weights.filter(|weight| of_vision(&weight.name));
        let weights: Vec<_> = weights.map(|weight| hash((weight.bytes)())).collect();
        let settings = format!(
            "{PIXELS_VERSION} {} {:?}",
            self.config.json(),
            self.layout()
        );
        hash(format!("{settings} {}", weights.concat()))
    }

    /// The inputs of the vision model: the tiles of all images, or one whole image.
    fn image_inputs(&self, images: &[&Pixels]) -> Result<ImageInputs<Value>> {
        if let ([Pixels::Grid(grid)], ImageSettings::Grid(settings)) = (images, &self.config.images)
        {
            let places = GridPlaces::new(settings, grid.rows, grid.columns);
            return self.grid_inputs(grid, &places).map(ImageInputs::Grid);
        }
        let tiles = images.iter().map(|image| match image {
            Pixels::Tiles(tiles) => tensor(tiles),
            Pixels::Grid(_) => Err(Error::invalid("expected tiles")),
        });
        let tiles = joined(&tiles.collect::<Result<Vec<_>>>()?)?;
        Ok(ImageInputs::Tiles(self.place(tiles)))
    }

    fn grid_inputs(&self, grid: &Grid, places: &GridPlaces) -> Result<GridInputs<Value>> {
        let windows = places.window_ids.as_ref();
        let taps = places.taps.as_ref();
        let taps =
            taps.map(|taps| Result::Ok((self.array(&taps.rows)?, self.array(&taps.weights)?)));
        Ok(GridInputs {
            patches: self.array(&grid.patches)?,
            position_ids: self.array(&places.position_ids)?,
            rope_cos: self.array(&places.rope_cos)?,
            rope_sin: self.array(&places.rope_sin)?,
            window_ids: windows.map(|windows| self.array(windows)).transpose()?,
            taps: taps.transpose()?,
        })
    }

    fn array<T: Element, D: Dimension>(&self, array: &Array<T, D>) -> Result<Value> {
        Ok(self.place(tensor(array)?))
    }

    fn integers(&self, values: &[i64]) -> Value {
        self.place(Tensor::from_slice(values))
    }

    fn place(&self, tensor: Tensor) -> Value {
        Value(memory::place(&tensor, self.device))
    }
}

/// The reward of each conversation from those that were read for it.
fn means(rewards: Tensor, counts: &[usize]) -> std::result::Result<Tensor, TchError> {
    if counts.iter().all(|&count| count == 1) {
        return Ok(rewards);
    }
    let counts: Vec<i64> = counts.iter().map(|&count| count as i64).collect();
    let parts = rewards.f_split_with_sizes(&counts[..], 0)?;
    let means = parts.iter().map(|part| part.f_mean(None));
    let means = means.collect::<std::result::Result<Vec<_>, _>>()?;
    Tensor::f_stack(&means, 0)
}

fn joined(parts: &[Tensor]) -> Result<Tensor> {
    Tensor::f_cat(parts, 0).map_err(Error::invalid)
}

fn content_and_tiles(image: &Image) -> (String, usize) {
    (image.content.clone(), image.extent.tiles())
}
