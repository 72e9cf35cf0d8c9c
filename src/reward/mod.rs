//! Reward models from preferences and edits: one score a sequence, or one reward a token.

pub mod loss;
pub mod score;
pub mod train;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::optim;
use crate::units::{Count, NonNegative};

/// The recipe's `[reward]` table: how every reward model is trained. What it is, a variant says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Passes over the pairs.
    pub epochs: Count,
    /// Pairs per step.
    pub batch_size: Count,
    /// The optimiser and its schedule.
    pub optimizer: optim::Config,
}

/// A variant's `reward` table: exactly one of its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// One score for the whole response, read at its last token (Bradley-Terry).
    Sequence(Sequence),
    /// One reward for every response token, learned from the edits' token labels.
    Token(Token),
}

/// `[variants.reward.sequence]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Which pairs it learns from.
    pub data: PairSource,
}

/// Which pairs a sequence reward model learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairSource {
    /// Preferred over less preferred response: the traditional reward model.
    Preferences,
    /// Edited over original response.
    Edits,
}

/// `[variants.reward.token]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The training loss.
    pub loss: TokenLoss,
    /// Weight of the penalty that holds unchanged tokens at zero (`pairwise_edited_anchored` only).
    #[serde(default = "default_anchor")]
    pub anchor: NonNegative,
    /// What the sum over a side's edited tokens is divided by (`pairwise_edited_*` only).
    #[serde(default)]
    pub edited_normaliser: EditedNormaliser,
}

/// What the sum over a side's edited tokens is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditedNormaliser {
    /// Their number (a side without any contributes zero).
    #[default]
    EditedCount,
    /// One.
    Sum,
    /// The length of that side's response.
    ResponseLength,
}

fn default_anchor() -> NonNegative {
    NonNegative::try_from(1.0).expect("in range")
}

/// Losses of token reward models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLoss {
    /// Bradley-Terry on the mean token reward of each side: the paper's form.
    PairwiseMean,
    /// Bradley-Terry on the sum of token rewards of each side.
    PairwiseSum,
    /// Bradley-Terry on the mean over the edited tokens of each side.
    PairwiseEditedOnly,
    /// As `pairwise_edited_only`, with unchanged tokens held at zero by a squared penalty.
    PairwiseEditedAnchored,
    /// Soft-target cross-entropy on token labels [TLCR]; reward 2p - 1.
    Tlcr,
}
