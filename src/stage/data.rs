//! Stage `data`: prompts, demonstrations and what else a dataset brings, split.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::execute::Inputs;
use crate::data::{Format, qa_feedback, read, world::World};
use crate::recipe::Recipe;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 1;

/// The world's file in the result: later stages ask its annotator and its oracle.
const WORLD: &str = "world.toml";

/// The table without its path: where a file lies is not what it holds.
pub(super) fn config(recipe: &Recipe) -> Result<Value> {
    let path = &recipe.dataset.path;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read dataset `{}`", path.display()))?;
    let mut config = json!(recipe.dataset);
    config["path"] = json!(blake3::hash(&bytes).to_hex().as_str());
    // A prompt's length is a matter of the tokenizer; worlds are generated to fit.
    if recipe.dataset.format != Format::World {
        for key in ["max_prompt_tokens", "max_response_tokens"] {
            config.as_object_mut().and_then(|table| table.remove(key));
        }
    }
    Ok(config)
}

pub(super) fn run(recipe: &Recipe, workspace: &Workspace) -> Result<()> {
    let dataset = read(&recipe.dataset)?;
    workspace.write_jsonl("demonstrations.jsonl", &dataset.demonstrations)?;
    workspace.write_jsonl("train.jsonl", &dataset.train)?;
    workspace.write_jsonl("validation.jsonl", &dataset.validation)?;
    workspace.write_jsonl("test.jsonl", &dataset.test)?;
    workspace.write_jsonl("preferences.jsonl", &dataset.preferences)?;
    workspace.write_jsonl("held_out_preferences.jsonl", &dataset.held_out_preferences)?;
    workspace.write_jsonl("edits.jsonl", &dataset.edits)?;
    workspace.write_jsonl("held_out_edits.jsonl", &dataset.held_out_edits)?;
    let corrections = match recipe.dataset.format {
        Format::QaFeedback => qa_feedback::corrections(&recipe.dataset.path)?,
        Format::World => Vec::new(),
    };
    workspace.write_jsonl("corrections.jsonl", &corrections)?;
    if recipe.dataset.format == Format::World {
        workspace.write_bytes(WORLD, &std::fs::read(&recipe.dataset.path)?)?;
    }
    Ok(())
}

/// The world behind the data, where there is one.
pub(super) fn world(inputs: &Inputs) -> Result<Option<World>> {
    let data = inputs.artefact("data")?;
    data.manifest.files.contains_key(WORLD).then(|| World::load(&data.path(WORLD)?)).transpose()
}
