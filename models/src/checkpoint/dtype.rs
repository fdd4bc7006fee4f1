//! Element types of weights.

use safetensors::tensor::Dtype as StoredDtype;

use crate::{Error, Result};

/// Element type of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float, IEEE.
    F16,
    /// 16-bit float with the exponent of f32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    pub(super) fn from_stored(dtype: StoredDtype) -> Result<Self> {
        match dtype {
            StoredDtype::F32 => Ok(Self::F32),
            StoredDtype::F16 => Ok(Self::F16),
            StoredDtype::BF16 => Ok(Self::Bf16),
            other => Err(Error::invalid(format!(
                "expected F32, F16 or BF16, got {other:?}"
            ))),
        }
    }

    pub(super) fn stored(self) -> StoredDtype {
        match self {
            Self::F32 => StoredDtype::F32,
            Self::F16 => StoredDtype::F16,
            Self::Bf16 => StoredDtype::BF16,
        }
    }
}
