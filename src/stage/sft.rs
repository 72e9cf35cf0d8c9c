//! Stage `sft`: the reference policy.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::training::Recorder;
use crate::model::Model;
use crate::sft::{self, Task, train};
use crate::store::Workspace;

pub(super) const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) sft: sft::Config,
    pub(super) setting: Setting,
    pub(super) seed: u64,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let examples: Vec<(Vec<u32>, Vec<u32>)> = dataset(inputs)?
        .demonstrations
        .iter()
        .map(|demonstration| {
            let prompt = tokenizer.encode_prompt(&demonstration.prompt, setting.max_prompt_tokens);
            let mut response = tokenizer.encode(&demonstration.response);
            response.push(tokenizer.eos());
            response.truncate(setting.max_response_tokens);
            (prompt, response)
        })
        .collect();
    let (vocab, device) = (tokenizer.vocab_size(), setting.device()?);
    let model = Model::init(&setting.model, vocab, vocab, seed(config.seed, "sft weights"), &device);
    let task = Task {
        config: &config.sft,
        examples: &examples,
        pad: tokenizer.pad(),
        seed: seed(config.seed, "sft order"),
        shards: setting.shards,
    };
    let crew = setting.crew();
    let model = crew.install(|| train(model, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
    Ok(workspace.write_bytes("model.safetensors", &model.to_bytes())?)
}
