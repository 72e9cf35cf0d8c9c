//! Stage `ppo`: a policy, optimised against one reward model at one KL coefficient.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::responses::{CALIBRATION_PROMPTS, pairs};
use super::reward;
use super::training::Recorder;
use crate::compute::Crew;
use crate::data::Response;
use crate::model::Pair;
use crate::ppo::shaping::Calibration;
use crate::ppo::train::{Task, train};
use crate::ppo::watch::Habits;
use crate::ppo::{self, Credit};
use crate::reward::score::RewardModel;
use crate::store::{Artefact, Workspace};

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// The table without its grid: one run knows one coefficient.
    pub(super) ppo: ppo::Config,
    pub(super) kl_coef: f64,
    pub(super) credit: Credit,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

/// A reward as PPO sees it: model, credit and scale.
pub(super) struct Calibrated {
    reward: RewardModel,
    credit: Credit,
    calibration: Calibration,
}

impl Calibrated {
    /// Of a reward model and the policy that was trained on it.
    pub(super) fn load(reward: &Artefact, policy: &Artefact, setting: &Setting) -> Result<Self> {
        Ok(Self {
            reward: reward::load(reward, setting)?,
            credit: serde_json::from_value(policy.manifest.config["credit"].clone())?,
            calibration: policy.read_json("calibration.json")?,
        })
    }

    /// Rewards of every response token.
    pub(super) fn rewards(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
        let raw = self.reward.token_rewards(rows, pad, crew);
        raw.iter().map(|row| self.credit.rewards(&self.reward.kind, row, self.calibration)).collect()
    }

    /// The return of every response: the sum of its rewards, without KL.
    pub(super) fn returns(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<f64> {
        self.rewards(rows, pad, crew).iter().map(|row| row.iter().sum()).collect()
    }
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let data = dataset(inputs)?;
    let reference = setting.policy(inputs, "reference")?;
    let reward = reward::load(inputs.artefact("reward")?, setting)?;
    let ids =
        |prompts: &[crate::data::Prompt]| prompts.iter().map(|prompt| reference.prompt_ids(&prompt.text)).collect();
    let (prompts, validation): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (ids(&data.train), ids(&data.validation));
    let special = reference.special();
    let samples: Vec<Response> = inputs.artefact("reference_responses")?.read_jsonl("calibration.jsonl")?;
    let crew = setting.crew();
    let rows = pairs(&prompts[..prompts.len().min(CALIBRATION_PROMPTS)], &samples);
    let raw = crew.install(|| reward.token_rewards(&rows, special.pad, &crew));
    let calibration = Calibration::measure(&reward.kind, config.credit, &raw);
    workspace.write_json("calibration.json", &calibration)?;
    let task = Task {
        config: &config.ppo,
        kl_coef: config.kl_coef,
        credit: config.credit,
        reward: &reward,
        calibration,
        habits: Habits::of(samples.iter().map(|response| response.ids.as_slice())),
        prompts: &prompts,
        validation: &validation,
        special,
        max_response: setting.max_response_tokens,
        seed: seed(config.seed, "ppo"),
        shards: setting.shards,
    };
    let trained = crew.install(|| train(&reference.model, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
    workspace.write_jsonl("validation.jsonl", &trained.snapshots)?;
    workspace.write_jsonl("suspicions.jsonl", &trained.suspicions)?;
    Ok(workspace.write_bytes("model.safetensors", &trained.policy.to_bytes())?)
}
