//! Proximal policy optimisation with sequence- or token-level rewards.

pub mod gae;
pub mod kl;
pub mod loss;
mod minibatch;
mod rollout;
pub mod shaping;
pub mod train;
mod update;
pub mod watch;

pub use rollout::advantages;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::optim;
use crate::units::{Count, Fraction, NonNegative, Positive};

/// The recipe's `[ppo]` table: shared by all variants.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Iterations: each samples `batch_size` responses and updates on them.
    pub steps: Count,
    /// Prompts per iteration.
    pub batch_size: Count,
    /// Passes over each iteration's responses.
    pub epochs: Count,
    /// Minibatches per pass; must divide `batch_size`.
    pub minibatches: Count,
    /// Weight beta of the KL penalty in the reward: one value, or a list from which each variant's best is chosen on
    /// validation prompts.
    pub kl_coef: Grid,
    /// Estimator of the per-token KL [KL].
    #[serde(default)]
    pub kl_estimator: KlEstimator,
    /// How the KL coefficient moves during training.
    #[serde(default)]
    pub kl_control: KlControl,
    /// Half-width of the clipping of the probability ratio [PPO].
    #[serde(default = "point_two")]
    pub clip_range: Positive,
    /// Half-width above 1, where it differs from the one below; left out, `clip_range` serves for both.
    #[serde(default)]
    pub clip_range_high: Option<Positive>,
    /// Bound `c` on the loss of a token with negative advantage, `-c A` [DUAL-CLIP]; left out, there is none.
    #[serde(default)]
    pub dual_clip: Option<Positive>,
    /// How token losses become one number.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// Half-width of the clipping of the value prediction; left out, values are not clipped.
    #[serde(default)]
    pub value_clip_range: Option<Positive>,
    /// Discount factor.
    #[serde(default = "one")]
    pub gamma: Fraction,
    /// Lambda of generalised advantage estimation [GAE].
    #[serde(default = "default_gae_lambda")]
    pub gae_lambda: Fraction,
    /// Whether advantages are whitened over the iteration's response tokens.
    #[serde(default = "yes")]
    pub whiten_advantages: bool,
    /// Factor on the calibrated reward: what a standard deviation of the reference's return weighs against the KL penalty.
    #[serde(default = "one_positive")]
    pub reward_scale: Positive,
    /// Subtracted from the last token's reward of a response that did not finish, in units of the return's standard
    /// deviation.
    #[serde(default = "zero")]
    pub missing_eos_penalty: NonNegative,
    /// Sampling temperature; log-probabilities use the same.
    #[serde(default = "one_positive")]
    pub temperature: Positive,
    /// First iterations that train only the value model.
    #[serde(default)]
    pub value_warmup_steps: usize,
    /// Iterations between samples on the validation prompts (the learning curve).
    pub eval_every: Count,
    /// The policy's optimiser.
    pub policy_optimizer: optim::Config,
    /// The value model's optimiser.
    pub value_optimizer: optim::Config,
    /// When training is suspected of exploiting its reward.
    #[serde(default)]
    pub watch: Watch,
}

impl Config {
    /// The table as one run knows it: its grid of KL coefficients does not concern the run.
    #[must_use]
    pub fn without_grid(&self) -> Self {
        Self { kl_coef: Grid(Vec::new()), ..self.clone() }
    }
}

/// Limits beyond which a run is reported as "reward hacking suspected". They stop nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Lowest mean length, as a multiple of the reference's.
    pub min_length_ratio: Positive,
    /// Highest mean length, as a multiple of the reference's.
    pub max_length_ratio: Positive,
    /// Highest sequence KL to the reference, in nats.
    pub max_kl_nats: Positive,
    /// Highest share of responses in which a run of four tokens occurs twice, above the reference's share.
    pub max_repeat_excess: Fraction,
}

impl Default for Watch {
    fn default() -> Self {
        let positive = |x| Positive::try_from(x).expect("above zero");
        Self {
            min_length_ratio: positive(0.6),
            max_length_ratio: positive(1.4),
            max_kl_nats: positive(20.0),
            max_repeat_excess: Fraction::try_from(0.3).expect("in range"),
        }
    }
}

/// One number or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "a number of at least 0, or a list of them")]
pub struct Grid(Vec<NonNegative>);

impl Grid {
    /// The values, in the recipe's order.
    #[must_use]
    pub fn values(&self) -> &[NonNegative] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Grid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Grid;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number of at least 0, or a list of them")
            }
            fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Grid, E> {
                NonNegative::try_from(x).map(|x| Grid(vec![x])).map_err(E::custom)
            }
            #[allow(clippy::cast_precision_loss, reason = "a coefficient beyond 2^53 is no coefficient")]
            fn visit_i64<E: serde::de::Error>(self, x: i64) -> Result<Grid, E> {
                self.visit_f64(x as f64)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Grid, A::Error> {
                let mut values = Vec::new();
                while let Some(x) = seq.next_element()? {
                    values.push(x);
                }
                Ok(Grid(values))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Estimators of the per-token KL to the reference, with `logr = log pi - log pi_ref` [KL].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `logr`: unbiased, may be negative.
    #[default]
    K1,
    /// `logr^2 / 2`: biased, never negative.
    K2,
    /// `exp(-logr) - 1 + logr`: unbiased, never negative.
    K3,
}

/// How token losses become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The mean over all response tokens of the minibatch: long responses weigh more.
    #[default]
    TokenMean,
    /// The mean over responses of each response's token mean: every response weighs the same.
    SequenceMean,
}

/// How the KL coefficient moves during training: exactly one of its keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KlControl {
    /// It stays.
    #[default]
    Fixed,
    /// It follows a target KL: beta *= 1 + clip(kl / target - 1, -0.2, 0.2) * batch / horizon.
    Adaptive(Adaptive),
}

/// `[ppo.kl_control.adaptive]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// The sequence KL to aim at, in nats.
    pub target: Positive,
    /// Responses over which a persistent error of 20 % moves the coefficient by 20 %.
    pub horizon: Positive,
}

/// A variant's `credit`: how its reward model's output becomes the rewards that PPO sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credit {
    /// Every token gets its own reward.
    PerToken,
    /// Every token gets its own reward divided by the response's length: the return is the mean token reward.
    PerTokenOverLength,
    /// Every token gets the change of the reward since the token before.
    PotentialDifference,
    /// The last token gets the whole score (for a token model: the mean of its token rewards).
    EndOfSequence,
    /// The last token of every span gets the span's reward (`spans` reward models only) [FG-RLHF].
    SpanEnd,
}

fn one() -> Fraction {
    Fraction::try_from(1.0).expect("in range")
}
fn one_positive() -> Positive {
    Positive::try_from(1.0).expect("in range")
}
fn zero() -> NonNegative {
    NonNegative::try_from(0.0).expect("in range")
}
fn point_two() -> Positive {
    Positive::try_from(0.2).expect("in range")
}
fn default_gae_lambda() -> Fraction {
    Fraction::try_from(0.95).expect("in range")
}
fn yes() -> bool {
    true
}
