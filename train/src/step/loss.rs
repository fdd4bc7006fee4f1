//! The losses, as formulas over one batch. d = reward(chosen) − reward(rejected); ℓ = −log σ(d) without margins and
//! label smoothing.

use tch::{Kind, Reduction, Tensor};

use crate::config::{Config, Sfc};

/// ε of the shortcut-failure coefficient.
const EPSILON: f64 = 1e-7;

/// The settings of a run's loss.
#[derive(Clone, Debug)]
pub struct Objective {
    /// How the text-only branch reweights the main loss.
    pub(crate) sfc: Sfc,
    /// Assumed label-noise rate s.
    pub(crate) label_smoothing: f64,
    /// Weight c of the squared sum of a pair's rewards.
    pub(crate) centering: f64,
}

/// The losses of pairs, all `[pairs]`.
pub struct PairLoss {
    /// The loss that training minimises.
    pub(crate) total: Tensor,
    /// ℓ of the only branch, or of the main one.
    pub(crate) main: Tensor,
    /// ℓ of the text-only branch.
    pub(crate) text: Option<Tensor>,
    /// The shortcut-failure coefficient, the weight of the main branch's ℓ.
    pub sfc: Option<Tensor>,
}

impl Default for Objective {
    /// The published objective.
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

impl Objective {
    /// The objective of a config.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            sfc: config.sfc,
            label_smoothing: config.label_smoothing,
            centering: config.center_rewards_coefficient.unwrap_or(0.0),
        }
    }

    /// The loss ℓ of one branch, from rewards `[chosen, rejected, chosen, …]`; `wanted` is the margin of each pair's row,
    /// `[pairs]`.
    pub(crate) fn standard(&self, rewards: &Tensor, wanted: Option<&Tensor>) -> PairLoss {
        let main = self.pair_loss(&margins(rewards), wanted);
        PairLoss {
            total: self.centred(main.shallow_clone(), rewards),
            main,
            text: None,
            sfc: None,
        }
    }

    /// The loss of two branches: the text-only one minimises its own ℓ, the main one as [`Sfc`] says.
    pub fn shortcut_aware(
        &self,
        main: &Tensor,
        text: &Tensor,
        wanted: Option<&Tensor>,
    ) -> PairLoss {
        let (d_main, d_text) = (margins(main), margins(text));
        let l_main = self.pair_loss(&d_main, wanted);
        let l_text = self.pair_loss(&d_text, wanted);
        let sfc = match self.sfc {
            Sfc::Published => Some(shortcut_failure(&l_main, &l_text)),
            Sfc::InversePropensity => Some((-d_text.detach()).sigmoid()),
            Sfc::ProductOfExperts => None,
        };
        let learned = match &sfc {
            Some(sfc) => sfc * &l_main,
            None => self.pair_loss(&(d_main + d_text.detach()), wanted),
        };
        let total = self.centred(self.centred(learned + &l_text, main), text);
        PairLoss {
            total,
            main: l_main,
            text: Some(l_text),
            sfc,
        }
    }

    /// ℓ of margins d `[pairs]`, with x = d − wanted: (1 − s) · −log σ(x) + s · −log σ(−x).
    fn pair_loss(&self, margins: &Tensor, wanted: Option<&Tensor>) -> Tensor {
        let x = match wanted {
            Some(wanted) => margins - wanted,
            None => margins.shallow_clone(),
        };
        match self.label_smoothing {
            0.0 => -x.log_sigmoid(),
            s => (1.0 - s) * -x.log_sigmoid() + s * -(-x).log_sigmoid(),
        }
    }

    /// Adds c · (reward(chosen) + reward(rejected))².
    fn centred(&self, loss: Tensor, rewards: &Tensor) -> Tensor {
        if self.centering == 0.0 {
            return loss;
        }
        let pairs = rewards.to_kind(Kind::Float).view([-1, 2]);
        let sums = pairs.sum_dim_intlist(1i64, false, Kind::Float);
        loss + self.centering * sums.square()
    }
}

/// Mean cross-entropy of the targets, over logits `[k, vocabulary]`.
pub(crate) fn next_token(logits: &Tensor, targets: &Tensor) -> Tensor {
    logits.to_kind(Kind::Float).cross_entropy_loss(
        targets,
        None::<Tensor>,
        Reduction::Mean,
        -100,
        0.0,
    )
}

/// d of every pair.
pub(crate) fn margins(rewards: &Tensor) -> Tensor {
    let pairs = rewards.to_kind(Kind::Float).view([-1, 2]);
    pairs.select(1, 0) - pairs.select(1, 1)
}

/// 1 for a positive margin, 0 for a negative one, ½ for a tie.
pub(crate) fn preferred(margins: &Tensor) -> Tensor {
    (margins.sign() + 1.0) / 2.0
}

/// ε/2 + ℓ_text / (ε + ℓ_text + ℓ_main), a constant to the gradient. As in the published code, half
/// of ε is added outside the fraction.
fn shortcut_failure(main: &Tensor, text: &Tensor) -> Tensor {
    let (main, text) = (main.detach(), text.detach());
    &text / (EPSILON + &text + main) + EPSILON / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    fn softplus(x: f64) -> f64 {
        x.exp().ln_1p()
    }

    const MAIN: [f32; 4] = [1.0, 0.5, -2.0, 0.0];
    const TEXT: [f32; 4] = [0.25, 0.5, 3.0, 1.0];

    /// Both branches' rewards of two pairs, and their margins.
    fn pairs() -> (Tensor, Tensor, [(f64, f64); 2]) {
        let margin =
            |rewards: [f32; 4], pair: usize| f64::from(rewards[2 * pair] - rewards[2 * pair + 1]);
        let margins = [0, 1].map(|pair| (margin(MAIN, pair), margin(TEXT, pair)));
        (
            Tensor::from_slice(&MAIN),
            Tensor::from_slice(&TEXT),
            margins,
        )
    }

    fn objective(sfc: Sfc) -> Objective {
        Objective {
            sfc,
            ..Objective::default()
        }
    }

    fn close(got: &Tensor, expected: &[f64]) {
        let got = values(got);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            // f32 rounding of values up to 20.
            assert!((got - expected).abs() < 4e-6, "{got} {expected}");
        }
    }

    #[test]
    fn the_formulas_written_out() {
        let (main, text, margins) = pairs();
        let loss = Objective::default().shortcut_aware(&main, &text, None);
        let sfc = margins.map(|(f, g)| {
            let (l_f, l_g) = (softplus(-f), softplus(-g));
            5e-8 + l_g / (1e-7 + l_g + l_f)
        });
        close(loss.sfc.as_ref().unwrap(), &sfc);
        let total = [0, 1].map(|i| sfc[i] * softplus(-margins[i].0) + softplus(-margins[i].1));
        close(&loss.total, &total);
    }

    #[test]
    fn inverse_propensity_weighs_by_how_wrong_the_text_is() {
        let (main, text, margins) = pairs();
        let loss = objective(Sfc::InversePropensity).shortcut_aware(&main, &text, None);
        let weight = margins.map(|(_, g)| 1.0 / (1.0 + g.exp()));
        close(loss.sfc.as_ref().unwrap(), &weight);
        let total = [0, 1].map(|i| weight[i] * softplus(-margins[i].0) + softplus(-margins[i].1));
        close(&loss.total, &total);
    }

    #[test]
    fn a_product_of_experts_adds_the_margins() {
        let (main, text, margins) = pairs();
        let loss = objective(Sfc::ProductOfExperts).shortcut_aware(&main, &text, None);
        assert!(loss.sfc.is_none());
        close(&loss.main, &margins.map(|(f, _)| softplus(-f)));
        close(
            &loss.total,
            &margins.map(|(f, g)| softplus(-f - g) + softplus(-g)),
        );
    }

    /// The text-only branch minimises its own ℓ, whatever the main branch does.
    #[test]
    fn the_text_only_branch_learns_its_own_loss() {
        for sfc in [
            Sfc::Published,
            Sfc::InversePropensity,
            Sfc::ProductOfExperts,
        ] {
            let (main, text, margins) = pairs();
            let text = text.set_requires_grad(true);
            let loss = objective(sfc).shortcut_aware(&main, &text, None);
            loss.total.sum(Kind::Float).backward();
            // dℓ/dd = −σ(−d).
            let [a, b] = margins.map(|(_, g)| 1.0 / (1.0 + g.exp()));
            close(&text.grad(), &[-a, a, -b, b]);
        }
    }

    #[test]
    fn the_main_branch_learns_less_where_the_text_is_right() {
        let gradient = |sfc| {
            let (main, text, _) = pairs();
            let main = main.set_requires_grad(true);
            let loss = objective(sfc).shortcut_aware(&main, &text, None);
            loss.total.sum(Kind::Float).backward();
            main.grad()
        };
        let (_, _, margins) = pairs();
        // d(−log σ(f + g))/df = −σ(−f − g); the text's margins are constants.
        let [a, b] = margins.map(|(f, g)| 1.0 / (1.0 + (f + g).exp()));
        close(&gradient(Sfc::ProductOfExperts), &[-a, a, -b, b]);
        let [a, b] = margins.map(|(f, g)| 1.0 / (1.0 + f.exp()) / (1.0 + g.exp()));
        close(&gradient(Sfc::InversePropensity), &[-a, a, -b, b]);
    }

    #[test]
    fn a_margin_is_asked_for_by_both_branches() {
        let (main, text, margins) = pairs();
        let wanted = [0.5, 2.0];
        let tensor = Tensor::from_slice(&wanted.map(|m| m as f32));
        let standard = Objective::default().standard(&main, Some(&tensor));
        let l_f = [0, 1].map(|i| softplus(wanted[i] - margins[i].0));
        close(&standard.total, &l_f);
        let l_g = [0, 1].map(|i| softplus(wanted[i] - margins[i].1));
        let loss = Objective::default().shortcut_aware(&main, &text, Some(&tensor));
        close(&loss.main, &l_f);
        close(loss.text.as_ref().unwrap(), &l_g);
        let loss = objective(Sfc::ProductOfExperts).shortcut_aware(&main, &text, Some(&tensor));
        let expected = [0, 1].map(|i| softplus(wanted[i] - margins[i].0 - margins[i].1) + l_g[i]);
        close(&loss.total, &expected);
    }

    #[test]
    fn smoothed_labels_are_wrong_with_a_probability() {
        let (main, _, margins) = pairs();
        let objective = Objective {
            label_smoothing: 0.1,
            ..Objective::default()
        };
        let expected = margins.map(|(f, _)| 0.9 * softplus(-f) + 0.1 * softplus(f));
        close(&objective.standard(&main, None).total, &expected);
    }

    #[test]
    fn centring_draws_the_rewards_of_each_branch_to_zero() {
        let (main, text, margins) = pairs();
        let objective = Objective {
            centering: 0.01,
            ..Objective::default()
        };
        let square =
            |rewards: [f32; 4], i: usize| f64::from(rewards[2 * i] + rewards[2 * i + 1]).powi(2);
        let standard = objective.standard(&main, None);
        let expected = [0, 1].map(|i| softplus(-margins[i].0) + 0.01 * square(MAIN, i));
        close(&standard.total, &expected);
        close(&standard.main, &margins.map(|(f, _)| softplus(-f)));
        let plain = values(
            &Objective::default()
                .shortcut_aware(&main, &text, None)
                .total,
        );
        let expected = [0, 1].map(|i| plain[i] + 0.01 * (square(MAIN, i) + square(TEXT, i)));
        close(
            &objective.shortcut_aware(&main, &text, None).total,
            &expected,
        );
    }

    #[test]
    fn the_coefficient_carries_no_gradient() {
        let main = Tensor::from_slice(&[0.3f32, -0.2]).set_requires_grad(true);
        let text = Tensor::from_slice(&[0.1f32, 0.4]).set_requires_grad(true);
        let loss = Objective::default().shortcut_aware(&main, &text, None);
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
