//! The precision of a run. The one place that says which values are rounded.
//!
//! In bf16, forward passes use weights rounded to bf16, and checkpoints hold the rounded weights, as in the published
//! runs. An update is often smaller than bf16 can represent, so the optimizer updates fp32 *masters*: the weights in
//! [`Parameters`](crate::libtorch::parameters::Parameters) themselves. Rounding is an op of the graph: gradients flow
//! through it to the masters, where those of all batches of a step add up in fp32; their norm and the moments are fp32
//! too. A frozen weight has no master; it is stored rounded.
//!
//! Always in fp32: norms, softmax, rotary positions, the score head, the losses. Evaluations during training use the
//! run's precision; probes are measured in fp32 on the saved weights.

use seeward_models::checkpoint::Dtype;
use seeward_models::net;
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::config::Config;
use crate::libtorch::native;

/// The precision of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Everything in fp32.
    #[default]
    Fp32,
    /// Weights and activations in bf16, masters and optimizer state in fp32.
    Bf16,
}

impl Precision {
    /// The precision that `config` asks for.
    pub(crate) fn of(config: &Config) -> Self {
        if config.bf16 { Self::Bf16 } else { Self::Fp32 }
    }

    /// LibTorch's element type.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// The element type of checkpoints.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::Fp32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
        }
    }

    /// The element type in which the weight `name` is used.
    pub(crate) fn kind_of(self, name: &str) -> Kind {
        if net::is_of_head(name) {
            Kind::Float
        } else {
            self.kind()
        }
    }

    /// Sets the element type of the checkpoint wherever a model's config.json names one.
    pub(crate) fn declare(self, config: &mut Value) {
        let name = match self {
            Self::Fp32 => "float32",
            Self::Bf16 => "bfloat16",
        };
        // The newer key is transformers 5's.
        let key = match config.get("dtype") {
            Some(_) => "dtype",
            None => "torch_dtype",
        };
        config[key] = json!(name);
        for part in ["llm_config", "text_config", "vision_config"] {
            let dtype = config.pointer_mut(&format!("/{part}/{key}"));
            if let Some(dtype) = dtype.filter(|dtype| dtype.is_string()) {
                *dtype = json!(name);
            }
        }
        if let Some(own) = config.get_mut("bias_reward_config") {
            self.declare(own);
        }
    }
}

/// Allows or forbids TF32 on NVIDIA GPUs: fp32 matrix products with 10-bit mantissas. LibTorch's default allows it in
/// convolutions. Returns a notice if the setting has no effect.
pub fn allow_tf32(allow: bool, device: Device) -> Option<String> {
    native::allow_tf32(allow);
    (allow && !device.is_cuda()).then(|| "tf32: no effect: only CUDA devices support it".to_owned())
}

/// Whether TF32 is allowed.
pub fn tf32_is_allowed() -> bool {
    native::tf32_is_allowed()
}

/// Runs `f` without TF32.
pub fn without_tf32<T>(f: impl FnOnce() -> T) -> T {
    let allowed = tf32_is_allowed();
    native::allow_tf32(false);
    let result = f();
    native::allow_tf32(allowed);
    result
}
