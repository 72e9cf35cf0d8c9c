//! Stage `best_of_n`: of several samples of the reference, the one with the highest reward. Nothing is trained.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::responses::{Summary, pairs};
use super::reward;
use crate::data::{Prompt, Response};
use crate::eval::best_of_n_kl;
use crate::events::Emitter;
use crate::ppo::train::Snapshot;
use crate::ppo::watch::Habits;
use crate::reward::score::best;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 2;

/// Prompts whose samples are held at a time.
const PROMPTS: usize = 64;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) n: usize,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, emitter: &Emitter) -> Result<()> {
    let setting = &config.setting;
    let reference = setting.model(inputs.artefact("reference")?)?;
    let model = reward::load(inputs.artefact("reward")?, setting, Some(&reference))?;
    let policy = setting.policy(inputs, reference)?;
    let (crew, pad) = (setting.crew(), policy.special().pad);
    let best_of = |prompts: &[Prompt], seed: u64| -> Result<Vec<Response>> {
        let repeated: Vec<Prompt> =
            prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), config.n)).collect();
        let samples = policy.respond(&repeated, seed, &crew, &|_| ());
        let ids: Vec<Vec<u32>> = repeated.iter().map(|prompt| policy.prompt_ids(&prompt.text)).collect();
        let scores = model.scores(&pairs(&ids, &samples), pad, &crew);
        let choose = |(samples, scores): (&[Response], &[f64])| {
            let best = best(scores).context("the reward model gives no number to any sample of a prompt")?;
            Ok(samples[best].clone())
        };
        samples.chunks(config.n).zip(scores.chunks(config.n)).map(choose).collect()
    };
    let choose = |prompts: &[Prompt], split: &str| -> Result<Vec<Response>> {
        let mut chosen = Vec::with_capacity(prompts.len());
        for (part, some) in prompts.chunks(PROMPTS).enumerate() {
            let seed = seed(config.seed, &format!("best of n {split} {part}"));
            chosen.extend(crew.install(|| best_of(some, seed))?);
            emitter.progress(chosen.len(), prompts.len(), "prompts");
        }
        Ok(chosen)
    };
    let data = dataset(inputs)?;
    let test = choose(&data.test, "test")?;
    let habits = Habits::of(test.iter().map(|response| response.ids.as_slice()));
    workspace.write_jsonl("test.jsonl", &test)?;
    let responses = choose(&data.validation, "validation")?.into_iter().map(|response| response.ids).collect();
    workspace.write_jsonl("validation.jsonl", [Snapshot { step: 0, responses }])?;
    let summary = Summary { habits, kl_bound: Some(best_of_n_kl(config.n)), ..Summary::default() };
    Ok(workspace.write_json("summary.json", &summary)?)
}
