//! Stage `spans`: responses cut into spans, and which of them have an error of one category.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, dataset};
use super::preferences::annotated;
use crate::data::world::World;
use crate::data::{Edit, MarkedResponse, Preference, Prompt};
use crate::labels::spans::{Category, MarkedTokens, Segments, mark_tokens};
use crate::store::Workspace;

pub(super) const VERSION: u32 = 1;

/// The file of a result that says where spans end.
pub(super) const SEGMENTS: &str = "segments.json";

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// With a weight of one, which is the reward's matter.
    pub(super) category: Category,
    pub(super) budget: usize,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    let (setting, category) = (&config.setting, &config.category);
    let tokenizer = setting.tokenizer(inputs)?;
    let segments = Segments::of(category.segment, &tokenizer);
    let [train, held_out] = match world(inputs)? {
        Some(world) => {
            let preferences = inputs.artefact("preferences")?;
            let mark = |file| -> Result<Vec<MarkedResponse>> { Ok(simulate(&world, &preferences.read_jsonl(file)?)) };
            [mark("preferences.jsonl")?, mark("held_out.jsonl")?]
        }
        None => of_dataset(config, inputs)?,
    };
    for (file, marked) in [("spans.jsonl", train), ("held_out.jsonl", held_out)] {
        let cut = |marked| mark_tokens(marked, category, &segments, &tokenizer, setting.max_response_tokens);
        let tokens: Vec<MarkedTokens> = marked.iter().filter_map(cut).filter(|row| !row.ids.is_empty()).collect();
        workspace.write_jsonl(file, &tokens)?;
    }
    Ok(workspace.write_json(SEGMENTS, &segments)?)
}

fn simulate(world: &World, preferences: &[Preference]) -> Vec<MarkedResponse> {
    let mark = |preference: &Preference| MarkedResponse {
        prompt: preference.prompt.clone(),
        response: preference.rejected.clone(),
        error_spans: world.mark(preference),
    };
    preferences.iter().map(mark).collect()
}

/// What people marked: of annotated prompts, and of those that are held out.
fn of_dataset(config: &Config, inputs: &Inputs) -> Result<[Vec<MarkedResponse>; 2]> {
    let data = dataset(inputs)?;
    let records: Vec<Edit> = inputs.artefact("data")?.read_jsonl("corrections.jsonl")?;
    let known: BTreeSet<&str> =
        records.iter().flat_map(|record| &record.error_spans).map(|error| error.kind.as_str()).collect();
    for wanted in &config.category.errors {
        ensure!(
            known.contains(wanted.as_str()),
            "category `{}` of `[labels.spans]`: expected errors that the dataset knows ({}), found `{wanted}`",
            config.category.name,
            known.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", "),
        );
    }
    let ids = |prompts: &[Prompt]| prompts.iter().map(|prompt| prompt.id).collect::<BTreeSet<u64>>();
    let train = ids(&annotated(&data.train, config.budget, config.seed));
    let held_out = ids(&[data.validation, data.test].concat());
    let of = |ids: BTreeSet<u64>| {
        let mine = records.iter().filter(|record| ids.contains(&record.prompt.id));
        let marked = mine.map(|record| MarkedResponse {
            prompt: record.prompt.clone(),
            response: record.original.clone(),
            error_spans: record.error_spans.clone(),
        });
        marked.collect()
    };
    Ok([of(train), of(held_out)])
}
