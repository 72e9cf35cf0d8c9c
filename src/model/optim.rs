//! AdamW, learning-rate schedule and global gradient clipping.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Fraction, NonNegative, Positive};

/// An `optimizer` table of the recipe: AdamW [ADAMW] with linear warm-up and linear decay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Peak learning rate.
    pub learning_rate: Positive,
    /// Steps of linear warm-up from zero.
    #[serde(default)]
    pub warmup_steps: usize,
    /// Share of the peak that is left at the last step (linear decay); 1 keeps it constant.
    #[serde(default = "one")]
    pub final_learning_rate: Fraction,
    /// Decay of the first moment.
    #[serde(default = "default_beta1")]
    pub beta1: Fraction,
    /// Decay of the second moment.
    #[serde(default = "default_beta2")]
    pub beta2: Fraction,
    /// Added to the root of the second moment.
    #[serde(default = "default_epsilon")]
    pub epsilon: Positive,
    /// Decoupled weight decay.
    #[serde(default = "zero")]
    pub weight_decay: NonNegative,
    /// Largest global L2 norm of the gradient; longer gradients are scaled down to it.
    #[serde(default = "default_max_grad_norm")]
    pub max_grad_norm: Positive,
}

fn one() -> Fraction {
    Fraction::try_from(1.0).expect("in range")
}
fn default_beta1() -> Fraction {
    Fraction::try_from(0.9).expect("in range")
}
fn default_beta2() -> Fraction {
    Fraction::try_from(0.999).expect("in range")
}
fn default_epsilon() -> Positive {
    Positive::try_from(1e-8).expect("in range")
}
fn zero() -> NonNegative {
    NonNegative::try_from(0.0).expect("in range")
}
fn default_max_grad_norm() -> Positive {
    Positive::try_from(1.0).expect("in range")
}

impl Config {
    /// The learning rate of `step` (counted from 0) of `steps`: linear warm-up, then linear decay to
    /// `final_learning_rate` of the peak.
    #[must_use]
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let warmup = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let left = 1.0 - step as f64 / steps.max(1) as f64;
        let end = self.final_learning_rate.get();
        self.learning_rate.get() * warmup * (end + (1.0 - end) * left)
    }
}

/// AdamW over a model's weights [ADAMW].
#[derive(Clone, Debug)]
pub struct AdamW {
    config: Config,
    step: i32,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
}

impl AdamW {
    /// An optimiser with empty moments.
    #[must_use]
    pub fn new(config: &Config, weights: &[Tensor<2>]) -> Self {
        let zeros = || weights.iter().map(Tensor::zeros_like).collect();
        Self { config: config.clone(), step: 0, first: zeros(), second: zeros() }
    }

    /// Continues from stored moments after `step` updates; `moments` as [`Self::moments`] gives them.
    #[must_use]
    pub fn resume(config: &Config, step: i32, mut moments: Vec<Tensor<2>>) -> Self {
        let second = moments.split_off(moments.len() / 2);
        Self { config: config.clone(), step, first: moments, second }
    }

    /// First moments, then second moments, each in the weights' order.
    #[must_use]
    pub fn moments(&self) -> Vec<Tensor<2>> {
        self.first.iter().chain(&self.second).cloned().collect()
    }

    /// Updates done so far.
    #[must_use]
    pub const fn steps(&self) -> i32 {
        self.step
    }

    /// One update in place; gradients are first scaled down to the largest allowed global norm.
    ///
    /// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `w -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w)`.
    ///
    /// Returns the global L2 norm before clipping.
    pub fn update(&mut self, weights: &mut [Tensor<2>], gradients: Vec<Tensor<2>>, rate: f64) -> f64 {
        self.step += 1;
        let norm = global_norm(&gradients);
        let clip = (self.config.max_grad_norm.get() / (norm + 1e-6)).min(1.0);
        let (b1, b2) = (self.config.beta1.get(), self.config.beta2.get());
        let (c1, c2) = (1.0 - b1.powi(self.step), 1.0 - b2.powi(self.step));
        for (((w, g), m), v) in weights.iter_mut().zip(gradients).zip(&mut self.first).zip(&mut self.second) {
            let g = g * clip;
            *m = m.extract() * b1 + g.clone() * (1.0 - b1);
            *v = v.extract() * b2 + g.square() * (1.0 - b2);
            let scaled = m.clone() * (rate / c1) / ((v.clone() / c2).sqrt() + self.config.epsilon.get());
            *w = w.extract() * (1.0 - rate * self.config.weight_decay.get()) - scaled;
        }
        norm
    }
}

/// L2 norm over all gradients together.
#[must_use]
pub fn global_norm(gradients: &[Tensor<2>]) -> f64 {
    let squares: Vec<Tensor<1>> = gradients.iter().map(|g| g.clone().square().sum()).collect();
    let sums = super::weights::host(&Tensor::cat(squares, 0));
    sums.into_iter().map(f64::from).sum::<f64>().sqrt()
}
