//! Stage `sft`: the reference policy.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::{MODEL, Setting, dataset, seed};
use super::training::Recorder;
use crate::model::Model;
use crate::model::pretrained::Origin;
use crate::recipe::Recipe;
use crate::sft::{self, Example, Task, train};
use crate::store::{Workspace, hash_of};

pub(super) const VERSION: u32 = 5;

/// The file of the result that holds the adapters, where those were trained.
pub(super) const ADAPTER: &str = "adapter.safetensors";

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) sft: sft::Config,
    pub(super) setting: Setting,
    pub(super) seed: u64,
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    recorder: &Recorder,
) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let (prompt, response) = (setting.max_prompt_tokens, setting.max_response_tokens);
    let demonstrations = dataset(inputs)?.demonstrations;
    let examples: Vec<Example> =
        demonstrations.iter().map(|shown| Example::new(shown, &tokenizer, prompt, response)).collect();
    let (vocab, device) = (tokenizer.vocab_size(), setting.device()?);
    let (model, fine_tune) = match (&setting.model, &recipe.policy) {
        (Origin::Fresh(architecture), _) => {
            (Model::init(architecture, vocab, vocab, seed(config.seed, "sft weights"), &device), true)
        }
        (Origin::Pretrained(base), Some(start)) => {
            (base.load(start, |path| Ok(hash_of(path)?), &device)?, base.fine_tune)
        }
        (Origin::Pretrained(_), None) => bail!("expected `[policy]` in the recipe of this stage"),
    };
    let task = Task {
        config: &config.sft,
        examples: &examples,
        pad: tokenizer.pad(),
        seed: seed(config.seed, "sft order"),
        shards: setting.cut(),
    };
    let crew = setting.crew();
    let lora = setting.model.lora()?.filter(|_| fine_tune);
    let model = match &lora {
        Some(lora) => model.adapt(lora, seed(config.seed, "sft adapters")),
        None => model,
    };
    let model =
        if fine_tune { crew.install(|| train(model, &task, &crew, &recorder.emitter(), recorder))? } else { model };
    recorder.finish(workspace)?;
    // All that follows is built on the whole; the adapters by themselves are for whoever takes them elsewhere.
    if lora.is_some() {
        workspace.write_bytes(ADAPTER, &model.to_bytes())?;
    }
    Ok(workspace.write_bytes(MODEL, &model.merged().to_bytes())?)
}
