//! Stage `data`: prompts, demonstrations and what else a dataset brings, split.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::execute::Inputs;
use super::node::Node;
use super::policy::fallback;
use crate::data::records::{self, Layout};
use crate::data::{Format, prompt, qa_feedback, read, world::World};
use crate::model::pretrained::read_config;
use crate::recipe::Recipe;
use crate::store::Workspace;
use crate::text::{ChatTemplate, Folder};

pub(super) const VERSION: u32 = 1;

/// The world's file in the result: later stages ask its annotator and its oracle.
const WORLD: &str = "world.toml";

/// The table without its path: where a file lies is not what it holds.
pub(super) fn config(recipe: &Recipe) -> Result<Value> {
    let mut hasher = blake3::Hasher::new();
    for file in records::files::expand(&recipe.dataset.source()?)? {
        hasher
            .update_reader(File::open(&file).with_context(|| format!("cannot read dataset `{}`", file.display()))?)?;
    }
    let mut config = json!(recipe.dataset);
    for key in ["hub", "revision"] {
        config.as_object_mut().and_then(|table| table.remove(key));
    }
    if !recipe.prompt.is_default() {
        let template = recipe.prompt.template.as_ref().map(prompt::Template::text).transpose()?;
        config["prompt"] = json!({ "template": template, "chat": chat(recipe)?.map(|chat| chat.source().to_owned()) });
    }
    config["path"] = json!(hasher.finalize().to_hex().as_str());
    // What these formats' readers bring has grown since their results were first stored; a world's has not.
    if recipe.dataset.format != Format::World {
        let guessed = recipe.dataset.records.as_ref().is_none_or(|records| records.layout == Layout::Auto);
        let as_before = recipe.dataset.format == Format::QaFeedback || (recipe.prompt.is_default() && !guessed);
        config["reader"] = json!(if as_before { 2 } else { 3 });
    }
    // A prompt's length is a matter of the tokenizer; worlds are generated to fit.
    if recipe.dataset.format != Format::World {
        for key in ["max_prompt_tokens", "max_response_tokens"] {
            config.as_object_mut().and_then(|table| table.remove(key));
        }
    }
    Ok(config)
}

/// The chat template that prompts are shown by.
fn chat(recipe: &Recipe) -> Result<Option<ChatTemplate>> {
    let Some(start) = recipe.policy.as_ref().filter(|_| recipe.prompt.chat) else { return Ok(None) };
    let folder = start.folder()?;
    let chat = Folder::open(&folder, fallback(&read_config(&folder)?)?)?.chat;
    let chat = chat.with_context(|| format!("`prompt.chat` needs a chat template, `{}` has none", folder.display()))?;
    Ok(Some(chat))
}

pub(super) fn run(recipe: &Recipe, node: &Node, workspace: &Workspace) -> Result<()> {
    // Of several files no copies are kept: what was submitted must still be there.
    let (found, expected) = (&config(recipe)?["path"], &node.config["path"]);
    ensure!(found == expected, "dataset `{}` was changed since the run was submitted", recipe.dataset.path.display());
    let dataset = if recipe.dataset.format == Format::Records {
        records::read(&recipe.dataset, &prompt::Shown::new(&recipe.prompt, chat(recipe)?)?)?
    } else {
        read(&recipe.dataset)?
    };
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
        Format::World | Format::Records => Vec::new(),
    };
    workspace.write_jsonl("corrections.jsonl", &corrections)?;
    workspace.write_jsonl("skipped.jsonl", &dataset.skipped)?;
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
