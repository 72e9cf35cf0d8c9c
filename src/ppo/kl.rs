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
                let error = (kl_nats / target.get() - 1.0).clamp(-CLIP, CLIP);
                coefficient * (1.0 + error * responses as f64 / horizon.get())
            }
        }
    }
}
