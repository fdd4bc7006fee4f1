//! Config values that are a choice among names, [`Format`] and [`Resume`].

use seeward_models::kinds::HeadActivation;
use seeward_models::sample::Format;
use serde_norway::Value;

use super::setting::{Choice, Setting};

/// The checkpoint that a run resumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint of the output folder, if it has any.
    Newest,
    /// None: the output folder must not have checkpoints.
    Never,
    /// This checkpoint, if the output folder has no checkpoints yet; the newest one afterwards.
    From(String),
}

impl Setting for Resume {
    fn expected() -> String {
        "a checkpoint folder, true or false or null".into()
    }

    fn read(value: &Value) -> Option<Self> {
        if value.is_null() {
            return Some(Self::Newest);
        }
        match bool::read(value) {
            Some(true) => Some(Self::Newest),
            Some(false) => Some(Self::Never),
            None => String::read(value).map(Self::From),
        }
    }

    fn yaml(&self) -> Value {
        match self {
            Self::Newest => Value::Null,
            Self::Never => Value::from(false),
            Self::From(folder) => Value::from(folder.as_str()),
        }
    }
}

impl Setting for Format {
    fn expected() -> String {
        format!("one of {}", Self::names().collect::<Vec<_>>().join(", "))
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn yaml(&self) -> Value {
        Value::from(self.name())
    }
}

impl Choice for HeadActivation {
    const NAMES: &'static [(&'static str, Self)] = &Self::NAMED;
}

macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $kind:ident { $($(#[doc = $what:literal])+ $choice:ident = $name:literal,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[doc = $what])+ $choice,)+ }

        impl Choice for $kind {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$choice)),+];
        }

        impl $kind {
            /// The name in the config.
            pub fn name(self) -> &'static str {
                match self { $(Self::$choice => $name,)+ }
            }
        }
    )+};
}

choices! {
    /// Training algorithm.
    Algorithm {
        /// One branch, trained on pairs.
        Standard = "standard",
        /// Two branches; the failures of the text-only branch weight the pairs of the main branch.
        ShortcutAware = "shortcut_aware",
        /// Next-token training on responses.
        Sft = "sft",
    }
    /// How the text-only branch reweights the main loss. For a pair, f and ℓ_f are the margin and the loss of the main
    /// branch, g and ℓ_g those of the text-only branch.
    Sfc {
        /// The weight of ℓ_f is the shortcut-failure coefficient, ℓ_g / (ℓ_g + ℓ_f).
        Published = "published",
        /// The weight of ℓ_f is σ(−g).
        InversePropensity = "inverse_propensity",
        /// The loss is −log σ(f + g) instead of ℓ_f, with g as a constant.
        ProductOfExperts = "product_of_experts",
    }
    /// Learning-rate schedule.
    SchedulerKind {
        /// Linear decay to the minimum.
        Linear = "linear",
        /// Half a cosine, from the peak to the minimum.
        Cosine = "cosine",
        /// The peak in every step, without warm-up.
        Constant = "constant",
        /// The peak after the warm-up.
        ConstantWithWarmup = "constant_with_warmup",
    }
    /// When checkpoints are saved, in addition to the last step.
    SaveStrategy {
        /// Only after the last step.
        No = "no",
        /// Every `save_steps`.
        Steps = "steps",
        /// After every epoch.
        Epoch = "epoch",
    }
    /// When evaluation sets are evaluated; any choice but `No` includes the last step.
    EvalStrategy {
        /// Never.
        No = "no",
        /// Every `eval_steps`.
        Steps = "steps",
        /// After every epoch.
        Epoch = "epoch",
    }
    /// Mean and standard deviation of the pixel normalisation.
    Normalization {
        /// ImageNet's.
        ImageNet = "imagenet",
        /// CLIP's.
        Clip = "clip",
        /// SigLIP's: one half.
        Siglip = "siglip",
    }
    /// Version of the pixel shuffle.
    PixelShuffle {
        /// The first version, which transposes the image.
        V1 = "v1",
        /// The corrected version.
        V2 = "v2",
    }
}
