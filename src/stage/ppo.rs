//! Stage `ppo`: a policy, optimised against one reward model at one KL coefficient.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{MODEL, Setting, dataset, seed};
use super::responses::{CALIBRATION_PROMPTS, pairs};
use super::reward as reward_stage;
use super::training::Recorder;
use crate::data::Response;
use crate::model::Model;
use crate::ppo::shaping::{Calibration, LengthPenalty, Member, Part, Reward, weighted};
use crate::ppo::train::{Task, train};
use crate::ppo::watch::Habits;
use crate::ppo::{self, Credit};
use crate::reward::{self, Kind};
use crate::store::{Artefact, Workspace};

pub(super) const VERSION: u32 = 7;

/// The file of the result that holds the value model.
pub(super) const VALUE: &str = "value.safetensors";

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// The table without its grid: one run knows one coefficient.
    pub(super) ppo: ppo::Config,
    pub(super) kl_coef: f64,
    pub(super) credit: Credit,
    /// The weight of a second, sequence reward; the input `mix` is its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mix: Option<f64>,
    /// Of a `spans` variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spans: Option<SpanRewards>,
    /// What a token beyond the reference's median length costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) length_penalty: Option<f64>,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

/// How the models of a `spans` variant are read and added up.
#[derive(Serialize, Deserialize)]
pub(super) struct SpanRewards {
    pub(super) spans: reward::Spans,
    /// By category; the inputs `reward.<category>` are their models.
    pub(super) weights: BTreeMap<String, f64>,
}

/// The reward models among `inputs`: `reward`, or one for each category; `prefix` stands before the roles.
pub(super) fn rewards<'a>(inputs: &'a Inputs, prefix: &str) -> Vec<(String, &'a Artefact)> {
    let category = |(rest, artefact): (&str, &'a Artefact)| {
        let rest = rest.strip_prefix("reward")?;
        Some((rest.trim_start_matches('.').to_owned(), artefact))
    };
    inputs.artefacts(prefix).filter_map(category).collect()
}

/// The reward that the policy `policy` was trained on, from its reward models and the one mixed in, if any.
pub(super) fn reward_of(
    policy: &Artefact,
    rewards: &[(String, &Artefact)],
    mix: Option<&Artefact>,
    setting: &Setting,
    reference: Option<&Model>,
) -> Result<Reward> {
    let config: Config = serde_json::from_value(policy.manifest.config.clone())?;
    let mut calibrations = policy.read_json::<Vec<Calibration>>("calibration.json")?.into_iter();
    let mut calibration = |_: &[Member], _| calibrations.next().context("`calibration.json` is too short");
    let reward = config.reward(rewards, mix, setting, reference, &mut calibration)?;
    let penalty = config.length_penalty.map(|_| policy.read_json("length_penalty.json")).transpose()?;
    Ok(reward.with_length_penalty(penalty))
}

/// Gives a weighted sum of reward models its scale.
type Calibrate<'a> = dyn FnMut(&[Member], Credit) -> Result<Calibration> + 'a;

impl Config {
    /// The reward models at their credit, with the weight that one that is mixed in leaves them.
    fn reward(
        &self,
        rewards: &[(String, &Artefact)],
        mix: Option<&Artefact>,
        setting: &Setting,
        reference: Option<&Model>,
        calibrate: &mut Calibrate,
    ) -> Result<Reward> {
        let share = self.mix.unwrap_or(0.0);
        let members = rewards
            .iter()
            .map(|(category, artefact)| {
                let mut model = reward_stage::load(artefact, setting, reference)?;
                let Some(SpanRewards { spans, weights }) = &self.spans else {
                    return Ok(Member { model, weight: 1.0 });
                };
                model.kind = Kind::Spans(*spans);
                let weight = weights.get(category).with_context(|| format!("no weight of category `{category}`"))?;
                Ok(Member { model, weight: *weight })
            })
            .collect::<Result<Vec<Member>>>()?;
        let calibration = calibrate(&members, self.credit)?;
        let part = |Member { model, weight }| {
            let weight = weight * (1.0 - share);
            Part { model, credit: self.credit, calibration, weight }
        };
        let mut parts = members.into_iter().map(part);
        let first = parts.next().context("expected an input `reward`, found none")?;
        let mut others: Vec<Part> = parts.collect();
        if let Some(artefact) = mix {
            let member = Member { model: reward_stage::load(artefact, setting, reference)?, weight: 1.0 };
            let calibration = calibrate(std::slice::from_ref(&member), Credit::EndOfSequence)?;
            others.push(Part { model: member.model, credit: Credit::EndOfSequence, calibration, weight: share });
        }
        Ok(Reward::new(first, others))
    }
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let data = dataset(inputs)?;
    let reference = setting.policy(inputs, setting.model(inputs.artefact("reference")?)?)?;
    let ids =
        |prompts: &[crate::data::Prompt]| prompts.iter().map(|prompt| reference.prompt_ids(&prompt.text)).collect();
    let (prompts, validation): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (ids(&data.train), ids(&data.validation));
    let special = reference.special();
    let samples: Vec<Response> = inputs.artefact("reference_responses")?.read_jsonl("calibration.jsonl")?;
    let crew = setting.crew();
    let rows = pairs(&prompts[..prompts.len().min(CALIBRATION_PROMPTS)], &samples);
    let mut calibrations = Vec::new();
    let mut calibrate = |members: &[Member], credit| {
        let raw = crew.install(|| weighted(members, &rows, special.pad, &crew));
        let first = members.first().context("expected an input `reward`, found none")?;
        calibrations.push(Calibration::measure(&first.model.kind, credit, &raw));
        Ok(calibrations[calibrations.len() - 1])
    };
    let reward =
        config.reward(&rewards(inputs, ""), inputs.find("mix"), setting, Some(&reference.model), &mut calibrate)?;
    workspace.write_json("calibration.json", &calibrations)?;
    let lengths = samples.iter().map(|response| response.ids.len());
    let penalty = config.length_penalty.map(|penalty| LengthPenalty::beyond_median(lengths, penalty));
    if let Some(penalty) = penalty {
        workspace.write_json("length_penalty.json", &penalty)?;
    }
    let reward = reward.with_length_penalty(penalty);
    let start = match (inputs.find("start"), setting.model.lora()?) {
        (Some(start), _) => Some(setting.trained(start, Some(&reference.model))?),
        (None, Some(lora)) => Some(reference.model.adapt(&lora, seed(config.seed, "policy adapters"))),
        (None, None) => None,
    };
    if let Some(policy) = start.as_ref().filter(|policy| policy.adapter.is_some()) {
        // The value model begins as the reward model, so it has as many weights of its own.
        let [[shared, policy], [_, reward]] = [policy.bytes(), reward.model().model.bytes()];
        recorder.tell([("base_bytes", shared as f64), ("adapter_bytes", (policy + 2 * reward) as f64)]);
    }
    let task = Task {
        config: &config.ppo,
        start: start.as_ref(),
        kl_coef: config.kl_coef,
        reward: &reward,
        habits: Habits::of(samples.iter().map(|response| response.ids.as_slice())),
        prompts: &prompts,
        validation: &validation,
        special,
        max_response: setting.max_response_tokens,
        seed: seed(config.seed, "ppo"),
        shards: setting.cut(),
    };
    let trained = crew.install(|| train(&reference.model, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
    workspace.write_jsonl("validation.jsonl", &trained.snapshots)?;
    workspace.write_jsonl("suspicions.jsonl", &trained.suspicions)?;
    workspace.write_bytes(VALUE, &trained.value.to_bytes())?;
    Ok(workspace.write_bytes(MODEL, &trained.policy.to_bytes())?)
}
