//! Activation checkpointing: a block's activations are recomputed in the backward pass instead of kept for it.
//!
//! In the forward pass, a block runs without gradients between two leaves: its detached input and its output. Both are
//! recorded on a tape with the block itself. In the backward pass, once the loss has given the last output its gradient,
//! the tape is rewound: newest first, each block runs again from its input, with gradients, and passes its output's
//! gradient on. The products and their order are those of a plain backward pass, so the gradients have the same bits.

use std::cell::RefCell;

use seeward_models::Result;
use tch::{Kind, Tensor, no_grad};

/// The blocks of a forward pass that are to be recomputed.
#[derive(Default)]
pub(crate) struct Tape(RefCell<Vec<Entry>>);

/// A cut of the graph: the gradient of the leaf `gradient_at` continues into the value that `recompute` returns.
struct Entry {
    gradient_at: Tensor,
    recompute: Box<dyn FnOnce() -> Result<Tensor>>,
}

impl Tape {
    /// Runs `block` on `x` without keeping activations.
    ///
    /// # Errors
    /// An error of `block`.
    pub(crate) fn block(
        &self,
        x: &Tensor,
        block: impl Fn(&Tensor) -> Result<Tensor> + 'static,
    ) -> Result<Tensor> {
        let input = self.cut(x);
        let output = no_grad(|| block(&input))?.detach().set_requires_grad(true);
        self.push(&output, move || block(&input));
        Ok(output)
    }

    /// A leaf in the place of `x`, which gets the leaf's gradient when the tape is rewound.
    pub(crate) fn cut(&self, x: &Tensor) -> Tensor {
        if x.is_leaf() {
            return x.shallow_clone();
        }
        let (leaf, x) = (x.detach().set_requires_grad(true), x.shallow_clone());
        self.push(&leaf, move || Ok(x));
        leaf
    }

    fn push(&self, gradient_at: &Tensor, recompute: impl FnOnce() -> Result<Tensor> + 'static) {
        self.0.borrow_mut().push(Entry {
            gradient_at: gradient_at.shallow_clone(),
            recompute: Box::new(recompute),
        });
    }

    /// Completes the backward pass after the loss's own.
    ///
    /// # Errors
    /// An error of a block.
    pub(crate) fn rewind(&self) -> Result<()> {
        // Popped one by one: an entry's tensors are freed before the next block runs.
        while let Some(Entry {
            gradient_at,
            recompute,
        }) = self.pop()
        {
            let gradient = gradient_at.grad();
            if gradient.defined() {
                // The gradient of this sum at the value is exactly `gradient`.
                let value = recompute()?;
                (value * gradient.detach()).sum(Kind::Float).backward();
            }
        }
        Ok(())
    }

    fn pop(&self) -> Option<Entry> {
        self.0.borrow_mut().pop()
    }
}
