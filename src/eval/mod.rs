//! Win rates, their uncertainty, and tests of differences.
//!
//! Pure functions of judged outcomes: no I/O, no clock, random numbers only from a given seed. Who wins a comparison is
//! left to `judge`, how numbers are shown to `report`. Every estimator is defined in `docs/METRICS.md`.

mod agreement;
mod alpaca_eval;
mod annotations;
mod auc;
mod best_of_n;
mod bootstrap;
mod calibration;
mod classical;
mod detection;
mod effect;
mod length_control;
mod letters;
mod logistic;
mod outcomes;
mod power;
mod ranks;
mod runs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use agreement::{Agreement, interval_alpha};
pub use alpaca_eval::AlpacaEval;
pub use annotations::{Annotation, AnnotationError};
pub use auc::auc;
pub use best_of_n::{best_of_n, best_of_n_kl};
pub use bootstrap::{Difference, Estimate, mean_with_interval, paired_difference, win_rate};
pub use calibration::{Bin, cross_fitted_probabilities, expected_calibration_error, reliability};
pub use classical::{holm, normal_quantile, sign_test, wilson};
pub use detection::{Scored, average_precision, best_threshold, cross_fitted_f1, f1};
pub use effect::{Effect, Panel, effect};
pub use length_control::{
    Compared, FitError, GlmWeights, Index, LengthControlled, TableError, difficulties, read_difficulties,
};
pub use letters::letters;
pub use outcomes::{OutcomeError, Outcomes};
pub use power::{Components, Requirement};
pub use ranks::spearman;
pub use runs::{
    improvement_with_interval, interquartile_mean, interquartile_mean_with_interval, probability_of_improvement,
};

use crate::units::{Count, Fraction, Positive};

/// The recipe's `[evaluation]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resamples of the two-level bootstrap over prompts and seeds.
    pub bootstrap_samples: Count,
    /// Coverage of every reported interval.
    pub confidence: Fraction,
    /// The difference of win rates, in points, that the experiment should be able to see; the report says when it was too
    /// small for that.
    pub difference: Positive,
    /// How often a true difference of that size should be seen: by an interval that leaves out zero.
    pub power: Fraction,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap_samples: Count::try_from(5000).expect("at least one"),
            confidence: Fraction::try_from(0.95).expect("in range"),
            difference: Positive::try_from(5.0).expect("in range"),
            power: Fraction::try_from(0.8).expect("in range"),
        }
    }
}
