//! The part of `report.json` on rounds of annotation.
//!
//! The rest of the schema stands in `schema`; `docs/REPORT.md` describes every field.

use serde::{Deserialize, Serialize};

/// A variant after one round of annotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoundResult {
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts of all rounds together, for each seed.
    pub budget: usize,
    /// Rounds in all; 1 is the run with all annotations at once.
    pub rounds: usize,
    /// The round after which this was measured.
    pub round: usize,
    /// Prompts annotated so far.
    pub annotations: usize,
    /// The KL coefficient, chosen on validation prompts after the last round.
    pub kl_coef: f64,
    /// Share of comparisons with the reference that are won; a draw counts one half.
    pub win_rate: f64,
    /// Its interval, `[low, high]`.
    pub ci: [f64; 2],
    /// What this round adds to the one before.
    pub added: Option<Gain>,
    /// After the last round: what is gained over one round with as many annotations.
    pub against_one_round: Option<Gain>,
}

/// A paired difference between two policies of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gain {
    /// 100 times the difference of win rates.
    pub points: f64,
    /// Its interval, `[low, high]`.
    pub ci: [f64; 2],
    /// Two-sided bootstrap p-value, not corrected.
    pub p_value: f64,
}
