//! Attention and its masks.

use std::rc::Rc;

use tch::{Device, Kind, TchError, Tensor};

/// An attention mask.
#[derive(Clone)]
pub struct Mask(Rc<MaskKind>);

enum MaskKind {
    /// A token attends to every earlier token of its row: one conversation a row, without padding.
    Causal,
    /// 0 where a token attends to another, else −∞, `[rows, 1, tokens, tokens]`; never to a later token.
    Tree(Tensor),
    /// The same for windows, in which tokens see later ones too.
    Windows(Tensor),
}

impl Mask {
    /// The mask of rows that are one conversation each, without padding.
    pub(crate) fn causal() -> Self {
        Self(Rc::new(MaskKind::Causal))
    }

    /// The mask of a forest's documents and branches, both `[rows, tokens]`, in this element type.
    pub(crate) fn tree(
        documents: &Tensor,
        branches: &Tensor,
        kind: Kind,
    ) -> Result<Self, TchError> {
        let same = |x: &Tensor| x.f_unsqueeze(2)?.f_eq_tensor(&x.f_unsqueeze(1)?);
        let shared = branches.f_eq(0)?.f_unsqueeze(1)?;
        let reachable = same(branches)?.f_logical_or(&shared)?;
        let visible = same(documents)?.f_logical_and(&reachable)?.f_tril(0)?;
        Ok(Self(Rc::new(MaskKind::Tree(added(&visible, kind)?))))
    }

    /// The mask of windows `[rows, tokens]`: equal ids see each other.
    pub(crate) fn windows(windows: &Tensor, kind: Kind) -> Result<Self, TchError> {
        let same = windows
            .f_unsqueeze(2)?
            .f_eq_tensor(&windows.f_unsqueeze(1)?)?;
        Ok(Self(Rc::new(MaskKind::Windows(added(&same, kind)?))))
    }
}

/// Whether tokens are visible `[rows, tokens, tokens]` → 0 or −∞ `[rows, 1, tokens, tokens]`.
fn added(visible: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    let hidden = visible.f_logical_not()?.f_unsqueeze(1)?;
    hidden
        .f_zeros_like()?
        .f_to_kind(kind)?
        .f_masked_fill(&hidden, f64::NEG_INFINITY)
}

/// `[rows, tokens, heads·head]` → `[rows, heads, tokens, head]`.
pub(crate) fn to_heads(x: &Tensor, heads: usize) -> Result<Tensor, TchError> {
    let (rows, tokens, width) = x.size3()?;
    let heads = heads as i64;
    x.f_view([rows, tokens, heads, width / heads])?
        .f_transpose(1, 2)
}

/// Attention of heads, `[rows, heads, tokens, head]`.
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Mask>,
) -> Result<Tensor, TchError> {
    match mask.map(|mask| &*mask.0) {
        Some(MaskKind::Tree(mask)) if query.device() == Device::Cpu => {
            tree_attention(query, key, value, mask)
        }
        mask => scaled_dot_product(query, key, value, mask),
    }
}

/// Attention under a tree mask on the CPU. LibTorch's internal kernel accepts a mask together with `is_causal`, which
/// skips everything above the diagonal: half of the work. The public function refuses the combination.
fn tree_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: &Tensor,
) -> Result<Tensor, TchError> {
    let queries_per_key = query.size()[1] / key.size()[1];
    let repeated = |x: &Tensor| x.f_repeat_interleave_self_int(queries_per_key, 1, None);
    let attention = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
        query,
        &repeated(key)?,
        &repeated(value)?,
        0.0,
        true,
        Some(mask),
        None,
    );
    attention.map(|(output, _)| output)
}

/// Attention by LibTorch's public function. With fewer key heads than query heads, a key head is shared (GQA).
fn scaled_dot_product(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&MaskKind>,
) -> Result<Tensor, TchError> {
    let (mask, causal) = match mask {
        None => (None, false),
        Some(MaskKind::Causal) => (None, true),
        Some(MaskKind::Tree(mask) | MaskKind::Windows(mask)) => (Some(mask), false),
    };
    let grouped = query.size()[1] != key.size()[1];
    Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, causal, None, grouped)
}
