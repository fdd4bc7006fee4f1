//! What a run computes in. The one place that says which numbers are rounded.
//!
//! In bf16 the passes see every weight rounded to bf16, and checkpoints hold the rounded weights, as in the published
//! runs. An update is often smaller than what bf16 can tell apart, so the optimizer moves fp32 *masters*: the weights
//! in [`Parameters`](crate::libtorch::parameters::Parameters) themselves. Rounding is an op of the graph: gradients go through
//! it to the masters, where those of all batches of a step add up in fp32, and so do their norm and the moments. A
//! frozen weight has no master, it is kept rounded.
//!
//! In fp32 whatever the precision: norms, softmax, rotary positions, the score head, the losses. Evaluations during
//! training compute as training does; probes are measured in fp32 on the weights that are saved.

use seeward_models::checkpoint::Dtype;
use seeward_models::net::SCORE_HEAD;
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::config::Config;
use crate::libtorch::native;

/// What a run computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Everything in fp32.
    #[default]
    Fp32,
    /// Weights and activations in bf16, masters and optimizer state in fp32.
    Bf16,
}

impl Precision {
    /// What `config` asks for.
    pub(crate) fn of(config: &Config) -> Self {
        if config.bf16 { Self::Bf16 } else { Self::Fp32 }
    }

    /// LibTorch's name for it.
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

    /// What the weight `name` computes in.
    pub(crate) fn kind_of(self, name: &str) -> Kind {
        if name.ends_with(SCORE_HEAD) {
            Kind::Float
        } else {
            self.kind()
        }
    }

    /// Says in a model's config.json, wherever it names an element type, which one its checkpoint has.
    pub(crate) fn declare(self, config: &mut Value) {
        let name = match self {
            Self::Fp32 => "float32",
            Self::Bf16 => "bfloat16",
        };
        config["torch_dtype"] = json!(name);
        for part in ["llm_config", "vision_config"] {
            let dtype = config.pointer_mut(&format!("/{part}/torch_dtype"));
            if let Some(dtype) = dtype.filter(|dtype| dtype.is_string()) {
                *dtype = json!(name);
            }
        }
        if let Some(own) = config.get_mut("bias_reward_config") {
            self.declare(own);
        }
    }
}

/// Lets fp32 products on an NVIDIA GPU keep only 10 bits of their factors (TF32), or forbids it. LibTorch's own default
/// allows it in convolutions. Returns what the user should know.
pub fn allow_tf32(allow: bool, device: Device) -> Option<String> {
    native::allow_tf32(allow);
    (allow && !device.is_cuda()).then(|| "tf32: not used, only CUDA devices have it".to_owned())
}

/// Whether fp32 products on an NVIDIA GPU may be less exact.
pub fn tf32_is_allowed() -> bool {
    native::tf32_is_allowed()
}

/// Runs `f` with fp32 products as exact as fp32.
pub fn without_tf32<T>(f: impl FnOnce() -> T) -> T {
    let allowed = tf32_is_allowed();
    native::allow_tf32(false);
    let result = f();
    native::allow_tf32(allowed);
    result
}
