//! Stage `responses`: what a policy says to the held-out prompts, and how far it is from the reference.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::ppo::reward_of;
use crate::compute::Crew;
use crate::data::Response;
use crate::events::Emitter;
use crate::model::{Batch, Model, Pair};
use crate::ppo::watch::Habits;
use crate::reward::score::ragged;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 1;

/// Samples of the reference on training prompts, from which rewards are calibrated.
pub(super) const CALIBRATION_PROMPTS: usize = 512;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// Whether this is the reference itself.
    pub(super) reference: bool,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

/// Means over the test responses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) habits: Habits,
    pub(super) kl_nats: f64,
    pub(super) mean_reward: Option<f64>,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, emitter: &Emitter) -> Result<()> {
    let setting = &config.setting;
    let data = dataset(inputs)?;
    let policy = setting.policy(inputs, "policy")?;
    let crew = setting.crew();
    let who = if config.reference { "reference" } else { "policy" };
    let respond = |prompts: &[crate::data::Prompt], split: &str| {
        let done = |n| emitter.progress(n, prompts.len(), "responses");
        crew.install(|| policy.respond(prompts, seed(config.seed, &format!("{who} {split} responses")), &crew, &done))
    };
    let test = respond(&data.test, "test");
    workspace.write_jsonl("test.jsonl", &test)?;
    let habits = Habits::of(test.iter().map(|response| response.ids.as_slice()));
    let summary = if config.reference {
        workspace.write_jsonl("validation.jsonl", respond(&data.validation, "validation"))?;
        let calibration = &data.train[..data.train.len().min(CALIBRATION_PROMPTS)];
        workspace.write_jsonl("calibration.jsonl", respond(calibration, "calibration"))?;
        Summary { habits, ..Summary::default() }
    } else {
        let prompts: Vec<Vec<u32>> = data.test.iter().map(|prompt| policy.prompt_ids(&prompt.text)).collect();
        let rows: Vec<Pair> = pairs(&prompts, &test);
        let reference = setting.model(inputs.artefact("reference")?)?;
        let pad = policy.special().pad;
        let kl = crew.install(|| mean_kl(&policy.model, &reference, &rows, pad, &crew));
        let reward = reward_of(inputs.artefact("policy")?, inputs.artefact("reward")?, inputs.find("mix"), setting)?;
        let returns = crew.install(|| reward.returns(&rows, pad, &crew));
        let mean = returns.iter().sum::<f64>() / returns.len().max(1) as f64;
        Summary { habits, kl_nats: kl, mean_reward: Some(mean) }
    };
    Ok(workspace.write_json("summary.json", &summary)?)
}

/// Prompts and responses side by side.
pub(super) fn pairs<'a>(prompts: &'a [Vec<u32>], responses: &'a [Response]) -> Vec<Pair<'a>> {
    prompts.iter().zip(responses).map(|(prompt, response)| Pair { prompt, response: &response.ids }).collect()
}

/// Mean over responses of the sequence KL, the sum of `log pi - log pi_ref` over fresh samples of pi (k1), in nats.
fn mean_kl(policy: &Model, reference: &Model, rows: &[Pair], pad: u32, crew: &Crew) -> f64 {
    let chunks: Vec<&[Pair]> = rows.chunks(64).collect();
    let sums = crew.map(&chunks, |rows| {
        let batch = Batch::new(rows, pad, &policy.device());
        let difference = policy.log_probs(&batch, 1.0) - reference.log_probs(&batch, 1.0);
        ragged(&difference, &batch.lengths).into_iter().flatten().sum::<f64>()
    });
    sums.into_iter().sum::<f64>() / rows.len().max(1) as f64
}
