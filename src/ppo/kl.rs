//! KL to the reference: per-token estimators and the coefficient that weighs them.

use super::{Adaptive, KlControl, KlEstimator};

impl KlEstimator {
    /// The estimate from `logr = log pi - log pi_ref` of a token sampled from pi [KL], in nats.
    #[must_use]
    pub fn estimate(self, logr: f64) -> f64 {
        match self {
            Self::K1 => logr,
            Self::K2 => logr * logr / 2.0,
            Self::K3 => (-logr).exp() - 1.0 + logr,
        }
    }

    /// The rewards of one response less `coefficient` times each token's estimate.
    ///
    /// # Panics
    /// When the rows differ in length.
    #[must_use]
    pub fn penalise(self, rewards: &[f64], log_probs: &[f64], reference: &[f64], coefficient: f64) -> Vec<f64> {
        assert!(rewards.len() == log_probs.len() && rewards.len() == reference.len(), "one log-probability a reward");
        let pairs = log_probs.iter().zip(reference);
        rewards.iter().zip(pairs).map(|(r, (new, old))| r - coefficient * self.estimate(new - old)).collect()
    }
}

/// Largest relative error of the KL that the controller reacts to.
const CLIP: f64 = 0.2;

impl KlControl {
    /// The coefficient after an iteration of `responses` responses whose sequence KL was `kl_nats`.
    #[must_use]
    pub fn update(&self, coefficient: f64, kl_nats: f64, responses: usize) -> f64 {
        match self {
            Self::Fixed => coefficient,
            Self::Adaptive(Adaptive { target, horizon }) => {
                adapt(coefficient, kl_nats / target.get() - 1.0, CLIP, responses as f64 / horizon.get())
            }
        }
    }
}

/// The coefficient after a relative `error` of the KL, of which no more than `clip` counts, at `rate`.
#[must_use]
pub fn adapt(coefficient: f64, error: f64, clip: f64, rate: f64) -> f64 {
    coefficient * (1.0 + error.clamp(-clip, clip) * rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimators_agree_on_the_sampling_average_and_k1_keeps_its_sign() {
        // A policy over three tokens and its reference: k1 and k3 average to the exact KL, k2 does not.
        let (policy, reference) = ([0.5_f64, 0.3, 0.2], [0.25_f64, 0.25, 0.5]);
        let exact: f64 = policy.iter().zip(reference).map(|(p, q)| p * (p / q).ln()).sum();
        let average = |estimator: KlEstimator| -> f64 {
            policy.iter().zip(reference).map(|(p, q)| p * estimator.estimate((p / q).ln())).sum()
        };
        assert!((average(KlEstimator::K1) - exact).abs() < 1e-12);
        assert!((average(KlEstimator::K3) - exact).abs() < 1e-12);
        assert!((average(KlEstimator::K2) - exact).abs() > 1e-3);
        assert!(KlEstimator::K1.estimate(-0.5) < 0.0, "clamped, the average would be too high");
    }

    #[test]
    fn every_token_pays_the_penalty() {
        let shaped = KlEstimator::K1.penalise(&[0.0, 1.0], &[-1.0, -2.0], &[-1.5, -1.0], 0.5);
        assert_eq!(shaped, [-0.25, 1.5]);
    }
}
