//! Stage `words`: the less preferred responses scored word by word.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::annotator::{Desk, publish};
use super::data::world;
use super::execute::Inputs;
use super::policy::Setting;
use crate::data::{Preference, ScoredResponse};
use crate::events::Emitter;
use crate::labels::scores::{ScoredTokens, score_tokens};
use crate::llm::{self, prompts};
use crate::recipe::Recipe;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// The language model that is asked; left out, the world's annotator scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) llm: Option<llm::Words>,
    /// The text of its question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    pub(super) setting: Setting,
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
) -> Result<()> {
    let tokenizer = config.setting.tokenizer(inputs)?;
    let preferences = inputs.artefact("preferences")?;
    for (from, to) in [("preferences.jsonl", "words.jsonl"), ("held_out.jsonl", "held_out.jsonl")] {
        let preferences: Vec<Preference> = preferences.read_jsonl(from)?;
        let scored = match &config.llm {
            Some(llm) => {
                // How the endpoint is treated is the run's matter and in no key: the recipe says it.
                let Some(asked) = &recipe.labels.llm_words else {
                    bail!("expected `[labels.llm_words]` in the recipe")
                };
                let template = config.template.as_deref().unwrap_or(prompts::WORDS);
                let desk = Desk::new(&asked.endpoint, "labels.llm_words", template, workspace, emitter)?;
                let (scored, account) = desk.score(llm, &preferences)?;
                if to == "words.jsonl" {
                    publish(&account, workspace, emitter)?;
                }
                scored
            }
            None => simulate(inputs, &preferences)?,
        };
        let limit = config.setting.max_response_tokens;
        let tokens: Vec<ScoredTokens> =
            scored.iter().filter_map(|scored| score_tokens(scored, &tokenizer, limit)).collect();
        workspace.write_jsonl(to, &tokens)?;
    }
    Ok(())
}

fn simulate(inputs: &Inputs, preferences: &[Preference]) -> Result<Vec<ScoredResponse>> {
    let world = world(inputs)?.context("simulated word scores need a world; the dataset is none")?;
    let score = |preference: &Preference| ScoredResponse {
        prompt: preference.prompt.clone(),
        response: preference.rejected.clone(),
        scores: world.score(preference),
    };
    Ok(preferences.iter().map(score).collect())
}
