//! Training as the report holds it: learning curves of the chosen runs, and the search that chose them.
//!
//! Smoothing and means over seeds are left to the renderings.

use serde::{Deserialize, Serialize};

/// One setting of the search for a KL coefficient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GridCell {
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// The KL coefficient tried.
    pub kl_coef: f64,
    /// Mean win rate on validation prompts, over seeds.
    pub validation_win_rate: Option<f64>,
    /// Mean sequence KL to the reference on the test prompts, in nats.
    pub kl_nats: Option<f64>,
    /// Mean reward by the variant's own reward model on the test prompts: the proxy.
    pub mean_reward: Option<f64>,
    /// Mean score by the judge on the test prompts: the gold.
    pub mean_score: Option<f64>,
    /// Whether this one was chosen.
    pub chosen: bool,
}

/// Learning curves of one variant at one budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Curve {
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// One series for each seed.
    pub seeds: Vec<SeedCurve>,
}

/// The learning curve of one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedCurve {
    /// The seed.
    pub seed: u64,
    /// The label of the stage that was trained: its entry in the report's `stages` has the times.
    pub stage: String,
    /// Measurements in order of steps.
    pub points: Vec<CurvePoint>,
    /// What training itself measured at every step.
    pub training: Vec<TrainingPoint>,
}

/// One measurement during PPO: win rate and length on the validation prompts, KL and reward in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurvePoint {
    /// PPO steps done; 0 is the reference.
    pub step: usize,
    /// Response tokens sampled for training until then.
    pub tokens: Option<f64>,
    /// Win rate against the reference.
    pub win_rate: Option<f64>,
    /// Mean sequence KL to the reference, in nats, over the rollouts since the point before.
    pub kl_nats: Option<f64>,
    /// Mean reward of the same rollouts, in standard deviations of the reference's return.
    pub mean_reward: Option<f64>,
    /// Mean response length in tokens.
    pub mean_length: Option<f64>,
    /// Mean score by the judge on the validation prompts: what over-optimisation of the reward takes away.
    pub mean_score: Option<f64>,
}

/// One iteration of PPO, means over its rollouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingPoint {
    /// PPO steps done.
    pub step: usize,
    /// Response tokens sampled until then, this iteration included.
    pub tokens: Option<f64>,
    /// Mean sequence KL to the reference, in nats.
    pub kl_nats: Option<f64>,
    /// Mean reward, in standard deviations of the reference's return.
    pub reward: Option<f64>,
    /// Mean response length in tokens.
    pub length: Option<f64>,
}
