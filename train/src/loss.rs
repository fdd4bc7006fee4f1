//! The losses, as formulas over one batch. d = reward(chosen) − reward(rejected), ℓ = −log σ(d).

use tch::{Kind, Reduction, Tensor};

/// ε of the shortcut-failure coefficient.
const EPSILON: f64 = 1e-7;

/// A pair's losses and whether each branch prefers the chosen response; all [pairs].
pub struct PairLoss {
    /// What training minimises.
    pub total: Tensor,
    /// ℓ of the branch that is trained alone, or of the main one.
    pub main: Tensor,
    /// ℓ of the text-only branch.
    pub text: Option<Tensor>,
    /// The shortcut-failure coefficients.
    pub sfc: Option<Tensor>,
}

/// The standard loss of one branch: ℓ, from rewards [chosen, rejected, chosen, …].
pub fn standard(rewards: &Tensor) -> PairLoss {
    let main = bradley_terry(&margins(rewards));
    PairLoss {
        total: main.shallow_clone(),
        main,
        text: None,
        sfc: None,
    }
}

/// The shortcut-aware loss sfc · ℓ_main + ℓ_text.
pub fn shortcut_aware(main: &Tensor, text: &Tensor) -> PairLoss {
    let (main, text) = (bradley_terry(&margins(main)), bradley_terry(&margins(text)));
    let sfc = shortcut_failure(&main, &text);
    PairLoss {
        total: &sfc * &main + &text,
        main,
        text: Some(text),
        sfc: Some(sfc),
    }
}

/// Mean cross-entropy of the targets, over logits [k, vocabulary].
pub fn next_token(logits: &Tensor, targets: &Tensor) -> Tensor {
    logits.to_kind(Kind::Float).cross_entropy_loss(
        targets,
        None::<Tensor>,
        Reduction::Mean,
        -100,
        0.0,
    )
}

/// d of every pair.
pub fn margins(rewards: &Tensor) -> Tensor {
    let pairs = rewards.to_kind(Kind::Float).view([-1, 2]);
    pairs.select(1, 0) - pairs.select(1, 1)
}

/// 1 for a pair whose margin is positive, 0 where it is negative, ½ for a tie.
pub fn preferred(margins: &Tensor) -> Tensor {
    (margins.sign() + 1.0) / 2.0
}

fn bradley_terry(margins: &Tensor) -> Tensor {
    -margins.log_sigmoid()
}

/// ε/2 + ℓ_text / (ε + ℓ_text + ℓ_main), a constant to the gradient. The published code adds half of ε outside the
/// fraction, and so do we.
fn shortcut_failure(main: &Tensor, text: &Tensor) -> Tensor {
    let (main, text) = (main.detach(), text.detach());
    &text / (EPSILON + &text + main) + EPSILON / 2.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    fn softplus(x: f64) -> f64 {
        x.exp().ln_1p()
    }

    #[test]
    fn the_formulas_written_out() {
        let (main, text) = ([1.0f32, 0.5, -2.0, 0.0], [0.25f32, 0.5, 3.0, 1.0]);
        let loss = shortcut_aware(&Tensor::from_slice(&main), &Tensor::from_slice(&text));
        for pair in 0..2 {
            let l_f = softplus(-f64::from(main[2 * pair] - main[2 * pair + 1]));
            let l_g = softplus(-f64::from(text[2 * pair] - text[2 * pair + 1]));
            let sfc = 5e-8 + l_g / (1e-7 + l_g + l_f);
            assert!((values(loss.sfc.as_ref().unwrap())[pair] - sfc).abs() < 1e-6);
            assert!((values(&loss.total)[pair] - (sfc * l_f + l_g)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_coefficient_carries_no_gradient() {
        let main = Tensor::from_slice(&[0.3f32, -0.2]).set_requires_grad(true);
        let text = Tensor::from_slice(&[0.1f32, 0.4]).set_requires_grad(true);
        let loss = shortcut_aware(&main, &text);
        loss.total.sum(Kind::Float).backward();
        // d(sfc · ℓ)/dd = −sfc · σ(−d) with sfc constant.
        let sfc = values(loss.sfc.as_ref().unwrap())[0];
        let expected = -sfc / (1.0 + 0.5f64.exp());
        assert!((values(&main.grad())[0] - expected).abs() < 1e-6);
        let expected = -1.0 / (1.0 + (-0.3f64).exp());
        assert!((values(&text.grad())[0] - expected).abs() < 1e-6);
    }

    #[test]
    fn a_tie_counts_as_half() {
        let margins = Tensor::from_slice(&[1.0f32, -1.0, 0.0, 2.0]);
        assert_eq!(values(&preferred(&margins)), [1.0, 0.0, 0.5, 1.0]);
    }
}
