//! Responses to look at, as the report holds them: token by token, and side by side.
//!
//! Which ones are drawn is `stage`'s; how they are shown is the renderings'.

use serde::{Deserialize, Serialize};

/// One response's tokens: what an editor does to each, what reward models pay for it, and what PPO makes of that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heatmap {
    /// Why it is shown: `edit` (a held-out original with its edit), or drawn at random among `win`s, `loss`es or all (`random`).
    pub drawn_from: String,
    /// The variant that responded; none where the response was edited for training.
    pub variant: Option<String>,
    /// Annotated prompts behind the models.
    pub budget: usize,
    /// The run's seed.
    pub seed: u64,
    /// The outcome against the reference's response: 1, 0.5 or 0.
    pub outcome: Option<f64>,
    /// What was asked.
    pub prompt: String,
    /// The response's tokens as text.
    pub tokens: Vec<String>,
    /// One letter for each token: `U` unchanged, `D` deleted, `S` substituted, `A` added. Empty when unknown.
    pub labels: String,
    /// The response after the edit, where one is known.
    pub edited: Option<String>,
    /// One row for each reward model, then the advantages.
    pub rows: Vec<HeatmapRow>,
}

/// Numbers of one model on a heat map's tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeatmapRow {
    /// The variant's name.
    pub name: String,
    /// `sequence` or `token` for the reward of such a model, `advantage` for what PPO estimates from it.
    pub kind: String,
    /// The number at each token, in standard deviations of the reference's return.
    pub values: Vec<f64>,
}

/// One test prompt with responses to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// What was asked.
    pub prompt: String,
    /// Annotated prompts behind the variants' responses.
    pub budget: usize,
    /// The run's seed.
    pub seed: u64,
    /// The reference's response first, then one for each variant.
    pub responses: Vec<ExampleResponse>,
}

/// One response to an example's prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExampleResponse {
    /// Whose it is: a variant's name, or `reference`.
    pub name: String,
    /// The text.
    pub text: String,
    /// Kinds of its faults, where an oracle knows them.
    pub faults: Option<Vec<String>>,
    /// Its outcome against the reference's response: 1, 0.5 or 0.
    pub outcome: Option<f64>,
    /// The judge's outcomes with this response shown first, and with it shown second.
    pub orders: Option<[f64; 2]>,
}
