//! Stage `edits`: minimal edits of the less preferred responses.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::annotator::{Desk, publish};
use super::data::world;
use super::execute::Inputs;
use super::policy::{dataset, seed};
use super::preferences::annotated;
use crate::data::{Edit, Preference, annotations};
use crate::events::Emitter;
use crate::labels::{diff_words, word_pieces};
use crate::llm::prompts;
use crate::recipe::{EditSource, Recipe};
use crate::store::{Workspace, hash_of};

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) source: EditSource,
    pub(super) budget: usize,
    pub(super) seed: u64,
    /// The text of a language model's question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
}

/// Where edits come from, a file by its content. One that is not there yet can be planned with, and is missed when it is read:
/// `runner annotate` plans the recipe before it writes the file.
pub(super) fn source(recipe: &Recipe) -> Result<EditSource> {
    let mut source = recipe.edits.deciding();
    if let EditSource::Annotations(edits) = &mut source {
        edits.path = if edits.path.exists() { hash_of(&edits.path)?.into() } else { "missing".into() };
    }
    Ok(source)
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
) -> Result<()> {
    let (edits, held_out) = match &config.source {
        EditSource::Dataset(_) => {
            let data = dataset(inputs)?;
            let prompts = annotated(&data.train, config.budget, config.seed);
            let ids: BTreeSet<u64> = prompts.iter().map(|prompt| prompt.id).collect();
            (data.edits.into_iter().filter(|edit| ids.contains(&edit.prompt.id)).collect(), data.held_out_edits)
        }
        EditSource::Simulated(_) => {
            let preferences = inputs.artefact("preferences")?;
            let edit = |file, split| simulate(config, inputs, &preferences.read_jsonl(file)?, split);
            (edit("preferences.jsonl", "train")?, edit("held_out.jsonl", "validation")?)
        }
        EditSource::Chosen(chosen) => {
            let preferences = inputs.artefact("preferences")?;
            let edits = |file| -> Result<Vec<Edit>> {
                let preferences: Vec<Preference> = preferences.read_jsonl(file)?;
                Ok(preferences.iter().filter_map(|preference| closest(preference, chosen.max_share.get())).collect())
            };
            let found = edits("preferences.jsonl")?;
            ensure!(
                !found.is_empty(),
                "in none of the pairs do the responses differ in at most {} of their words; with a larger \
                 `edits.chosen.max_share` more pairs are edits",
                chosen.max_share.get(),
            );
            (found, edits("held_out.jsonl")?)
        }
        EditSource::Annotations(_) => annotated_edits(recipe, inputs)?,
        EditSource::Llm(llm) => {
            // How the endpoint is treated is the run's matter and in no key: the recipe says it.
            let EditSource::Llm(asked) = &recipe.edits else { bail!("expected `[edits.llm]` in the recipe") };
            let template = config.template.as_deref().unwrap_or(prompts::EDIT);
            let desk = Desk::new(&asked.endpoint, "edits.llm", template, workspace, emitter)?;
            let preferences = inputs.artefact("preferences")?;
            let (edits, account) = desk.edit(llm, &preferences.read_jsonl::<Preference>("preferences.jsonl")?)?;
            publish(&account, workspace, emitter)?;
            (edits, desk.edit(llm, &preferences.read_jsonl::<Preference>("held_out.jsonl")?)?.0)
        }
    };
    workspace.write_jsonl("edits.jsonl", &edits)?;
    Ok(workspace.write_jsonl("held_out.jsonl", &held_out)?)
}

/// What people edited of the pairs, and of those that are held out.
fn annotated_edits(recipe: &Recipe, inputs: &Inputs) -> Result<(Vec<Edit>, Vec<Edit>)> {
    let EditSource::Annotations(source) = &recipe.edits else { bail!("expected a recipe with `[edits.annotations]`") };
    let record = annotations::Record::read(&source.path)?;
    let preferences = inputs.artefact("preferences")?;
    let edits = |file| -> Result<Vec<Edit>> { Ok(record.edits(&preferences.read_jsonl::<Preference>(file)?)) };
    let found = edits("preferences.jsonl")?;
    ensure!(
        !found.is_empty(),
        "`{}`: expected edits of responses in the recipe's pairs, found answers to {} items and among them no such edit; \
         `runner annotate` with this recipe asks for them",
        source.path.display(),
        record.decided().len(),
    );
    Ok((found, edits("held_out.jsonl")?))
}

/// The preferred response as the other one's edit, where no larger share of words differs.
fn closest(preference: &Preference, max_share: f64) -> Option<Edit> {
    let (original, edited) = (&preference.rejected.text, &preference.chosen.text);
    let words = word_pieces(original).len().max(word_pieces(edited).len());
    let differ = diff_words(original, edited).distance;
    (differ > 0 && differ as f64 <= max_share * words as f64).then(|| Edit {
        prompt: preference.prompt.clone(),
        original: preference.rejected.clone(),
        edited: preference.chosen.clone(),
        error_spans: Vec::new(),
    })
}

fn simulate(config: &Config, inputs: &Inputs, preferences: &[Preference], split: &str) -> Result<Vec<Edit>> {
    let world = world(inputs)?.context("simulated edits need a world; the dataset is none")?;
    let edit = |(i, preference): (u64, &Preference)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed(config.seed, &format!("{split} editor")));
        rng.set_stream(i);
        world.edit(&mut rng, preference)
    };
    let edits = (0..).zip(preferences).map(edit);
    // Where nothing was noticed, nothing was edited.
    Ok(edits
        .filter(|edit| edit.edited.text != edit.original.text || edit.edited.finished != edit.original.finished)
        .collect())
}
