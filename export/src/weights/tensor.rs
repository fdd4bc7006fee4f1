//! Elements of one of the checkpoint's tensors.

use seeward_models::checkpoint::Checkpoint;
use seeward_models::{Error, Result};

use super::cast;
use super::layout;
use crate::data_type::DataType;

/// A tensor of a checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Tensor<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) name: &'a str,
}

impl Tensor<'_> {
    /// Number of elements.
    pub(super) fn elements(self) -> Result<usize> {
        Ok(self.checkpoint.info(self.name)?.shape.iter().product())
    }

    /// Rows and columns.
    pub(super) fn matrix(self) -> Result<[usize; 2]> {
        layout::matrix(&self.checkpoint.info(self.name)?.shape).map_err(|e| self.at(e))
    }

    /// Fills `into` with elements from `start` on, cast to `element`.
    pub(super) fn cast(self, start: usize, element: DataType, into: &mut [u8]) -> Result<()> {
        let dtype = self.checkpoint.info(self.name)?.dtype;
        if cast::same(dtype) == element {
            let offset = start * dtype.size();
            return self.checkpoint.read_range(self.name, offset, into);
        }
        let stored = self.read(start, into.len() / element.size())?;
        cast::cast(dtype, &stored, element, into).map_err(|e| self.at(e))
    }

    /// `count` elements from `start` on, as f32.
    pub(super) fn values(self, start: usize, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; count];
        let dtype = self.checkpoint.info(self.name)?.dtype;
        cast::widen(dtype, &self.read(start, count)?, &mut values);
        Ok(values)
    }

    fn read(self, start: usize, count: usize) -> Result<Vec<u8>> {
        let size = self.checkpoint.info(self.name)?.dtype.size();
        let mut stored = vec![0; count * size];
        self.checkpoint
            .read_range(self.name, start * size, &mut stored)?;
        Ok(stored)
    }

    /// The same error, with the tensor's name before its message.
    pub(super) fn at(self, error: Error) -> Error {
        error.at(format_args!("tensor {}", self.name))
    }
}
