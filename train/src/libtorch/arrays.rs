//! Host arrays as LibTorch's tensors: by slice and shape, in this one place.

use ndarray::{Array, Dimension};
use seeward_models::{Error, Result};
use tch::Tensor;
use tch::kind::Element;

/// A tensor on the CPU with a copy of the array's values, in its shape.
///
/// # Errors
/// An array whose rows do not lie one after the other, or LibTorch's refusal.
pub(crate) fn tensor<T: Element, D: Dimension>(array: &Array<T, D>) -> Result<Tensor> {
    let values = array.as_slice();
    let values = values.ok_or_else(|| Error::invalid("an array that is not contiguous"))?;
    let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(values)
        .f_view(&shape[..])
        .map_err(Error::invalid)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn shape_and_order_stay() {
        let tensor = tensor(&array![[1i64, 2, 3], [4, 5, 6]]).expect("contiguous");
        assert_eq!(tensor.size(), [2, 3]);
        let rows: Vec<Vec<i64>> = tensor.try_into().expect("two rows");
        assert_eq!(rows, [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn a_transposed_array_is_refused() {
        let turned = array![[1i64, 2], [3, 4]].reversed_axes();
        assert!(tensor(&turned).is_err());
    }
}
