//! Stage `ppo`: a policy, optimised against one reward model at one KL coefficient.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::responses::{CALIBRATION_PROMPTS, pairs};
use super::reward;
use super::training::Recorder;
use crate::data::Response;
use crate::ppo::shaping::{Calibration, Part, Reward};
use crate::ppo::train::{Task, train};
use crate::ppo::watch::Habits;
use crate::ppo::{self, Credit};
use crate::reward::score::RewardModel;
use crate::store::{Artefact, Workspace};

pub(super) const VERSION: u32 = 5;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// The table without its grid: one run knows one coefficient.
    pub(super) ppo: ppo::Config,
    pub(super) kl_coef: f64,
    pub(super) credit: Credit,
    /// The weight of a second, sequence reward; the input `mix` is its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mix: Option<f64>,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

/// The reward that the policy `policy` was trained on, from its reward model and the one mixed in, if any.
pub(super) fn reward_of(
    policy: &Artefact,
    reward: &Artefact,
    mix: Option<&Artefact>,
    setting: &Setting,
) -> Result<Reward> {
    let config: Config = serde_json::from_value(policy.manifest.config.clone())?;
    let mut calibrations = policy.read_json::<Vec<Calibration>>("calibration.json")?.into_iter();
    let mut calibration = |_: &RewardModel, _| calibrations.next().context("`calibration.json` has too few entries");
    config.reward(reward, mix, setting, &mut calibration)
}

impl Config {
    /// The reward model at its credit, with the weight that a second one leaves it; `calibrate` gives each its scale.
    fn reward(
        &self,
        reward: &Artefact,
        mix: Option<&Artefact>,
        setting: &Setting,
        calibrate: &mut dyn FnMut(&RewardModel, Credit) -> Result<Calibration>,
    ) -> Result<Reward> {
        let mut part = |artefact: &Artefact, credit: Credit, weight: f64| -> Result<Part> {
            let model = reward::load(artefact, setting)?;
            let calibration = calibrate(&model, credit)?;
            Ok(Part { model, credit, calibration, weight })
        };
        let weight = self.mix.unwrap_or(0.0);
        let first = part(reward, self.credit, 1.0 - weight)?;
        let others = mix.map(|mix| part(mix, Credit::EndOfSequence, weight)).transpose()?;
        Ok(Reward::new(first, others.into_iter().collect()))
    }
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let data = dataset(inputs)?;
    let reference = setting.policy(inputs, "reference")?;
    let ids =
        |prompts: &[crate::data::Prompt]| prompts.iter().map(|prompt| reference.prompt_ids(&prompt.text)).collect();
    let (prompts, validation): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (ids(&data.train), ids(&data.validation));
    let special = reference.special();
    let samples: Vec<Response> = inputs.artefact("reference_responses")?.read_jsonl("calibration.jsonl")?;
    let crew = setting.crew();
    let rows = pairs(&prompts[..prompts.len().min(CALIBRATION_PROMPTS)], &samples);
    let mut calibrations = Vec::new();
    let mut calibrate = |model: &RewardModel, credit| {
        let raw = crew.install(|| model.token_rewards(&rows, special.pad, &crew));
        calibrations.push(Calibration::measure(&model.kind, credit, &raw));
        Ok(calibrations[calibrations.len() - 1])
    };
    let reward = config.reward(inputs.artefact("reward")?, inputs.find("mix"), setting, &mut calibrate)?;
    workspace.write_json("calibration.json", &calibrations)?;
    let task = Task {
        config: &config.ppo,
        kl_coef: config.kl_coef,
        reward: &reward,
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
    workspace.write_bytes("value.safetensors", &trained.value.to_bytes())?;
    Ok(workspace.write_bytes("model.safetensors", &trained.policy.to_bytes())?)
}
