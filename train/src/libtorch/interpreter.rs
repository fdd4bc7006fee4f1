//! The network as differentiable LibTorch operations: [`Ops`] over tensors.

use std::rc::Rc;

use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use seeward_models::net::{Activation, Bias, Ops};
use seeward_models::{Error, Result};
use tch::{Kind, TchError, Tensor};

use crate::libtorch::attention::{Mask, attend, to_heads};
use crate::libtorch::forward_context::ForwardContext;
use crate::libtorch::lora::Addition;
use crate::libtorch::parameters::Parameters;
use crate::libtorch::patches;
use crate::libtorch::precision::Precision;
use crate::libtorch::rope;

/// A tensor; a clone shares its storage.
pub struct Value(pub Tensor);

impl Clone for Value {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

/// Interprets the network over a set of parameters; a clone is inside the same scopes.
#[derive(Clone)]
pub struct Torch {
    parameters: Rc<Parameters>,
    precision: Precision,
    scopes: Vec<String>,
    /// Whether low-rank additions are merged into their layers, as in a checkpoint, and not applied next to them.
    merged: bool,
    /// The context of a forward pass that gradients follow; `None` for inference.
    pass: Option<Rc<ForwardContext>>,
    /// Content hashes and tile counts of the images to encode: the tiles of an image share a drop-path decision.
    images: Rc<Vec<(String, usize)>>,
    /// Whether every row is one conversation without padding.
    lone_rows: bool,
}

impl Torch {
    /// An interpreter that computes in `precision`, outside all scopes.
    pub fn new(parameters: Rc<Parameters>, precision: Precision) -> Self {
        Self {
            parameters,
            precision,
            scopes: Vec::new(),
            merged: false,
            pass: None,
            images: Rc::default(),
            lone_rows: false,
        }
    }

    /// The same, to encode these images: content hashes and tile counts.
    pub(crate) fn for_images(&self, images: Vec<(String, usize)>) -> Self {
        Self {
            images: Rc::new(images),
            ..self.clone()
        }
    }

    /// The same, with the weights that a checkpoint holds.
    pub fn merged(self) -> Self {
        Self {
            merged: true,
            ..self
        }
    }

    /// The same, in this forward pass if there is one.
    pub fn with_pass(self, pass: Option<&Rc<ForwardContext>>) -> Self {
        Self {
            pass: pass.cloned(),
            ..self
        }
    }

    /// The same, for inference: no dropout, no drop path, no activation checkpointing.
    pub(crate) fn inference(&self) -> Self {
        Self {
            pass: None,
            ..self.clone()
        }
    }

    /// Whether it computes with the weights that a checkpoint holds.
    pub(crate) fn is_merged(&self) -> bool {
        self.merged
    }

    /// Derives the kind of mask from these ids of the tokens to come, on the host: reading them from the device would cost
    /// a synchronisation per forward pass.
    pub fn expect<'a>(
        &mut self,
        documents: impl IntoIterator<Item = &'a i32>,
        branches: impl IntoIterator<Item = &'a i32>,
    ) {
        // A lone conversation is a prefix and one branch.
        self.lone_rows = documents.into_iter().all(|&document| document == 0)
            && branches.into_iter().all(|&branch| branch <= 1);
    }

    fn path(&self, name: &str) -> String {
        self.scopes.concat() + name
    }

    fn weight(&self, name: &str) -> Result<Tensor> {
        self.rounded_weight(name, |weight| Ok(weight.shallow_clone()))
    }

    /// The values of a weight that `pick` selects, rounded as a checkpoint rounds them, then in the type of computation.
    fn rounded_weight(
        &self,
        name: &str,
        pick: impl Fn(&Tensor) -> std::result::Result<Tensor, TchError>,
    ) -> Result<Tensor> {
        let path = self.path(name);
        let weight = self.parameters.get(&path)?;
        torch(pick(weight).and_then(|values| self.rounded(&path, &values)))
    }

    fn rounded(&self, path: &str, values: &Tensor) -> std::result::Result<Tensor, TchError> {
        values
            .f_to_kind(self.parameters.precision().kind())?
            .f_to_kind(self.precision.kind_of(path))
    }

    fn layer_weight(&self, name: &str) -> Result<Tensor> {
        self.weight(&format!("{name}.weight"))
    }

    fn layer_bias(&self, name: &str) -> Result<Tensor> {
        self.weight(&format!("{name}.bias"))
    }

    /// The output of a layer's low-rank addition; training applies dropout to its inputs.
    fn lora_output(&self, layer: &str, addition: &Addition, x: &Tensor) -> Result<Tensor> {
        let round = |tensor: &Tensor| torch(self.rounded(layer, tensor));
        match &self.pass {
            Some(pass) if pass.lora_dropout > 0.0 => {
                let stream = pass.stream(layer);
                let kept = torch(stream.torch(|| x.f_dropout(pass.lora_dropout, true)))?;
                addition.apply(&kept, round)
            }
            _ => addition.apply(x, round),
        }
    }
}

fn torch<T>(result: std::result::Result<T, TchError>) -> Result<T> {
    result.map_err(Error::invalid)
}

fn value(result: std::result::Result<Tensor, TchError>) -> Result<Value> {
    torch(result).map(Value)
}

fn sizes3(x: &Tensor) -> Result<(i64, i64, i64)> {
    torch(x.size3())
}

impl Ops for Torch {
    type T = Value;
    type Mask = Mask;
    type Rope = (Value, Value);

    fn enter(&mut self, scope: &str) {
        self.scopes.push(format!("{scope}."));
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn embedding(&mut self, name: &str, ids: &Value) -> Result<Value> {
        // Selected first, then rounded: the same values, and the gradients of a token's places add up in fp32.
        let rows = |table: &Tensor| Tensor::f_embedding(table, &ids.0, -1, false, false);
        self.rounded_weight(&format!("{name}.weight"), rows)
            .map(Value)
    }

    fn linear(&mut self, name: &str, x: &Value, bias: Bias) -> Result<Value> {
        let layer = self.path(name);
        let addition = Addition::of(&self.parameters, &layer);
        let weight = match &addition {
            Some(addition) if self.merged => {
                self.rounded_weight(&format!("{name}.weight"), |base| Ok(addition.merged(base)))?
            }
            _ => self.layer_weight(name)?,
        };
        let bias = if bias == Bias::Yes {
            Some(self.layer_bias(name)?)
        } else {
            None
        };
        let y =
            x.0.f_to_kind(weight.kind())
                .and_then(|x| x.f_linear(&weight, bias));
        match addition {
            Some(addition) if !self.merged => {
                let added = self.lora_output(&layer, &addition, &x.0)?;
                value(y.and_then(|y| y.f_add(&added)))
            }
            _ => value(y),
        }
    }

    fn layer_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        let (weight, bias) = (self.layer_weight(name)?, self.layer_bias(name)?);
        let width = weight.size();
        in_f32(&x.0, |x| {
            x.f_layer_norm(
                &width[..],
                Some(weight.f_to_kind(Kind::Float)?),
                Some(bias.f_to_kind(Kind::Float)?),
                epsilon,
                false,
            )
        })
    }

    fn rms_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        let weight = self.layer_weight(name)?;
        let width = weight.size();
        in_f32(&x.0, |x| {
            x.f_rms_norm(&width[..], Some(weight.f_to_kind(Kind::Float)?), epsilon)
        })
    }

    fn rms_norm_heads(
        &mut self,
        name: &str,
        x: &Value,
        heads: usize,
        epsilon: f64,
    ) -> Result<Value> {
        let shape = x.0.size();
        let (rows, tokens, _) = sizes3(&x.0)?;
        let split = value(x.0.f_view([rows, tokens, heads as i64, -1]))?;
        let normed = self.rms_norm(name, &split, epsilon)?;
        value(normed.0.f_view(&shape[..]))
    }

    fn patch_embedding(
        &mut self,
        name: &str,
        pixels: &Value,
        patch: usize,
        n: Normalization,
    ) -> Result<Value> {
        let (weight, bias) = (self.layer_weight(name)?, self.layer_bias(name)?);
        value(patches::embedding(&pixels.0, &weight, &bias, patch, n))
    }

    fn patch_projection(
        &mut self,
        name: &str,
        patches: &Value,
        bias: Bias,
        n: Normalization,
    ) -> Result<Value> {
        let weight = self.layer_weight(name)?;
        let bias = match bias {
            Bias::Yes => Some(self.layer_bias(name)?),
            Bias::No => None,
        };
        value(patches::projection(&patches.0, &weight, bias, n))
    }

    fn embedding_sum(&mut self, name: &str, ids: &Value, weights: &Value) -> Result<Value> {
        let rows = self.embedding(name, ids)?;
        let weights = weights.0.f_unsqueeze(-1);
        let weights = weights.and_then(|weights| weights.f_to_kind(rows.0.kind()));
        let weighted = weights.and_then(|weights| rows.0.f_mul(&weights));
        value(weighted.and_then(|weighted| {
            weighted.f_sum_dim_intlist([-2i64].as_slice(), false, rows.0.kind())
        }))
    }

    fn prepend_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        let parameter = self.weight(name)?;
        let (rows, _, width) = sizes3(&x.0)?;
        value(
            parameter
                .f_expand([rows, 1, width], false)
                .and_then(|first| Tensor::f_cat(&[&first, &x.0], 1)),
        )
    }

    fn add_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        value(x.0.f_add(&self.weight(name)?))
    }

    fn mul_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        value(x.0.f_mul(&self.weight(name)?))
    }

    fn activation(&mut self, kind: Activation, x: &Value) -> Result<Value> {
        value(match kind {
            Activation::Gelu => x.0.f_gelu("none"),
            Activation::GeluTanh => x.0.f_gelu("tanh"),
            Activation::QuickGelu => {
                let gate = x.0.f_mul_scalar(1.702).and_then(|x| x.f_sigmoid());
                gate.and_then(|gate| x.0.f_mul(&gate))
            }
            Activation::Silu => x.0.f_silu(),
            Activation::Relu => x.0.f_relu(),
            Activation::Tanh => x.0.f_tanh(),
        })
    }

    fn add(&mut self, x: &Value, y: &Value) -> Result<Value> {
        value(x.0.f_add(&y.0))
    }

    fn drop_path(&mut self, name: &str, depth: f64, x: &Value) -> Result<Value> {
        let Some(pass) = &self.pass else {
            return Ok(x.clone());
        };
        if pass.drop_path_rate * depth == 0.0 {
            return Ok(x.clone());
        }
        let place = self.path(name);
        let factors = self.images.iter().flat_map(|(content, tiles)| {
            let factor = pass.path_factor(&place, content, depth) as f32;
            std::iter::repeat_n(factor, *tiles)
        });
        let factors = Tensor::from_slice(&factors.collect::<Vec<_>>()).view([-1, 1, 1]);
        value(
            factors
                .f_to_device(x.0.device())
                .and_then(|factors| factors.f_to_kind(x.0.kind()))
                .and_then(|factors| x.0.f_mul(&factors)),
        )
    }

    fn mul(&mut self, x: &Value, y: &Value) -> Result<Value> {
        value(x.0.f_mul(&y.0))
    }

    fn split(&mut self, x: &Value, groups: usize, sizes: &[usize]) -> Result<Vec<Value>> {
        let shape = |last: &[i64]| {
            let mut shape = x.0.size();
            shape.pop();
            [shape, last.to_vec()].concat()
        };
        let lengths: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
        let run = shape(&[groups as i64, lengths.iter().sum()]);
        let parts = x.0.f_view(&run[..]);
        let parts = torch(parts.and_then(|x| x.f_split_with_sizes(&lengths[..], -1)))?;
        // LibTorch infers no size of an empty tensor.
        let flat = lengths.iter().map(|size| shape(&[groups as i64 * size]));
        let flat = parts.into_iter().zip(flat);
        flat.map(|(part, flat)| value(part.f_reshape(&flat[..])))
            .collect()
    }

    fn concatenate(&mut self, parts: &[Value]) -> Result<Value> {
        match parts {
            [one] => Ok(one.clone()),
            parts => {
                let parts: Vec<&Tensor> = parts.iter().map(|part| &part.0).collect();
                value(Tensor::f_cat(&parts, -1))
            }
        }
    }

    fn merge_tokens(&mut self, x: &Value, count: usize, width: usize) -> Result<Value> {
        let (rows, tokens, _) = sizes3(&x.0)?;
        let merged = [rows, tokens / count as i64, (count * width) as i64];
        value(x.0.f_reshape(merged))
    }

    fn skip_tokens(&mut self, x: &Value, count: usize) -> Result<Value> {
        let (_, tokens, _) = sizes3(&x.0)?;
        value(x.0.f_narrow(1, count as i64, tokens - count as i64))
    }

    fn pixel_shuffle(
        &mut self,
        x: &Value,
        side: usize,
        window: usize,
        order: TokenOrder,
    ) -> Result<Value> {
        value(patches::pixel_shuffle(&x.0, side, window, order))
    }

    fn squeeze_last(&mut self, x: &Value) -> Result<Value> {
        value(x.0.f_squeeze_dim(-1))
    }

    fn scatter_rows(&mut self, x: &Value, source: &Value, at: &Value) -> Result<Value> {
        let shape = x.0.size();
        let scattered = || {
            let flat = x.0.f_flatten(0, 1)?;
            flat.f_index_copy(0, &at.0, &source.0.f_to_kind(x.0.kind())?)?
                .f_view(&shape[..])
        };
        value(scattered())
    }

    fn gather_rows(&mut self, x: &Value, at: &Value) -> Result<Value> {
        value(
            x.0.f_flatten(0, -2)
                .and_then(|flat| flat.f_index_select(0, &at.0)),
        )
    }

    fn tree_mask(&mut self, documents: &Value, branches: &Value) -> Result<Mask> {
        let mask = match self.lone_rows {
            true => Ok(Mask::causal()),
            false => Mask::tree(&documents.0, &branches.0, self.precision.kind()),
        };
        torch(mask)
    }

    fn window_mask(&mut self, windows: &Value) -> Result<Mask> {
        torch(Mask::windows(&windows.0, self.precision.kind()))
    }

    fn rope_table(
        &mut self,
        cos: &Value,
        sin: &Value,
        positions: &Value,
    ) -> Result<(Value, Value)> {
        let pick = |table: &Value| value(rope::rows(&table.0, &positions.0));
        Ok((pick(cos)?, pick(sin)?))
    }

    fn rope(&mut self, x: &Value, (cos, sin): &(Value, Value), heads: usize) -> Result<Value> {
        value(rope::rotated(&x.0, [&cos.0, &sin.0], heads))
    }

    fn attention(
        &mut self,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&Mask>,
        heads: (usize, usize),
    ) -> Result<Value> {
        let shape = q.0.size();
        let heads = [
            to_heads(&q.0, heads.0),
            to_heads(&k.0, heads.1),
            to_heads(&v.0, heads.1),
        ];
        let attended = || {
            let [query, key, value] = heads;
            attend(&query?, &key?, &value?, mask)?
                .f_transpose(1, 2)?
                .f_reshape(&shape[..])
        };
        value(attended())
    }

    fn shared(&mut self, x: &Value) -> Result<Value> {
        let tape = self.pass.as_ref().and_then(|pass| pass.tape.as_ref());
        match tape.filter(|_| x.0.requires_grad()) {
            Some(tape) => Ok(Value(tape.cut(&x.0))),
            None => Ok(x.clone()),
        }
    }

    fn block(
        &mut self,
        scope: &str,
        x: &Value,
        f: impl Fn(&mut Self, &Value) -> Result<Value> + 'static,
    ) -> Result<Value> {
        self.scope(scope, |ops| {
            let pass = ops.pass.clone();
            let needs_gradient = || x.0.requires_grad() || ops.parameters.train_in(&ops.path(""));
            match pass.as_ref().and_then(|pass| pass.tape.as_ref()) {
                Some(tape) if needs_gradient() => {
                    let inside = ops.clone();
                    let block =
                        move |x: &Tensor| Ok(f(&mut inside.clone(), &Value(x.shallow_clone()))?.0);
                    tape.block(&x.0, block).map(Value)
                }
                _ => f(ops, x),
            }
        })
    }
}

fn in_f32(
    x: &Tensor,
    norm: impl Fn(&Tensor) -> std::result::Result<Tensor, TchError>,
) -> Result<Value> {
    let normed = || norm(&x.f_to_kind(Kind::Float)?)?.f_to_kind(x.kind());
    value(normed())
}
