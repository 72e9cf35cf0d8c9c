//! The reward models' part of `report.json`.
//!
//! The rest of the schema stands in `schema`; `docs/REPORT.md` describes every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::Bin;

/// Held-out accuracies of one reward model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RewardModelResult {
    /// The variant's name; with several models, of which each is one category's, `name/category`.
    pub variant: String,
    /// Annotated prompts.
    pub budget: usize,
    /// The seed.
    pub seed: u64,
    /// Share of held-out preference pairs that it orders as the annotator did.
    pub preference_accuracy: Option<f64>,
    /// Its interval over pairs, `[low, high]`.
    pub preference_ci: Option<[f64; 2]>,
    /// Share of held-out (edited, original) pairs in which the edited response scores higher.
    pub edit_accuracy: Option<f64>,
    /// Its interval over pairs, `[low, high]`.
    pub edit_ci: Option<[f64; 2]>,
    /// Share of clean responses that score above the same response with one fault injected, by kind.
    pub single_fault_accuracy: BTreeMap<String, f64>,
    /// Area under the curve of minus the token reward, edited against unchanged tokens of held-out originals.
    pub token_auc: Option<f64>,
    /// How well low token rewards mark the edited tokens of held-out originals; of token models only.
    pub edited_tokens: Option<TokenQuality>,
    /// The same of the tokens that people marked as erroneous, where they did.
    pub error_spans: Option<TokenQuality>,
    /// Reliability of the probability, by Bradley and Terry, that the response with the higher score is the preferred one of a
    /// held-out pair; empty where the model's loss does not train that probability.
    pub preference_reliability: Vec<Bin>,
    /// Its expected calibration error.
    pub preference_calibration_error: Option<f64>,
    /// How its scores are distributed on held-out data, by what they are scores of.
    pub distributions: Vec<ScoreDistribution>,
    /// How well low rewards mark what is wrong by labels of the kind that it was trained on: words that were scored 0, spans
    /// with an error of its category; none where it was trained on pairs.
    pub annotated: Option<TokenQuality>,
    /// What the best of n samples of the reference by this model is worth to the oracle, from n = 1; empty without an
    /// oracle.
    pub best_of_n: Vec<BestOfN>,
}

/// How the scores of one class are distributed, in standard deviations from the mean over all classes of its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScoreDistribution {
    /// What has the scores: `tokens` or `responses`.
    pub of: String,
    /// Tokens: `deleted`, `substituted`, `unchanged`, `added`; responses: `preferred`, `less preferred`, `edited`, `original`.
    pub class: String,
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Share of them in each of 32 bins of equal width from -4 to 4; what lies beyond is in the outermost ones.
    pub shares: Vec<f64>,
}

/// How well low token rewards mark tokens that are wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenQuality {
    /// Tokens.
    pub tokens: usize,
    /// Share of them that are wrong: the precision of marking all.
    pub wrong: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// F1 at a threshold chosen on other responses; none where half of them has nothing wrong.
    pub f1: Option<f64>,
    /// Expected calibration error of the probability that a token is wrong.
    pub calibration_error: Option<f64>,
    /// The reliability diagram behind it.
    pub reliability: Vec<Bin>,
}

/// One point of a best-of-n curve, means over prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BestOfN {
    /// Samples that one is chosen from.
    pub n: usize,
    /// KL to the reference by its closed form, in nats per response.
    pub kl_nats: f64,
    /// The reward model's score of the chosen one.
    pub proxy: f64,
    /// Minus the faults that the oracle finds in it.
    pub gold: f64,
}
