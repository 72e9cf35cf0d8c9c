//! Who decides which of two responses is better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[judge]` table: exactly one of its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// A simulated world's own count of faults: fewer is better, equal is a draw.
    Oracle(Oracle),
    /// A sequence reward model trained on held-out preferences, which no variant saw.
    RewardModel(RewardModel),
}

/// `[judge.oracle]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oracle {}

/// `[judge.reward_model]`: no knobs; trained as `[reward]` says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardModel {}
