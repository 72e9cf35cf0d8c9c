//! Supervised fine-tuning: maximise the likelihood of demonstrated responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::optim;
use crate::units::Count;

/// The recipe's `[sft]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Optimiser steps.
    pub steps: Count,
    /// Demonstrations per step.
    pub batch_size: Count,
    /// Steps between checkpoints from which a killed run continues.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: Count,
    /// The optimiser and its schedule.
    pub optimizer: optim::Config,
}

fn default_checkpoint_every() -> Count {
    Count::try_from(200).expect("at least one")
}
