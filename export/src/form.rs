//! What a tensor of the checkpoint becomes in the data file: its element type, and how its elements are ordered.

use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};
use seeward_models::{Error, Result};

use crate::proto::DataType;
use crate::quantize::{BLOCK, BLOCK_BYTES};

/// What a tensor becomes. All but the first want a matrix [output, input].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As in the checkpoint.
    Stored(DataType),
    /// [input, output], which is what `MatMul` takes.
    Transposed(DataType),
    /// 8-bit integers in panels of outputs, which is what our runtime's operator takes.
    Int8,
    /// Their scales [output].
    Int8Scales,
    /// Their sums [output].
    Int8Sums,
    /// 4-bit integers [output, blocks, bytes of a block], which is what `MatMulNBits` takes.
    Int4,
    /// Their scales [output, blocks].
    Int4Scales,
}

impl Form {
    pub(crate) fn element(self) -> DataType {
        match self {
            Self::Stored(element) | Self::Transposed(element) => element,
            Self::Int8 => DataType::I8,
            Self::Int4 => DataType::U8,
            Self::Int8Scales | Self::Int4Scales => DataType::F32,
            Self::Int8Sums => DataType::I32,
        }
    }

    /// The dimensions that `shape` gets.
    ///
    /// # Errors
    /// A shape of another rank than this form takes.
    pub(crate) fn dims(self, shape: &[usize]) -> Result<Vec<usize>> {
        if let Self::Stored(_) = self {
            return Ok(shape.to_vec());
        }
        let [outputs, inputs] = matrix(shape)?;
        let blocks = inputs.div_ceil(BLOCK);
        Ok(match self {
            Self::Stored(_) => shape.to_vec(),
            Self::Transposed(_) => vec![inputs, outputs],
            Self::Int8 => vec![
                outputs.div_ceil(PANEL_OUTPUTS),
                inputs.div_ceil(PANEL_GROUP),
                PANEL_OUTPUTS,
                PANEL_GROUP,
            ],
            Self::Int8Scales | Self::Int8Sums => vec![outputs],
            Self::Int4 => vec![outputs, blocks, BLOCK_BYTES],
            Self::Int4Scales => vec![outputs, blocks],
        })
    }

    /// What the tensor `name` is called in this form.
    pub(crate) fn name(self, name: &str) -> String {
        let end = match self {
            Self::Stored(_) => return name.to_owned(),
            Self::Transposed(_) => "transposed",
            Self::Int8 => "int8",
            Self::Int8Scales => "int8.scales",
            Self::Int8Sums => "int8.sums",
            Self::Int4 => "int4",
            Self::Int4Scales => "int4.scales",
        };
        format!("{name}.{end}")
    }
}

/// The rows and columns of a matrix.
pub(crate) fn matrix(shape: &[usize]) -> Result<[usize; 2]> {
    let wrong = || Error::invalid(format!("expected a matrix, got the shape {shape:?}"));
    shape.try_into().map_err(|_| wrong())
}
