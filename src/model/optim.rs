//! AdamW, learning-rate schedule and global gradient clipping.

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
