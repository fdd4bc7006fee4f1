//! Pixels → patch embeddings, and pixel shuffle to fewer, wider patches.

use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use tch::{Kind, TchError, Tensor};

/// u8 pixels [tiles, H, W, 3] → patches [tiles, patches, width] by a convolution.
pub(super) fn embedding(
    pixels: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    patch: usize,
    n: Normalization,
) -> Result<Tensor, TchError> {
    let side = patch as i64;
    let x = normalized(pixels, n, &[3])?
        .f_permute([0, 3, 1, 2])?
        .f_to_kind(weight.kind())?;
    let x = x.f_conv2d(weight, Some(bias), [side, side], [0, 0], [1, 1], 1)?;
    x.f_flatten(2, 3)?.f_transpose(1, 2)
}

/// u8 patches [rows, patches, 3·patch²], channel by channel → [rows, patches, width]. The frames of the weight [width, 3,
/// frames, patch, patch] see the same pixels: their sum does.
pub(super) fn projection(
    patches: &Tensor,
    weight: &Tensor,
    bias: Option<Tensor>,
    n: Normalization,
) -> Result<Tensor, TchError> {
    let (rows, count, values) = patches.size3()?;
    let channels = patches.f_view([rows, count, 3, values / 3])?;
    let x = normalized(&channels, n, &[3, 1])?
        .f_flatten(2, 3)?
        .f_to_kind(weight.kind())?;
    let summed = weight.f_sum_dim_intlist([2i64].as_slice(), false, weight.kind())?;
    x.f_linear(&summed.f_flatten(1, -1)?, bias)
}

/// (x / 255 − mean) / std, with the values of channels in this shape.
fn normalized(pixels: &Tensor, n: Normalization, channels: &[i64]) -> Result<Tensor, TchError> {
    let of_channels = |values: [f32; 3]| {
        let values = Tensor::from_slice(&values).f_view(channels)?;
        values.f_to_device(pixels.device())
    };
    let x = pixels.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    x.f_sub(&of_channels(n.mean())?)?
        .f_div(&of_channels(n.std())?)
}

/// [tiles, side², width] → [tiles, (side/window)², width·window²]: a window's patches side by side, row by row.
pub(super) fn pixel_shuffle(
    x: &Tensor,
    side: usize,
    window: usize,
    order: TokenOrder,
) -> Result<Tensor, TchError> {
    let (tiles, _, width) = x.size3()?;
    let (n, w) = ((side / window) as i64, window as i64);
    let tokens = match order {
        TokenOrder::ByRow => [0, 1, 3, 2, 4, 5],
        TokenOrder::ByColumn => [0, 3, 1, 2, 4, 5],
    };
    let windows = x.f_reshape([tiles, n, w, n, w, width])?;
    // The token's position; within it the window's rows, then columns, then channels.
    windows
        .f_permute(tokens)?
        .f_reshape([tiles, n * n, w * w * width])
}
