//! Judges: what each says, how consistent it is, and how far they agree; part of the report's schema.

use serde::{Deserialize, Serialize};

use crate::endpoint::Usage;

/// What one judge said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JudgeResult {
    /// Its name in the recipe.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// Whether win rates, curves and the choice of KL coefficients rest on it.
    pub primary: bool,
    /// Pairs that it judged: every variant against the reference and, where it gives scores, against every other variant.
    pub pairs: usize,
    /// Pairs that it was to judge and did not: not in its file, or not readable.
    pub unjudged: usize,
    /// Share of judged pairs that are draws.
    pub tie_rate: Option<f64>,
    /// Share of pairs with the same winner in both orders.
    pub order_consistency: Option<f64>,
    /// Share of decided verdicts that go to the response shown first; one half is no bias.
    pub first_position_rate: Option<f64>,
    /// Share of held-out preference pairs on which it is right, where it was learned.
    pub preference_accuracy: Option<f64>,
    /// Krippendorff's alpha of those who voted on the same pairs, where it is several people.
    pub annotator_alpha: Option<f64>,
    /// Its win rates of every variant against the reference.
    pub win_rates: Vec<JudgedWinRate>,
    /// What asking an endpoint took when its results were made.
    pub usage: Option<Usage>,
}

/// One judge's win rate of one variant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JudgedWinRate {
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Prompts with a verdict for every seed.
    pub prompts: usize,
    /// Share of comparisons with the reference that are won on these; a draw counts one half.
    pub win_rate: Option<f64>,
    /// Its interval, `[low, high]`.
    pub ci: Option<[f64; 2]>,
}

/// How two judges agree on the pairs that both judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JudgeAgreement {
    /// One judge.
    pub a: String,
    /// The other.
    pub b: String,
    /// Pairs that both judged: responses of variants against the reference's.
    pub pairs: usize,
    /// Share of them with the same winner, or a draw by both.
    pub same: Option<f64>,
    /// Pairs that both decided.
    pub decided: usize,
    /// Share of these with the same winner.
    pub same_of_decided: Option<f64>,
    /// Krippendorff's alpha of the two on outcomes 0, 0.5 and 1, by the interval metric.
    pub alpha: Option<f64>,
}
