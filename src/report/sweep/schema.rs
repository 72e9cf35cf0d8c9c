//! The report of a sweep as data: the schema of its `report.json`, from which every rendering is made.
//!
//! Filling it from stored results is left to `stage`. `docs/REPORT.md` describes every field for readers of the JSON. Only
//! results are in it, nothing of the runs that made them: equal results give equal bytes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::{Power, Warning};

/// Everything that the report of a sweep shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepReport {
    /// The recipe's name.
    pub sweep: String,
    /// The question the experiment answers.
    pub description: String,
    /// What was found, in hedged sentences; see [`super::verdict`].
    pub verdict: Vec<String>,
    /// Who judged, in words.
    pub judge: String,
    /// Coverage of every interval.
    pub confidence: f64,
    /// Resamples behind every interval.
    pub bootstrap_samples: usize,
    /// The difference that the recipe wants to see, in points.
    pub difference: f64,
    /// How often it wants to.
    pub power: f64,
    /// The first variant: what leads are measured against.
    pub first_variant: String,
    /// What varies between points.
    pub axes: Vec<AxisSummary>,
    /// Recipe keys in which the points differ.
    pub keys: Vec<KeySummary>,
    /// Every point, with what became of it.
    pub points: Vec<PointSummary>,
    /// One for each point, variant and budget, those without results included.
    pub results: Vec<PointResult>,
    /// The best result by validation win rate; none where there is no result.
    pub best: Option<Best>,
    /// For each axis that is not sampled its levels, by budget and quantity.
    pub factors: Vec<FactorLevel>,
    /// For each two such axes their levels together, by budget and quantity.
    pub level_pairs: Vec<LevelPair>,
    /// For each sampled axis its values, by budget and quantity.
    pub trends: Vec<Trend>,
}

/// Something that varies between points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AxisSummary {
    /// Its name in tables.
    pub name: String,
    /// Whether its levels are numbers that were drawn at random.
    pub sampled: bool,
    /// What it takes; the others are compared with the first.
    pub levels: Vec<LevelSummary>,
}

/// One setting of an axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelSummary {
    /// As tables show it.
    pub name: String,
    /// The value of the axis' key, or a table of all that the level sets.
    pub value: Value,
}

/// A recipe key in which points differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeySummary {
    /// Its dotted name.
    pub key: String,
    /// Its different values, in the points' order; null where a point's recipe does not have it.
    pub values: Vec<Value>,
}

/// What became of something that the sweep asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All of its results are there.
    Done,
    /// Something of it has not run.
    #[default]
    Missing,
    /// A stage that it needs failed.
    Failed,
}

impl Status {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// One recipe of the sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PointSummary {
    /// Its axes with their levels.
    pub name: String,
    /// Its level on each axis; null for an axis that does not concern it.
    pub levels: Vec<Option<String>>,
    /// The worst of its results.
    pub status: Status,
    /// What failed, as `stage: error`.
    pub errors: Vec<String>,
    /// Stages whose results its judgements lack, what failed included.
    pub missing_stages: Vec<String>,
}

/// What is measured of a policy, and of the reward model behind it; see `docs/METRICS.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measures {
    /// Share of comparisons with the reference that are won, on test prompts.
    pub win_rate: Option<f64>,
    /// The same on validation prompts.
    pub validation_win_rate: Option<f64>,
    /// Sequence KL to the reference in nats per response.
    pub kl_nats: Option<f64>,
    /// Mean reward by the variant's own reward model, in standard deviations of the reference's return.
    pub mean_reward: Option<f64>,
    /// Mean response length in tokens.
    pub mean_length: Option<f64>,
    /// Faults per response, where the judge counts them.
    pub faults: Option<f64>,
    /// The reward model's held-out accuracy on preference pairs.
    pub preference_accuracy: Option<f64>,
    /// The reward model's held-out accuracy on (edited, original) pairs.
    pub edit_accuracy: Option<f64>,
    /// Area under the curve of its token rewards, where it has any.
    pub token_auc: Option<f64>,
}

impl Measures {
    /// The measures by name, in the order of tables.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Option<f64>); 9] {
        [
            ("win_rate", self.win_rate),
            ("validation_win_rate", self.validation_win_rate),
            ("kl_nats", self.kl_nats),
            ("mean_reward", self.mean_reward),
            ("mean_length", self.mean_length),
            ("faults", self.faults),
            ("preference_accuracy", self.preference_accuracy),
            ("edit_accuracy", self.edit_accuracy),
            ("token_auc", self.token_auc),
        ]
    }

    /// Means over `all`, each over those that know the number.
    #[must_use]
    pub fn mean(all: &[Self]) -> Self {
        let over = |of: fn(&Self) -> Option<f64>| {
            let known: Vec<f64> = all.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Self {
            win_rate: over(|m| m.win_rate),
            validation_win_rate: over(|m| m.validation_win_rate),
            kl_nats: over(|m| m.kl_nats),
            mean_reward: over(|m| m.mean_reward),
            mean_length: over(|m| m.mean_length),
            faults: over(|m| m.faults),
            preference_accuracy: over(|m| m.preference_accuracy),
            edit_accuracy: over(|m| m.edit_accuracy),
            token_auc: over(|m| m.token_auc),
        }
    }
}

/// One variant at one budget of one point, at the KL coefficient chosen for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PointResult {
    /// The point's name.
    pub point: String,
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Whether it is there; where not, all numbers are null.
    pub status: Status,
    /// The KL coefficient chosen on validation prompts.
    pub kl_coef: Option<f64>,
    /// Means over seeds.
    #[serde(flatten)]
    pub measures: Measures,
    /// Interval of the win rate.
    pub ci: Option<[f64; 2]>,
    /// The learning curve: steps and win rates on validation prompts, means over seeds.
    pub curve: Vec<[f64; 2]>,
    /// The difference to the first variant of the same point and budget.
    pub lead: Option<Effect>,
    /// Test prompts.
    pub prompts: usize,
    /// The seeds that the recipe asks for.
    pub seeds: Vec<SeedResult>,
    /// Warnings of its runs.
    pub warnings: Vec<Warning>,
}

/// What one seed of a result measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Null where the result is not there.
    #[serde(flatten)]
    pub measures: Measures,
}

/// A difference in points with its evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effect {
    /// The difference, mean over pairs.
    pub difference_points: f64,
    /// Its interval.
    pub ci: [f64; 2],
    /// Two-sided bootstrap p-value of "no difference", not corrected.
    pub p_value: f64,
    /// The p-value, corrected over all effects of `factors`; null elsewhere.
    pub p_holm: Option<f64>,
    /// Pairs behind it.
    pub pairs: usize,
    /// Pairs compared on a part of their seeds or prompts.
    pub partial: usize,
    /// Pairs without a common seed or without a common prompt.
    pub unpaired: usize,
    /// What could be seen of it; null where the pairs do not all have the same seeds and prompts.
    pub power: Option<Power>,
}

/// What is averaged: a variant's win rate or its lead, at one budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantity {
    /// The variant.
    pub variant: String,
    /// Null for its win rate; for its lead the variant that it is measured against.
    pub against: Option<String>,
    /// Annotated prompts; null where each point has one budget of its own.
    pub budget: Option<usize>,
}

/// One level of a factor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FactorLevel {
    /// The axis; `a + b` for axes that always change together.
    pub axis: String,
    /// Its level.
    pub level: String,
    /// The axis' first level, which the others are compared with.
    pub first_level: String,
    /// What is averaged.
    #[serde(flatten)]
    pub quantity: Quantity,
    /// Points behind the mean.
    pub points: usize,
    /// Points at this level that are not in the mean.
    pub missing: usize,
    /// The mean win rate in percent, or the mean lead in points.
    pub mean_points: Option<f64>,
    /// The difference to the first level; null at that level and where there is no pair.
    pub effect: Option<Effect>,
}

/// Two levels of two factors together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelPair {
    /// The axes.
    pub axes: [String; 2],
    /// A level of each.
    pub levels: [String; 2],
    /// What is averaged.
    #[serde(flatten)]
    pub quantity: Quantity,
    /// Points behind the mean.
    pub points: usize,
    /// Points at these levels that are not in the mean.
    pub missing: usize,
    /// The mean win rate in percent, or the mean lead in points.
    pub mean_points: Option<f64>,
}

/// A quantity over the values of a sampled axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trend {
    /// The axis.
    pub axis: String,
    /// What is plotted.
    #[serde(flatten)]
    pub quantity: Quantity,
    /// Spearman's rank correlation; null below three points.
    pub spearman: Option<f64>,
    /// Points at which the quantity is missing.
    pub missing: usize,
    /// One for each point, in order.
    pub values: Vec<TrendValue>,
}

/// One point of a trend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrendValue {
    /// The axis' value.
    pub value: f64,
    /// The win rate in percent, or the lead in points.
    pub mean_points: f64,
}

/// The best result: chosen by validation win rate, reported by its test win rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Best {
    /// The point.
    pub point: String,
    /// The variant.
    pub variant: String,
    /// Annotated prompts.
    pub budget: usize,
    /// By which it was chosen.
    pub validation_win_rate: f64,
    /// On the test prompts.
    pub win_rate: f64,
    /// Interval of the test win rate.
    pub ci: [f64; 2],
    /// Results that it was chosen from.
    pub candidates: usize,
    /// The same variant and budget at the point whose axes all take their first level; null where there is no such result.
    pub baseline: Option<Baseline>,
}

/// What the best result is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Baseline {
    /// The point.
    pub point: String,
    /// Its win rate on the test prompts.
    pub win_rate: f64,
    /// Best minus baseline; null where they are the same.
    pub effect: Option<Effect>,
}
