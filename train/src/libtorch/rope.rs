//! Rotary positions.

use tch::{Kind, TchError, Tensor};

use crate::libtorch::attention::to_heads;

/// Rows of a table [entries, head/2] at positions [rows, tokens] → [rows, 1, tokens, head/2]: one for all heads.
pub(super) fn rows(table: &Tensor, positions: &Tensor) -> Result<Tensor, TchError> {
    let (rows, tokens) = positions.size2()?;
    let picked = table.f_index_select(0, &positions.f_flatten(0, 1)?)?;
    picked.f_view([rows, 1, tokens, -1])
}

/// Rotates x [rows, tokens, heads·head] by its rows of the tables, in f32.
pub(super) fn rotated(
    x: &Tensor,
    [cos, sin]: [&Tensor; 2],
    heads: usize,
) -> Result<Tensor, TchError> {
    let halves = to_heads(x, heads)?.f_to_kind(Kind::Float)?.f_chunk(2, -1)?;
    let (a, b) = (&halves[0], &halves[1]);
    let first = a.f_mul(cos)?.f_sub(&b.f_mul(sin)?)?;
    let second = b.f_mul(cos)?.f_add(&a.f_mul(sin)?)?;
    let joined = Tensor::f_cat(&[first, second], -1)?.f_to_kind(x.kind())?;
    joined.f_transpose(1, 2)?.f_reshape(&x.size()[..])
}
