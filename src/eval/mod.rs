//! Win rates, their uncertainty, and tests of differences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Count, Fraction};

/// The recipe's `[evaluation]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resamples of the two-level bootstrap over prompts and seeds.
    pub bootstrap_samples: Count,
    /// Coverage of every reported interval.
    pub confidence: Fraction,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap_samples: Count::try_from(5000).expect("at least one"),
            confidence: Fraction::try_from(0.95).expect("in range"),
        }
    }
}
