//! The report as data: the schema of `report.json`, from which every rendering is made.
//!
//! Filling it from stored results is left to `stage`, showing it to the modules beside this one. `docs/REPORT.md` describes
//! every field for readers of the JSON. A number that is not known is `None`; no number may be infinite or not a number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::annotators::AnnotatorResult;
use super::costs::{MissingStage, Provenance, StageCost};
use super::judges::{JudgeAgreement, JudgeResult};
use super::learning::{Curve, GridCell};
use super::material::{DataCount, EditStatistics, Lengths, SkippedRows};
use super::reward_models::RewardModelResult;
use super::rounds::RoundResult;
use super::samples::{Example, Heatmap};
use super::warnings::Warning;

/// Everything a report shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// The question the experiment answers.
    pub description: String,
    /// What was found, in hedged sentences; see [`super::verdict`].
    pub verdict: Vec<String>,
    /// Who judged, in words: `oracle: fewer faults win`.
    pub judge: String,
    /// What each judge said and how consistent it was, the primary one first.
    pub judges: Vec<JudgeResult>,
    /// How far every two judges agree.
    pub agreements: Vec<JudgeAgreement>,
    /// Coverage of every interval.
    pub confidence: f64,
    /// Resamples behind every interval.
    pub bootstrap_samples: usize,
    /// The difference in points that the experiment was to see.
    pub difference: f64,
    /// How often it was to see it.
    pub power: f64,
    /// Test prompts on which every seed of every variant was judged.
    pub prompts: usize,
    /// The results, one for each variant and budget; the first variant is the baseline.
    pub variants: Vec<VariantResult>,
    /// Paired differences between variants at equal budget.
    pub comparisons: Vec<Comparison>,
    /// Validation win rates from which each variant's KL coefficient was chosen.
    pub grid: Vec<GridCell>,
    /// How language models did as annotators.
    pub annotators: Vec<AnnotatorResult>,
    /// What rounds of annotation add; empty where there was one.
    pub rounds: Vec<RoundResult>,
    /// Learning curves of the chosen runs.
    pub curves: Vec<Curve>,
    /// Held-out accuracies of the reward models.
    pub reward_models: Vec<RewardModelResult>,
    /// Agreement of the edit labels with human error spans, where the data has any.
    pub label_agreement: Option<LabelAgreement>,
    /// Decides which responses are shown.
    pub samples_seed: u64,
    /// Token rewards of the same response under several reward models.
    pub heatmaps: Vec<Heatmap>,
    /// Sample responses to test prompts.
    pub examples: Vec<Example>,
    /// Keys in which variants differ from each other.
    pub differences: Vec<KeyDifference>,
    /// The reference policy.
    pub sft: SftResult,
    /// What a person should look at, over all runs, such as `reward hacking suspected: ...`.
    pub warnings: Vec<Warning>,
    /// Sizes of the data in use, by name, in the order to show.
    pub data: Vec<DataCount>,
    /// How long prompts and responses are.
    pub lengths: Vec<Lengths>,
    /// What the edits change, by budget.
    pub edits: Vec<EditStatistics>,
    /// Rows of the dataset that could not be used.
    pub skipped: Vec<SkippedRows>,
    /// Stages without a result; what is made from them is in no number of this report.
    pub missing: Vec<MissingStage>,
    /// What each stage cost.
    pub stages: Vec<StageCost>,
    /// The recipe with all defaults filled in.
    pub recipe_toml: String,
    /// Where, when and by what this was made.
    pub provenance: Provenance,
}

/// One variant at one annotation budget, over all seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VariantResult {
    /// The variant's name.
    pub name: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Share of comparisons with the reference that are won; a draw counts one half.
    pub win_rate: f64,
    /// Interval of the win rate, `[low, high]`.
    pub ci: [f64; 2],
    /// Comparisons with the reference that are won.
    pub wins: usize,
    /// Comparisons with the reference that are draws.
    pub ties: usize,
    /// Comparisons with the reference that are lost.
    pub losses: usize,
    /// Variants of this budget that share a letter differ detectably by no comparison; empty where nothing was compared.
    pub letters: String,
    /// The win rate if responses were as long as the reference's.
    pub length_controlled_win_rate: Option<f64>,
    /// Interquartile mean of the seeds' win rates, where there are several.
    pub iqm_win_rate: Option<f64>,
    /// Its interval over seeds, `[low, high]`.
    pub iqm_ci: Option<[f64; 2]>,
    /// What of the win rate's distance from one half the run could see.
    pub power: Option<Power>,
    /// The KL coefficient chosen on validation prompts.
    pub kl_coef: Option<f64>,
    /// Mean sequence KL to the reference, in nats: `kl.sequence_k1`.
    pub kl_nats: Option<f64>,
    /// KL to the reference by several estimators.
    pub kl: Option<Divergence>,
    /// Mean reward by the variant's own reward model, in standard deviations of the reference's return.
    pub mean_reward: Option<f64>,
    /// Mean response length in tokens.
    pub mean_length: Option<f64>,
    /// Mean faults per response.
    pub faults: Option<f64>,
    /// Mean faults per response, by kind.
    pub faults_by_kind: BTreeMap<String, f64>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Win rate of each seed, in the order of `seeds`.
    pub win_rate_per_seed: Vec<f64>,
    /// Mean win rate on validation prompts at the chosen KL coefficient.
    pub validation_win_rate: Option<f64>,
    /// Those of the report's warnings that belong to it.
    pub warnings: Vec<Warning>,
}

/// The paired difference of two variants on the same prompts and seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// The variant whose advantage is measured.
    pub a: String,
    /// The variant it is measured against.
    pub b: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// 100 times (win rate of `a` - win rate of `b`), both against the reference.
    pub difference_points: f64,
    /// Interval of the difference in points, `[low, high]`.
    pub ci: [f64; 2],
    /// Two-sided bootstrap p-value.
    pub p_value: f64,
    /// The same, corrected by Holm over all comparisons of the report.
    pub p_holm: Option<f64>,
    /// Share of direct comparisons that `a` wins against `b`; a draw counts one half.
    pub head_to_head: Option<f64>,
    /// Its interval, `[low, high]`.
    pub head_to_head_ci: Option<[f64; 2]>,
    /// The same if the responses of `a` were as long as those of `b`.
    pub length_controlled_head_to_head: Option<f64>,
    /// Direct comparisons that `a` wins.
    pub wins: usize,
    /// Direct comparisons that are draws.
    pub ties: usize,
    /// Direct comparisons that `b` wins.
    pub losses: usize,
    /// Prompts on which `a` does better than `b`, over all seeds together.
    pub better_prompts: usize,
    /// Prompts on which it does worse.
    pub worse_prompts: usize,
    /// Exact sign test of these two.
    pub sign_p: Option<f64>,
    /// Probability that a seed of `a` has a higher win rate than one of `b`, where there are several.
    pub probability_of_improvement: Option<f64>,
    /// Its interval over seeds, `[low, high]`.
    pub improvement_ci: Option<[f64; 2]>,
    /// What of a difference the run could see.
    pub power: Option<Power>,
}

/// How small a difference a run could see, and how large it would have to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Power {
    /// Variance between seeds, in points squared; none with one seed.
    pub seed_variance: Option<f64>,
    /// Variance between prompts; with one seed, that of single responses is in it.
    pub prompt_variance: f64,
    /// Variance of single responses.
    pub residual_variance: f64,
    /// The smallest difference in points that is seen as often as the recipe asks for.
    pub detectable_points: f64,
    /// Prompts that it takes to see the recipe's difference with these seeds; none where no number is enough.
    pub prompts_needed: Option<usize>,
    /// Seeds that it takes with these prompts; none where no number is enough, or with one seed.
    pub seeds_needed: Option<usize>,
}

/// KL of a policy to its reference, on fresh samples of the policy, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Divergence {
    /// Mean over responses of the sum over tokens of k1.
    pub sequence_k1: f64,
    /// Mean over responses of the sum over tokens of k3.
    pub sequence_k3: f64,
    /// Mean over tokens of k1.
    pub token_k1: f64,
    /// Mean over tokens of k3.
    pub token_k3: f64,
}

/// A key of the recipe in which variants differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyDifference {
    /// The dotted name below the variant's entry.
    pub key: String,
    /// Its value in each variant, in the recipe's order; none where the variant does not have it.
    pub values: Vec<Option<String>>,
}

/// Agreement of the edit labels with human error spans, word by word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelAgreement {
    /// Share of words labelled as deleted or substituted that lie in a human error span.
    pub precision: f64,
    /// Share of words in human error spans that are labelled as deleted or substituted.
    pub recall: f64,
    /// Responses compared.
    pub records: usize,
}

/// The reference policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SftResult {
    /// Loss at the end of supervised fine-tuning, in nats per response token, mean over seeds.
    pub final_loss: Option<f64>,
    /// Mean faults per response of the reference.
    pub faults: Option<f64>,
    /// Mean response length of the reference, in tokens.
    pub mean_length: Option<f64>,
}
