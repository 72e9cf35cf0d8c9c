//! Stage `words`: the less preferred responses scored word by word.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::data::world;
use super::execute::Inputs;
use super::policy::Setting;
use crate::data::world::World;
use crate::data::{Preference, ScoredResponse};
use crate::labels::scores::{ScoredTokens, score_tokens};
use crate::store::Workspace;

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) setting: Setting,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    let world = world(inputs)?.context("simulated word scores need a world; the dataset is none")?;
    let tokenizer = config.setting.tokenizer(inputs)?;
    let preferences = inputs.artefact("preferences")?;
    for (from, to) in [("preferences.jsonl", "words.jsonl"), ("held_out.jsonl", "held_out.jsonl")] {
        let scored = simulate(&world, &preferences.read_jsonl::<Preference>(from)?);
        let limit = config.setting.max_response_tokens;
        let tokens: Vec<ScoredTokens> =
            scored.iter().filter_map(|scored| score_tokens(scored, &tokenizer, limit)).collect();
        workspace.write_jsonl(to, &tokens)?;
    }
    Ok(())
}

fn simulate(world: &World, preferences: &[Preference]) -> Vec<ScoredResponse> {
    let score = |preference: &Preference| ScoredResponse {
        prompt: preference.prompt.clone(),
        response: preference.rejected.clone(),
        scores: world.score(preference),
    };
    preferences.iter().map(score).collect()
}
