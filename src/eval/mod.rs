//! Win rates, their uncertainty, and tests of differences.
//!
//! Pure functions of judged outcomes: no I/O, no clock, random numbers only from a given seed. Who wins a comparison is
//! left to `judge`, how numbers are shown to `report`. Every estimator is defined in `docs/METRICS.md`.

mod alpaca_eval;
mod annotations;
mod auc;
mod bootstrap;
mod classical;
mod effect;
mod length_control;
mod logistic;
mod outcomes;
mod ranks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alpaca_eval::AlpacaEval;
pub use annotations::{Annotation, AnnotationError};
pub use auc::auc;
pub use bootstrap::{Difference, Estimate, mean_with_interval, paired_difference, win_rate};
pub use classical::{holm, normal_quantile, sign_test, wilson};
pub use effect::{Effect, Panel, effect};
pub use length_control::{
    Compared, FitError, GlmWeights, Index, LengthControlled, TableError, difficulties, read_difficulties,
};
pub use outcomes::{OutcomeError, Outcomes};
pub use ranks::spearman;

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
