//! The report's heat maps and sample responses: the first ones of the first seed, not hand-picked.

use anyhow::Result;

use super::super::execute::Inputs;
use super::super::policy::dataset;
use super::super::ppo::reward_of;
use super::Config;
use super::collect::Chosen;
use crate::data::Response;
use crate::labels::{LabelledEdit, spell};
use crate::model::Pair;
use crate::report::{Example, ExampleResponse, Heatmap, HeatmapRow};

/// How many of each a report shows.
const SHOWN: usize = 4;

/// Held-out originals under every variant's reward, as PPO sees it.
pub(super) fn heatmaps(config: &Config, inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Heatmap>> {
    let Some(budget) = chosen.last().map(|chosen| chosen.budget) else { return Ok(Vec::new()) };
    let here: Vec<&Chosen> = chosen.iter().filter(|chosen| chosen.budget == budget).collect();
    let (setting, tokenizer, crew) = (&config.setting, config.setting.tokenizer(inputs)?, config.setting.crew());
    let Some(first) = here.first().and_then(|chosen| chosen.cells.first()) else { return Ok(Vec::new()) };
    let edits: Vec<LabelledEdit> = first.artefact(inputs, "labels")?.read_jsonl("held_out.jsonl")?;
    let edits = &edits[..edits.len().min(SHOWN)];
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    let prompts: Vec<Vec<u32>> =
        edits.iter().map(|edit| tokenizer.encode_prompt(&edit.prompt.text, setting.max_prompt_tokens)).collect();
    let rows: Vec<Pair> =
        prompts.iter().zip(edits).map(|(prompt, edit)| Pair { prompt, response: &edit.original_ids }).collect();
    let mut maps: Vec<Heatmap> = edits
        .iter()
        .map(|edit| Heatmap {
            prompt: edit.prompt.text.clone(),
            tokens: tokenizer.pieces(&edit.original_ids),
            labels: spell(&edit.original_labels),
            rows: Vec::new(),
        })
        .collect();
    for chosen in here {
        let Some(cell) = chosen.cells.first() else { continue };
        let (policy, reward) = (cell.artefact(inputs, "policy")?, cell.artefact(inputs, "reward")?);
        let reward = reward_of(policy, reward, cell.artefact(inputs, "mix").ok(), setting)?;
        let rewards = crew.install(|| reward.rewards(&rows, tokenizer.pad(), &crew));
        for (map, values) in maps.iter_mut().zip(rewards) {
            map.rows.push(HeatmapRow { name: chosen.variant.clone(), values });
        }
    }
    Ok(maps)
}

/// The first test prompts with the answers of the reference and of every variant at the largest budget.
pub(super) fn examples(inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Example>> {
    let Some(budget) = chosen.last().map(|chosen| chosen.budget) else { return Ok(Vec::new()) };
    let cells: Vec<_> =
        chosen.iter().filter(|chosen| chosen.budget == budget).filter_map(|chosen| chosen.cells.first()).collect();
    let Some(first) = cells.first() else { return Ok(Vec::new()) };
    let prompts = dataset(inputs)?.test;
    let reference: Vec<Response> = first.artefact(inputs, "reference_responses")?.read_jsonl("test.jsonl")?;
    let mut answers = Vec::new();
    for cell in &cells {
        let responses: Vec<Response> = cell.artefact(inputs, "responses")?.read_jsonl("test.jsonl")?;
        answers.push((cell, responses));
    }
    let example = |(i, prompt): (usize, &crate::data::Prompt)| {
        let theirs = &first.judgements.reference[i];
        let mut responses = vec![ExampleResponse {
            name: "reference".to_owned(),
            text: reference[i].text.clone(),
            faults: theirs.faults.clone(),
            outcome: None,
        }];
        responses.extend(answers.iter().map(|(cell, texts)| ExampleResponse {
            name: cell.at.variant.clone(),
            text: texts[i].text.clone(),
            faults: cell.judgements.test[i].faults.clone(),
            outcome: Some(cell.judgements.test[i].against(theirs)),
        }));
        Example { prompt: prompt.text.clone(), budget, seed: first.at.seed, responses }
    };
    Ok(prompts.iter().enumerate().take(SHOWN).map(example).collect())
}
