//! Reward models from preferences, edits, word scores and error spans: one score a sequence, or one reward a token.

pub mod loss;
pub mod pairs;
pub mod score;
pub mod spans;
pub mod train;
pub mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::optim;
use crate::units::{Count, NonNegative, Positive};

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
    /// One reward for every response token, learned from word scores and a score of the whole [TPPO].
    Tppo(Tppo),
    /// One reward for every span of text and category of error in `[labels.spans]`, by a model for each [FG-RLHF].
    Spans(Spans),
}

impl Kind {
    /// What it learns from, as a plural noun.
    #[must_use]
    pub const fn learns_from(&self) -> &'static str {
        match self {
            Self::Sequence(_) | Self::Token(_) => "pairs",
            Self::Tppo(_) => "responses with word scores",
            Self::Spans(_) => "responses with error spans",
        }
    }
}

/// `[variants.reward.tppo]`: a token is bad, neither or good (0, 1, 2); its reward is the expected class minus 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tppo {
    /// Weight of the cross-entropy of token classes.
    #[serde(default = "half")]
    pub lambda_local: NonNegative,
    /// Weight of the squared error of the score of the whole, which is predicted by the mean of expected classes.
    #[serde(default = "half")]
    pub lambda_global: NonNegative,
    /// What a token of class 0, 1 and 2 weighs in the cross-entropy; left out, classes weigh the same in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<[Positive; words::CLASSES]>,
}

/// `[variants.reward.spans]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spans {
    /// What a span without an error of the category is paid; one with an error costs 1.
    #[serde(default = "one")]
    pub clean: NonNegative,
}

fn half() -> NonNegative {
    NonNegative::try_from(0.5).expect("in range")
}

fn one() -> NonNegative {
    NonNegative::try_from(1.0).expect("in range")
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
    #[serde(default = "one")]
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
