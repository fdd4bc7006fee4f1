//! The operations of an interpreter of the network. Values keep the layout [rows, tokens, width]; heads, patches and
//! windows are seen only inside an interpreter, so that no op returns a shape and nothing here reshapes.

use crate::Result;
use crate::image::Normalization;
use crate::kinds::TokenOrder;

/// Whether a linear layer has a bias. Explicit: "add it if the tensor exists" would hide a missing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// The weight alone.
    No,
    /// Weight and bias.
    Yes,
}

impl Bias {
    /// A bias when `present`.
    pub fn when(present: bool) -> Self {
        if present { Self::Yes } else { Self::No }
    }
}

/// An elementwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The exact one, by erf.
    Gelu,
    /// The same approximated by tanh.
    GeluTanh,
    /// x · sigmoid(1.702 · x).
    QuickGelu,
    /// x · sigmoid(x).
    Silu,
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// An interpreter. Weights are fetched by name, relative to the open scopes; `name` of a layer is completed by
/// `.weight` and `.bias`. A linear runs in its weight's dtype; norms are computed in f32.
///
/// # Errors
/// Every operation returns its interpreter's errors: a weight that is missing or of another shape, or the engine's refusal.
#[allow(clippy::missing_errors_doc)] // Stated once, above.
pub trait Ops: Sized {
    /// A value of the network.
    type T: Clone + 'static;
    /// The tokens that each token attends to.
    type Mask: Clone + 'static;
    /// Cosines and sines of every token's position.
    type Rope: Clone + 'static;

    /// Opens a scope: later names are relative to it.
    fn enter(&mut self, scope: &str);
    /// Closes the innermost scope.
    fn leave(&mut self);

    /// Rows of the table `name` at ids [rows, tokens] → [rows, tokens, width].
    fn embedding(&mut self, name: &str, ids: &Self::T) -> Result<Self::T>;
    /// x·Wᵀ (+ b) over the last axis.
    fn linear(&mut self, name: &str, x: &Self::T, bias: Bias) -> Result<Self::T>;
    /// Layer norm over the last axis.
    fn layer_norm(&mut self, name: &str, x: &Self::T, epsilon: f64) -> Result<Self::T>;
    /// Root-mean-square norm over the last axis.
    fn rms_norm(&mut self, name: &str, x: &Self::T, epsilon: f64) -> Result<Self::T>;
    /// An RMS norm of each of the `heads` of x [rows, tokens, heads·head], with one weight `[head]` for all.
    fn rms_norm_heads(
        &mut self,
        name: &str,
        x: &Self::T,
        heads: usize,
        epsilon: f64,
    ) -> Result<Self::T>;
    /// u8 pixels [tiles, H, W, 3] → (x / 255 − mean) / std → non-overlapping patches [tiles, patches, width].
    fn patch_embedding(
        &mut self,
        name: &str,
        pixels: &Self::T,
        patch: usize,
        n: Normalization,
    ) -> Result<Self::T>;
    /// u8 patches [rows, patches, 3·patch²], channel by channel → (x / 255 − mean) / std → [rows, patches, width], by a
    /// weight [width, 3, frames, patch, patch] over `frames` equal frames.
    fn patch_projection(
        &mut self,
        name: &str,
        patches: &Self::T,
        bias: Bias,
        n: Normalization,
    ) -> Result<Self::T>;
    /// Weighted sums of rows of the table `name`, at ids [rows, tokens, k] with f32 weights of the same shape → [rows,
    /// tokens, width].
    fn embedding_sum(&mut self, name: &str, ids: &Self::T, weights: &Self::T) -> Result<Self::T>;
    /// The parameter [1, 1, width] before every row's first token.
    fn prepend_parameter(&mut self, name: &str, x: &Self::T) -> Result<Self::T>;
    /// x + parameter, broadcast.
    fn add_parameter(&mut self, name: &str, x: &Self::T) -> Result<Self::T>;
    /// x · parameter, broadcast.
    fn mul_parameter(&mut self, name: &str, x: &Self::T) -> Result<Self::T>;

    /// The nonlinearity, elementwise.
    fn activation(&mut self, kind: Activation, x: &Self::T) -> Result<Self::T>;
    /// The first half of a feed-forward layer: the GELU of a linear layer.
    fn gelu_linear(&mut self, name: &str, x: &Self::T, bias: Bias) -> Result<Self::T> {
        let x = self.linear(name, x, bias)?;
        self.activation(Activation::Gelu, &x)
    }
    /// The same with a gate: the SiLU of the first linear layer times the second.
    fn gated_linear(&mut self, names: [&str; 2], x: &Self::T, bias: Bias) -> Result<Self::T> {
        let [gate, x] = names.map(|name| self.linear(name, x, bias));
        self.gated(&gate?, &x?)
    }
    /// SiLU(gate) · x of one shape.
    fn gated(&mut self, gate: &Self::T, x: &Self::T) -> Result<Self::T> {
        let gate = self.activation(Activation::Silu, gate)?;
        self.mul(&gate, x)
    }
    /// x + y of one shape.
    fn add(&mut self, x: &Self::T, y: &Self::T) -> Result<Self::T>;
    /// The residual of a block. An interpreter that trains may drop it for some images (stochastic depth), with a
    /// probability that grows with `depth`, from 0 in the first block to 1 in the last.
    fn drop_path(&mut self, _name: &str, _depth: f64, x: &Self::T) -> Result<Self::T> {
        Ok(x.clone())
    }
    /// x · y of one shape.
    fn mul(&mut self, x: &Self::T, y: &Self::T) -> Result<Self::T>;

    /// Cuts the last axis, seen as `groups` runs of sum(sizes), into parts of groups·size each.
    fn split(&mut self, x: &Self::T, groups: usize, sizes: &[usize]) -> Result<Vec<Self::T>>;
    /// The values side by side along the last axis.
    fn concatenate(&mut self, parts: &[Self::T]) -> Result<Self::T>;
    /// [rows, tokens, width] → [rows, tokens/count, count·width]: `count` neighbours become one token.
    fn merge_tokens(&mut self, x: &Self::T, count: usize, width: usize) -> Result<Self::T>;
    /// Every row without its first `count` tokens.
    fn skip_tokens(&mut self, x: &Self::T, count: usize) -> Result<Self::T>;
    /// [tiles, side², width] → [tiles, (side/window)², width·window²]: a window's patches side by side, row by row.
    fn pixel_shuffle(
        &mut self,
        x: &Self::T,
        side: usize,
        window: usize,
        order: TokenOrder,
    ) -> Result<Self::T>;
    /// `[n, 1]` → `[n]`.
    fn squeeze_last(&mut self, x: &Self::T) -> Result<Self::T>;

    /// x `[rows, tokens, width]` with the rows of `source` `[n, width]` put at flat indices `at` `[n]` (all different).
    fn scatter_rows(&mut self, x: &Self::T, source: &Self::T, at: &Self::T) -> Result<Self::T>;
    /// Rows of x `[.., width]` at flat indices `at` `[k]` → `[k, width]`.
    fn gather_rows(&mut self, x: &Self::T, at: &Self::T) -> Result<Self::T>;

    /// From documents and branches [rows, tokens]: token i sees j iff j ≤ i, documents are equal, and j's branch is 0
    /// or i's own.
    fn tree_mask(&mut self, documents: &Self::T, branches: &Self::T) -> Result<Self::Mask>;
    /// From windows [rows, tokens]: tokens of the same window see each other.
    fn window_mask(&mut self, windows: &Self::T) -> Result<Self::Mask>;
    /// Rows of the tables cos, sin [entries, head/2] at position ids [rows, tokens].
    fn rope_table(
        &mut self,
        cos: &Self::T,
        sin: &Self::T,
        positions: &Self::T,
    ) -> Result<Self::Rope>;
    /// Rotates x [rows, tokens, heads·head] by its position; pairs are (i, i + head/2).
    fn rope(&mut self, x: &Self::T, table: &Self::Rope, heads: usize) -> Result<Self::T>;
    /// softmax(q·kᵀ/√head)·v with the softmax in f32; each key head serves heads.0/heads.1 query heads in order.
    fn attention(
        &mut self,
        q: &Self::T,
        k: &Self::T,
        v: &Self::T,
        mask: Option<&Self::Mask>,
        heads: (usize, usize),
    ) -> Result<Self::T>;

    /// Runs `f` inside `scope`.
    fn scope<R>(&mut self, scope: &str, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.enter(scope);
        let result = f(self);
        self.leave();
        result
    }

    /// Runs `f` over the few rows that the network reads out. An interpreter may compute them more precisely: they cost
    /// little, and their errors reach the output directly.
    fn readout<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        f(self)
    }

    /// `x`, of which several blocks' neighbours read parts: an interpreter may collect its gradient before it continues.
    fn shared(&mut self, x: &Self::T) -> Result<Self::T> {
        Ok(x.clone())
    }

    /// Runs one layer inside `scope`. Values with gradients enter through `x` or by weight name, so that an
    /// interpreter may run `f` again in the backward pass instead of keeping its activations.
    fn block(
        &mut self,
        scope: &str,
        x: &Self::T,
        f: impl Fn(&mut Self, &Self::T) -> Result<Self::T> + 'static,
    ) -> Result<Self::T> {
        self.scope(scope, |ops| f(ops, x))
    }
}
