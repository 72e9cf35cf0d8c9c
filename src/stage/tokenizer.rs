//! Stage `tokenizer`: trained on the training split, or taken as it is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::data::world;
use super::execute::Inputs;
use super::policy::dataset;
use crate::model::pretrained;
use crate::recipe::Recipe;
use crate::store::{Workspace, hash_of};
use crate::text::{Config, FILES, Folder, Tokenizer};

pub(super) const VERSION: u32 = 1;

/// The table, a file by its content.
pub(super) fn config(recipe: &Recipe) -> Result<Value> {
    let mut config = json!(without_path(&recipe.tokenizer));
    if let Config::File(file) = &recipe.tokenizer {
        let bytes =
            std::fs::read(&file.path).with_context(|| format!("cannot read tokenizer `{}`", file.path.display()))?;
        config["file"]["path"] = json!(blake3::hash(&bytes).to_hex().as_str());
    }
    if let (Config::Policy(_), Some(start)) = (&recipe.tokenizer, &recipe.policy) {
        let folder = start.folder()?;
        // How these files are read has changed since the first results: flags do not say any more what begins a text.
        config["policy"]["reader"] = json!(2);
        for name in FILES.into_iter().filter(|name| folder.join(name).is_file()) {
            config["policy"][name] = json!(hash_of(&folder.join(name))?);
        }
    }
    Ok(config)
}

/// The table with no path in it.
pub(super) fn without_path(config: &Config) -> Config {
    let mut config = config.clone();
    if let Config::File(file) = &mut config {
        file.path = PathBuf::new();
    }
    config
}

pub(super) fn run(recipe: &Recipe, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    if let (Config::Policy(_), Some(start)) = (&recipe.tokenizer, &recipe.policy) {
        let folder = start.folder()?;
        Folder::open(&folder, super::policy::fallback(&pretrained::read_config(&folder)?)?)?;
        for name in FILES.into_iter().filter(|name| folder.join(name).is_file()) {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            workspace.write_bytes(name, &bytes)?;
        }
        return Ok(());
    }
    let tokenizer = match &recipe.tokenizer {
        Config::File(file) => Tokenizer::load(&file.path, &recipe.tokenizer)?,
        trained => {
            let texts = match world(inputs)? {
                Some(world) => world.words(),
                None => texts(inputs)?,
            };
            Tokenizer::train(trained, texts.into_iter())?
        }
    };
    Ok(workspace.write_bytes("tokenizer.json", tokenizer.to_json()?.as_bytes())?)
}

/// Every text of the training split.
fn texts(inputs: &Inputs) -> Result<Vec<String>> {
    let data = dataset(inputs)?;
    let demonstrations = data.demonstrations.into_iter().flat_map(|d| [d.prompt, d.response]);
    let preferences = data.preferences.into_iter().flat_map(|p| [p.chosen.text, p.rejected.text]);
    let edits = data.edits.into_iter().flat_map(|e| [e.original.text, e.edited.text]);
    let prompts = data.train.into_iter().map(|p| p.text);
    Ok(demonstrations.chain(preferences).chain(edits).chain(prompts).collect())
}
