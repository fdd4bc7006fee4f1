//! Sums of products of integers by the best instructions that the processor has, and what else is to be compiled for them.

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};

/// Rows whose sums are computed at once.
pub(super) const ROWS: usize = 6;

/// A panel's weights of one group of inputs.
pub(super) type Group = [[i8; PANEL_GROUP]; PANEL_OUTPUTS];
/// The inputs of one group, of some rows.
pub(super) type Inputs = [[u8; PANEL_GROUP]; ROWS];
/// Sums of a panel's outputs, of some rows.
pub(super) type Sums = [[i32; PANEL_OUTPUTS]; ROWS];

/// How sums of products are computed.
pub(super) trait Products {
    /// `start`, and of each row and output the products of all groups.
    fn sums(start: &[i32; PANEL_OUTPUTS], inputs: &[Inputs], weights: &[Group]) -> Sums;
}

/// What is to be done. `with` is always inlined, as is what it calls, so that it is compiled for the features of its caller.
pub(super) trait Work {
    fn with<P: Products>(self);
}

/// Does it, as fast as the processor can.
pub(super) fn run(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    let Some(work) = x86::left(work) else {
        return;
    };
    work.with::<Portable>();
}

/// On any processor.
pub(super) struct Portable;

impl Products for Portable {
    #[inline(always)]
    fn sums(start: &[i32; PANEL_OUTPUTS], inputs: &[Inputs], weights: &[Group]) -> Sums {
        let mut sums = [*start; ROWS];
        for (inputs, weights) in inputs.iter().zip(weights) {
            for (sums, inputs) in sums.iter_mut().zip(inputs) {
                let inputs = inputs.map(i32::from);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    let products = inputs.iter().zip(weights);
                    let products: i32 = products.map(|(x, &w)| x * i32::from(w)).sum();
                    *sum = sum.wrapping_add(products); // as the processor's instructions do it
                }
            }
        }
        sums
    }
}
