//! CPU kernels for transformers with bf16 or 8-bit weights: attention over a forest, linear layers and row quantization. No
//! inference engine and no thread pool: callers bring theirs as a [`ParallelFor`].
//!
//! From the instructions up, each module uses only those above it:
//!
//! | module | content |
//! |---|---|
//! | [`cpu_features`] | which vector instructions the CPU has, as tokens |
//! | [`parallel`] | the loop over tasks that callers run on their threads |
//! | `pair` | f32 values rounded to bf16, two next to each other |
//! | `panel` | panels of outputs and blocks of rows, the layout of linear layers |
//! | `lanes` | registers of 16 f32 values: portable, AVX2, AVX-512 |
//! | `activations` | GELU, SiLU and 2^x |
//! | [`attention`] | softmax(q·kᵀ)·v over the keys that each token sees |
//! | [`bf16`] | linear layers of bf16 weights, and the first half of a feed-forward block |
//! | [`int8`] | quantized rows, linear layers of 8-bit integers, and the first half of a feed-forward block |
//!
//! How a kernel finds its instructions:
//!
//! 1. [`CpuFeatures::get`] detects them once per process.
//! 2. Each set of instructions is a token type. Only detection creates one, so a token proves that its instructions exist.
//! 3. A kernel is generic over a trait of such tokens (`Lanes`, `PairDot`, `IntDot`) and always inlined. One function per token,
//!    marked `#[target_feature]`, calls it, so that it is compiled for those instructions.
//! 4. Dispatch takes the best token, or the portable code without one.
//!
//! Only x86-64 has vector kernels so far. Other CPUs, Arm included, run the portable ones.

mod activations;
pub mod attention;
pub mod bf16;
pub mod cpu_features;
pub mod int8;
mod lanes;
mod pair;
mod panel;
pub mod parallel;

pub use cpu_features::CpuFeatures;
pub use panel::PANEL_OUTPUTS;
pub use parallel::{ParallelFor, Serial};
