//! The layouts of a checkpoint's tensors in the data file: element types and the order of elements.

use seeward_models::contract::{BF16_GROUP, GROUP, PANEL_OUTPUTS, QUAD};
use seeward_models::{Error, Result};

use crate::data_type::DataType;

/// How a tensor is stored. All but the first take a matrix [outputs, inputs].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WeightLayout {
    /// The checkpoint's shape.
    Stored(DataType),
    /// [inputs, outputs], as `MatMul` takes it.
    Transposed(DataType),
    /// bf16 in panels of outputs, as the operators of Seeward's runtime take them.
    Bf16,
    /// 8-bit integers in panels of outputs, as the operators of Seeward's runtime take them; then their scales and their
    /// sums, [panels, groups, outputs of a panel] each.
    Int8,
}

/// A tensor of the data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    suffix: &'static str,
    pub(crate) element: DataType,
    pub(crate) dims: Vec<usize>,
}

impl Part {
    fn new(suffix: &'static str, element: DataType, dims: &[usize]) -> Self {
        Self {
            suffix,
            element,
            dims: dims.to_vec(),
        }
    }

    /// The name of this part of the tensor `name`.
    pub(crate) fn name(&self, tensor: &str) -> String {
        format!("{tensor}{}", self.suffix)
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let elements: usize = self.dims.iter().product();
        (elements * self.element.size()) as u64
    }
}

impl WeightLayout {
    /// The parts of a tensor of this shape.
    ///
    /// # Errors
    /// A shape of another rank than this layout takes.
    pub(super) fn parts(self, shape: &[usize]) -> Result<Vec<Part>> {
        match self {
            Self::Stored(element) => Ok(vec![Part::new("", element, shape)]),
            Self::Transposed(element) => {
                let [outputs, inputs] = matrix(shape)?;
                Ok(vec![Part::new(".transposed", element, &[inputs, outputs])])
            }
            Self::Bf16 => {
                let dims = panels(matrix(shape)?, BF16_GROUP);
                Ok(vec![Part::new(".bf16", DataType::Bf16, &dims)])
            }
            Self::Int8 => Ok(int8(matrix(shape)?)),
        }
    }
}

/// The shape of a matrix in panels with groups of `group` inputs.
fn panels([outputs, inputs]: [usize; 2], group: usize) -> [usize; 4] {
    let (panels, groups) = (outputs.div_ceil(PANEL_OUTPUTS), inputs.div_ceil(group));
    [panels, groups, PANEL_OUTPUTS, group]
}

fn int8([outputs, inputs]: [usize; 2]) -> Vec<Part> {
    let (panels_of_outputs, groups) = (outputs.div_ceil(PANEL_OUTPUTS), inputs.div_ceil(GROUP));
    let integers = panels([outputs, groups * GROUP], QUAD);
    let by_group = [panels_of_outputs, groups, PANEL_OUTPUTS];
    vec![
        Part::new(".int8", DataType::I8, &integers),
        Part::new(".int8.scales", DataType::F32, &by_group),
        Part::new(".int8.sums", DataType::I32, &by_group),
    ]
}

/// The rows and columns of a matrix.
///
/// # Errors
/// A shape of another rank.
pub(super) fn matrix(shape: &[usize]) -> Result<[usize; 2]> {
    let wrong = || Error::invalid(format!("expected a matrix, got the shape {shape:?}"));
    shape.try_into().map_err(|_| wrong())
}
