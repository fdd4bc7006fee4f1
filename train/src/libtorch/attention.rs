//! Attention and its masks.

use std::rc::Rc;

use tch::{Device, Kind, TchError, Tensor};

use super::native;

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

/// Forbids cuDNN's attention, which LibTorch prefers on recent GPUs: it plans again for every shape that it meets, and rows of
/// a forest have another length in nearly every step.
pub(crate) fn without_cudnn() {
    native::use_cudnn_attention(false);
}

/// Attention of heads, `[rows, heads, tokens, head]`. With fewer key heads than query heads, a key head is shared (GQA).
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Mask>,
) -> Result<Tensor, TchError> {
    let grouped = query.size()[1] != key.size()[1];
    let attend = |key: &Tensor, value: &Tensor, mask, causal, grouped| {
        Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, causal, None, grouped)
    };
    match mask.map(|mask| &*mask.0) {
        None => attend(key, value, None, false, grouped),
        Some(MaskKind::Causal) => attend(key, value, None, true, grouped),
        // Every head of a vision encoder has its own keys.
        Some(MaskKind::Windows(mask)) => attend(key, value, Some(mask), false, grouped),
        Some(MaskKind::Tree(mask)) => {
            // With a mask no fused kernel of LibTorch takes shared key heads.
            let [key, value] = [repeated(query, key)?, repeated(query, value)?];
            match query.device() {
                Device::Cpu => tree_attention(query, &key, &value, mask),
                _ => attend(&key, &value, Some(mask), false, false),
            }
        }
    }
}

/// Heads of keys or values, as many as of queries.
fn repeated(query: &Tensor, x: &Tensor) -> Result<Tensor, TchError> {
    let queries_per_key = query.size()[1] / x.size()[1];
    x.f_repeat_interleave_self_int(queries_per_key, 1, None)
}

/// Attention under a tree mask on the CPU. LibTorch's internal kernel accepts a mask together with `is_causal`, which
/// skips everything above the diagonal: half of the work. The public function refuses the combination.
fn tree_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: &Tensor,
) -> Result<Tensor, TchError> {
    let attention = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
        query,
        key,
        value,
        0.0,
        true,
        Some(mask),
        None,
    );
    attention.map(|(output, _)| output)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    /// On a GPU the public function computes what the CPU's own kernel does.
    #[test]
    fn a_tree_on_the_cpu_is_attended_as_by_the_public_function() {
        tch::manual_seed(0);
        let heads = |heads| Tensor::randn([2, heads, 6, 8], (Kind::Float, Device::Cpu));
        let [query, key, value] = [heads(4), heads(2), heads(2)];
        let documents = Tensor::from_slice(&[0i64, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]).view([2, 6]);
        let branches = Tensor::from_slice(&[0i64, 1, 1, 2, 0, 1, 0, 0, 1, 1, 2, 2]).view([2, 6]);
        let mask = Mask::tree(&documents, &branches, Kind::Float).expect("a mask");
        let MaskKind::Tree(tensor) = &*mask.0 else {
            panic!("expected a tree")
        };
        let ours = attend(&query, &key, &value, Some(&mask)).expect("attention");
        let [keys, values] = [&key, &value].map(|x| repeated(&query, x).expect("heads"));
        let public = Tensor::scaled_dot_product_attention(
            &query,
            &keys,
            &values,
            Some(tensor),
            0.0,
            false,
            None,
            false,
        );
        let difference = (ours - public).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn cudnn_is_forbidden() {
        without_cudnn();
        assert!(!native::cudnn_attention_is_used());
    }
}
