//! The ONNX messages that are written here, with the field numbers of the published `onnx.proto` (proto2: scalars are
//! optional, repeated numbers are not packed). Fields that no exported graph uses are left out.

use prost::Message;
use seeward_models::contract::{Dim, Element, Port};

/// `TensorProto.DataType`, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub(crate) enum DataType {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    Bf16 = 16,
}

impl DataType {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

impl From<Element> for DataType {
    fn from(element: Element) -> Self {
        match element {
            Element::U8 => Self::U8,
            Element::I32 => Self::I32,
            Element::I64 => Self::I64,
            Element::F32 => Self::F32,
        }
    }
}

/// The file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int64, optional, tag = "1")]
    pub(crate) ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) producer_name: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
    #[prost(string, optional, tag = "1")]
    pub(crate) domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<Node>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<Attribute>,
    #[prost(string, optional, tag = "7")]
    pub(crate) domain: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(crate) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    #[prost(int32, optional, tag = "20")]
    pub(crate) kind: Option<i32>,
}

impl Attribute {
    const FLOAT: i32 = 1;
    const INT: i32 = 2;
    const INTS: i32 = 7;

    pub(crate) fn float(name: &str, value: f32) -> Self {
        Self {
            f: Some(value),
            ..Self::of(name, Self::FLOAT)
        }
    }

    pub(crate) fn int(name: &str, value: i64) -> Self {
        Self {
            i: Some(value),
            ..Self::of(name, Self::INT)
        }
    }

    pub(crate) fn ints(name: &str, values: &[i64]) -> Self {
        Self {
            ints: values.to_vec(),
            ..Self::of(name, Self::INTS)
        }
    }

    fn of(name: &str, kind: i32) -> Self {
        Self {
            name: Some(name.to_owned()),
            kind: Some(kind),
            ..Self::default()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    pub(crate) name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(crate) raw_data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<StringPair>,
    #[prost(int32, optional, tag = "14")]
    pub(crate) data_location: Option<i32>,
}

impl Tensor {
    /// `data_location` of a tensor in another file.
    pub(crate) const EXTERNAL: i32 = 1;
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringPair {
    #[prost(string, optional, tag = "1")]
    pub(crate) key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

impl StringPair {
    pub(crate) fn new(key: &str, value: impl ToString) -> Self {
        Self {
            key: Some(key.to_owned()),
            value: Some(value.to_string()),
        }
    }
}

/// Name, element type and shape of an input or output.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, optional, tag = "1")]
    pub(crate) element: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dims: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(crate) value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) parameter: Option<String>,
}

impl From<&Port> for ValueInfo {
    fn from(port: &Port) -> Self {
        let shape = Shape {
            dims: port.dims.iter().map(Dimension::from).collect(),
        };
        let tensor = TensorType {
            element: Some(DataType::from(port.element) as i32),
            shape: Some(shape),
        };
        Self {
            name: Some(port.name.to_owned()),
            kind: Some(Type {
                tensor: Some(tensor),
            }),
        }
    }
}

impl From<&Dim> for Dimension {
    fn from(dim: &Dim) -> Self {
        match *dim {
            Dim::Free(name) => Self {
                value: None,
                parameter: Some(name.to_owned()),
            },
            Dim::Fixed(size) => Self {
                value: Some(size as i64),
                parameter: None,
            },
        }
    }
}
