//! The contract between export and runtime: the ports of the two graphs, and the operators that the runtime adds to ONNX
//! Runtime's.

use crate::image::{GridSettings, ImageSettings};

/// The domain of the operators that the runtime adds to ONNX Runtime's.
pub const OPERATORS: &str = "seeward";
/// Attention over a forest: (query, key, value, documents?, branches?) → weighted sums of values, with the attributes
/// `q_num_heads` and `kv_num_heads` of ONNX's `Attention`.
pub const FOREST_ATTENTION: &str = "ForestAttention";
/// Quantization of a linear layer's inputs, row by row: (x [.., inputs]) → (integers, scales). Values are rotated and scaled in
/// groups of [`GROUP`], the last one padded with zeros: integers u8 [.., groups·GROUP] with the zero point 128, scales f32 [..,
/// groups]. Bundles of version 0.2 and older have one group, the row, without rotation, and name its range by the attributes
/// `zero`, the zero point, and `above`, the number of levels above it.
pub const QUANTIZE_ROWS: &str = "QuantizeRows";
/// A linear layer in integers: (integers, scales, weights, scales of weights, sums of weights, bias?) → floats, with the
/// attributes `zero` and `outputs`. Weights i8 [outputs, inputs], rotated as the inputs are and divided by [`GROUP`], are packed
/// in the order in which CPUs multiply them: [panels, quads of inputs, outputs of a panel, inputs of a quad], with zeros where
/// outputs or inputs are missing; their scales f32 and sums i32 are [panels, groups, outputs of a panel]. Bundles of version 0.2
/// and older have no `outputs`, no rotation, and scales and sums `[outputs]`.
pub const INT8_LINEAR: &str = "Int8Linear";
/// The first half of a feed-forward layer in integers: (integers, scales, and one or two layers' inputs of
/// [`INT8_LINEAR`]) → (integers, scales), with the attributes `zero` and `outputs`. Bundles of version 0.2 and older have `zero`,
/// `hidden_zero` and `hidden_above`.
pub const INT8_HIDDEN: &str = "Int8Hidden";
/// A linear layer in bf16: (floats or bf16, weights, bias?) → floats, with the attribute `outputs`. Weights bf16 [outputs,
/// inputs] are packed as those of [`INT8_LINEAR`], in groups of [`BF16_GROUP`] inputs.
pub const BF16_LINEAR: &str = "Bf16Linear";
/// The first half of a feed-forward layer in bf16: (floats or bf16, and one or two layers' weights and bias?) → bf16, with
/// the attribute `outputs`.
pub const BF16_HIDDEN: &str = "Bf16Hidden";
/// Outputs of a panel of packed weights.
pub const PANEL_OUTPUTS: usize = 64;
/// Inputs of a quad of packed weights.
pub const QUAD: usize = 4;
/// Inputs that are rotated together and share a scale.
pub const GROUP: usize = 64;
/// Inputs of a pair of packed bf16 weights.
pub const BF16_GROUP: usize = 2;

/// Element type of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Unsigned byte.
    U8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
}

/// One dimension of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Chosen at run time; equal names are equal sizes.
    Free(&'static str),
    /// Known when the graph is written.
    Fixed(usize),
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Its element type.
    pub element: Element,
    /// Its shape.
    pub dims: Vec<Dim>,
}

/// Inputs and outputs of one graph, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The inputs.
    pub inputs: Vec<Port>,
    /// The outputs.
    pub outputs: Vec<Port>,
}

fn port(name: &'static str, element: Element, dims: &[Dim]) -> Port {
    Port {
        name,
        element,
        dims: dims.to_vec(),
    }
}

/// The vision graph, which encodes one image: → f32 image embeddings [tiles, tokens, width]. Of tiles it takes u8 pixels
/// [tiles, H, W, 3]; of a grid, which counts as one tile, the patches of [`crate::image::Grid`] and the places of
/// [`crate::image::GridPlaces`].
pub fn vision_contract(images: &ImageSettings, tokens_per_tile: usize, width: usize) -> Contract {
    let (inputs, tiles, tokens) = match images {
        ImageSettings::Tiles(settings) => {
            let (tiles, side) = (Dim::Free("tiles"), Dim::Fixed(settings.image_size as usize));
            let pixels = port("pixels", Element::U8, &[tiles, side, side, Dim::Fixed(3)]);
            (vec![pixels], tiles, Dim::Fixed(tokens_per_tile))
        }
        ImageSettings::Grid(settings) => (
            grid_inputs(settings),
            Dim::Fixed(1),
            Dim::Free("image_tokens"),
        ),
    };
    let embeddings = [tiles, tokens, Dim::Fixed(width)];
    Contract {
        inputs,
        outputs: vec![port("image_embeds", Element::F32, &embeddings)],
    }
}

fn grid_inputs(settings: &GridSettings) -> Vec<Port> {
    use Element::{F32, I32, I64, U8};
    let (one, patches) = (Dim::Fixed(1), Dim::Free("patches"));
    let values = Dim::Fixed(3 * (settings.patch as usize).pow(2));
    let table = [patches, Dim::Fixed(settings.head_dim / 2)];
    let mut inputs = vec![
        port("patches", U8, &[one, patches, values]),
        port("position_ids", I64, &[one, patches]),
        port("rope_cos", F32, &table),
        port("rope_sin", F32, &table),
    ];
    if settings.window.is_some() {
        inputs.push(port("window_ids", I32, &[one, patches]));
    }
    if settings.table.is_some() {
        let taps = [one, patches, Dim::Fixed(4)];
        inputs.push(port("taps", I64, &taps));
        inputs.push(port("tap_weights", F32, &taps));
    }
    inputs
}

/// The reward graph: a forest, its image embeddings and rope tables → f32 rewards `[k]`. Names and order are those of
/// [`crate::net::RewardInputs`]; `width` is that of the image embeddings.
pub fn reward_contract(width: usize, head_dim: usize) -> Contract {
    use Element::{F32, I32, I64};
    let forest = [Dim::Free("rows"), Dim::Free("tokens")];
    let images = Dim::Free("images");
    let table = [Dim::Free("entries"), Dim::Fixed(head_dim / 2)];
    let rewards = [Dim::Free("rewards")];
    Contract {
        inputs: vec![
            port("input_ids", I64, &forest),
            port("position_ids", I64, &forest),
            port("document_ids", I32, &forest),
            port("branch_ids", I32, &forest),
            port("image_embeds", F32, &[images, Dim::Fixed(width)]),
            port("image_positions", I64, &[images]),
            port("rope_cos", F32, &table),
            port("rope_sin", F32, &table),
            port("reward_positions", I64, &rewards),
        ],
        outputs: vec![port("rewards", F32, &rewards)],
    }
}
