//! Small tensors inside the graph file.

use crate::data_type::DataType;

/// A constant input of an operator, [n].
pub(super) enum Constant<'a> {
    I64(&'a [i64]),
    I32(&'a [i32]),
    F32(&'a [f32]),
}

impl Constant<'_> {
    /// Type and values, so that equal constants have equal names.
    pub(super) fn name(&self) -> String {
        match self {
            Self::I64(values) => format!("i64{values:?}"),
            Self::I32(values) => format!("i32{values:?}"),
            Self::F32(values) => format!("f32{values:?}"),
        }
    }

    pub(super) fn element(&self) -> DataType {
        match self {
            Self::I64(_) => DataType::I64,
            Self::I32(_) => DataType::I32,
            Self::F32(_) => DataType::F32,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}
