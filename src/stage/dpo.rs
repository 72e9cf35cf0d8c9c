//! Stage `dpo`: a policy, trained on pairs without a reward model, at one beta.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{MODEL, Setting, dataset, seed};
use super::reward::{edit_pairs, preference_pairs};
use super::training::Recorder;
use crate::dpo::{self, Task, train};
use crate::ppo::train::Snapshot;
use crate::reward::PairSource;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// The table without its grid: one run knows one beta.
    pub(super) dpo: dpo::Config,
    pub(super) beta: f64,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let pairs = match config.dpo.data {
        PairSource::Preferences => {
            preference_pairs(&inputs.artefact("preferences")?.read_jsonl("preferences.jsonl")?, &tokenizer, setting)
        }
        PairSource::Edits => edit_pairs(&inputs.artefact("labels")?.read_jsonl("labels.jsonl")?, &tokenizer, setting),
    };
    let reference = setting.model(inputs.artefact("reference")?)?;
    let start = match setting.model.lora()? {
        Some(lora) => reference.adapt(&lora, seed(config.seed, "policy adapters")),
        None => reference.clone(),
    };
    let task = Task {
        config: &config.dpo,
        beta: config.beta,
        reference: &reference,
        pairs: &pairs,
        pad: tokenizer.pad(),
        seed: seed(config.seed, "dpo"),
        shards: setting.cut(),
    };
    let crew = setting.crew();
    let trained = crew.install(|| train(start, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
    workspace.write_bytes(MODEL, &trained.to_bytes())?;
    let policy = setting.policy(inputs, trained)?;
    let (prompts, sampled) = (dataset(inputs)?.validation, seed(config.seed, "dpo validation responses"));
    let responses = crew.install(|| policy.respond(&prompts, sampled, &crew, &|_| ()));
    let snapshot = Snapshot { step: task.steps(), responses: responses.into_iter().map(|r| r.ids).collect() };
    Ok(workspace.write_jsonl("validation.jsonl", [snapshot])?)
}
