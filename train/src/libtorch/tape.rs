//! Activation checkpointing: a block's activations are not kept for the backward pass but computed again in it.
//!
//! Forward, a block runs without gradients between two leaves: its input, cut off from what made it, and its output. Both
//! go on a tape with the block itself. Backward, once the loss has given the last output its gradient, the tape is
//! rewound: newest first, each block runs again from its input, this time differentiated, and hands its output's
//! gradient on. The products and their order are those of a plain backward pass, so that gradients are the same bits.

use std::cell::RefCell;

use seeward_models::Result;
use tch::{Kind, Tensor, no_grad};

/// What was not kept of a forward pass.
#[derive(Default)]
pub(crate) struct Tape(RefCell<Vec<Entry>>);

/// A place where the graph is cut: `gradient_at` holds the gradient with which `again` goes on.
struct Entry {
    gradient_at: Tensor,
    again: Box<dyn FnOnce() -> Result<Tensor>>,
}

impl Tape {
    /// Runs `block` on `x` without keeping activations.
    ///
    /// # Errors
    /// Those of `block`.
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
    fn cut(&self, x: &Tensor) -> Tensor {
        if x.is_leaf() {
            return x.shallow_clone();
        }
        let (leaf, x) = (x.detach().set_requires_grad(true), x.shallow_clone());
        self.push(&leaf, move || Ok(x));
        leaf
    }

    fn push(&self, gradient_at: &Tensor, again: impl FnOnce() -> Result<Tensor> + 'static) {
        self.0.borrow_mut().push(Entry {
            gradient_at: gradient_at.shallow_clone(),
            again: Box::new(again),
        });
    }

    /// The rest of the backward pass, after the loss's own.
    ///
    /// # Errors
    /// Those of the blocks.
    pub(crate) fn rewind(&self) -> Result<()> {
        // Popped one by one: what an entry holds is free before the next block runs.
        while let Some(Entry { gradient_at, again }) = self.pop() {
            let gradient = gradient_at.grad();
            if gradient.defined() {
                // The gradient of this sum at the value is exactly `gradient`.
                let value = again()?;
                (value * gradient.detach()).sum(Kind::Float).backward();
            }
        }
        Ok(())
    }

    fn pop(&self) -> Option<Entry> {
        self.0.borrow_mut().pop()
    }
}
