//! The report's heat maps and sample responses: drawn at random, the seed shown.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::data::world;
use super::super::execute::Inputs;
use super::super::judging::Judged;
use super::super::policy::{Setting, dataset, seed};
use super::super::ppo::{self, reward_of, rewards};
use super::Config;
use super::collect::{Chosen, Loaded};
use crate::compute::Crew;
use crate::data::world::World;
use crate::data::{Preference, Prompt, Response};
use crate::labels::{LabelledEdit, label_edit, spell};
use crate::model::generate::Special;
use crate::model::{Model, Pair};
use crate::report::{Example, ExampleResponse, Heatmap, HeatmapRow};
use crate::reward::Kind;
use crate::text::Tokenizer;

/// Test prompts in the sample browser.
const EXAMPLES: usize = 60;
/// Heat maps of each kind.
const MAPS: usize = 2;

/// Decides which responses are shown; small enough to be read and typed.
pub(super) fn samples_seed() -> u64 {
    seed(0, "report samples") % 10_000
}

/// The cells of the largest budget at the first seed, one a variant.
fn shown<'a>(chosen: &'a [Chosen]) -> Vec<&'a Loaded> {
    let budget = chosen.iter().map(|chosen| chosen.budget).max();
    chosen.iter().filter(|chosen| Some(chosen.budget) == budget).filter_map(|c| c.cells.first().copied()).collect()
}

/// A response to be shown token by token, with what its tokens are.
struct Subject<'a> {
    map: Heatmap,
    prompt: Vec<u32>,
    ids: Vec<u32>,
    /// The cell whose policy responded.
    made_by: Option<&'a Loaded>,
}

/// Held-out originals with their edits, then responses of the variants that win, lose, or were drawn from all.
pub(super) fn heatmaps(config: &Config, inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Heatmap>> {
    // Only what PPO was given has token rewards.
    let mut cells = shown(chosen);
    cells.retain(|cell| config.recipe.is_ppo(&cell.at.variant));
    let Some(first) = cells.first() else { return Ok(Vec::new()) };
    let (setting, tokenizer) = (&config.setting, config.setting.tokenizer(inputs)?);
    let mut rng = ChaCha8Rng::seed_from_u64(samples_seed());
    let mut subjects = edited(config, inputs, first, &tokenizer, &mut rng)?;
    subjects.extend(drawn(config, inputs, &cells, &tokenizer, &mut rng)?);
    let rows: Vec<Pair> = subjects.iter().map(|s| Pair { prompt: &s.prompt, response: &s.ids }).collect();
    let crew = setting.crew();
    let mut all: Vec<Vec<HeatmapRow>> = vec![Vec::new(); subjects.len()];
    for cell in &cells {
        let (policy, models) = (cell.artefact(inputs, "policy")?, rewards(inputs, &format!("{}.", cell.index)));
        let base = base(setting, cell, inputs)?;
        let reward = reward_of(policy, &models, cell.artefact(inputs, "mix").ok(), setting, base.as_ref())?;
        let kind = if matches!(reward.model().kind, Kind::Sequence(_)) { "sequence" } else { "token" };
        let found = crew.install(|| reward.rewards(&rows, tokenizer.pad(), &crew));
        for (rows, values) in all.iter_mut().zip(found) {
            rows.push(HeatmapRow { name: cell.at.variant.clone(), kind: kind.to_owned(), values });
        }
    }
    for (subject, found) in subjects.iter().zip(&mut all) {
        let Some(cell) = subject.made_by else { continue };
        let row = Pair { prompt: &subject.prompt, response: &subject.ids };
        let Some(paid) = found.iter().find(|known| known.name == cell.at.variant) else { continue };
        let values = advantages(config, inputs, cell, row, &paid.values, &tokenizer, &crew)?;
        found.push(HeatmapRow { name: cell.at.variant.clone(), kind: "advantage".to_owned(), values });
    }
    Ok(subjects.into_iter().zip(all).map(|(subject, rows)| Heatmap { rows, ..subject.map }).collect())
}

/// What adapters are built on, if there are any.
fn base(setting: &Setting, cell: &Loaded, inputs: &Inputs) -> Result<Option<Model>> {
    setting.model.lora()?.map(|_| setting.model(cell.artefact(inputs, "reference")?)).transpose()
}

/// What PPO would make of one response's rewards, by the models that training left.
fn advantages(
    config: &Config,
    inputs: &Inputs,
    cell: &Loaded,
    row: Pair,
    rewards: &[f64],
    tokenizer: &Tokenizer,
    crew: &Crew,
) -> Result<Vec<f64>> {
    let setting = &config.setting;
    let (reference, policy) = (cell.artefact(inputs, "reference")?, cell.artefact(inputs, "policy")?);
    let reference = setting.model(reference)?;
    let value = setting.headed(policy, ppo::VALUE, 1, Some(&reference))?;
    let models = [setting.trained(policy, Some(&reference))?, reference, value];
    let ppo: ppo::Config = serde_json::from_value(policy.manifest.config.clone()).context("config of a policy")?;
    let special = Special { pad: tokenizer.pad(), eos: tokenizer.eos() };
    Ok(crew.install(|| crate::ppo::advantages(&models, row, rewards, (&ppo.ppo, ppo.kl_coef), special)))
}

/// Held-out originals of edits.
fn edited<'a>(
    config: &Config,
    inputs: &Inputs,
    cell: &Loaded,
    tokenizer: &Tokenizer,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Subject<'a>>> {
    let mut edits: Vec<LabelledEdit> = cell.artefact(inputs, "labels")?.read_jsonl("held_out.jsonl")?;
    edits.shuffle(rng);
    edits.truncate(MAPS);
    let subject = |edit: LabelledEdit| Subject {
        map: Heatmap {
            drawn_from: "edit".to_owned(),
            budget: cell.at.budget,
            seed: cell.at.seed,
            prompt: edit.prompt.text.clone(),
            tokens: tokenizer.pieces(&edit.original_ids),
            labels: spell(&edit.original_labels),
            edited: Some(tokenizer.decode(&edit.edited_ids)),
            ..Heatmap::default()
        },
        prompt: tokenizer.encode_prompt(&edit.prompt.text, config.setting.max_prompt_tokens),
        ids: edit.original_ids,
        made_by: None,
    };
    Ok(edits.into_iter().map(subject).collect())
}

/// Test responses of all variants: some that win against the reference, some that lose, some of all.
fn drawn<'a>(
    config: &Config,
    inputs: &Inputs,
    cells: &[&'a Loaded],
    tokenizer: &Tokenizer,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Subject<'a>>> {
    let (prompts, world) = (dataset(inputs)?.test, world(inputs)?);
    let mut pool: Vec<(&Loaded, usize, f64)> = Vec::new();
    for cell in cells {
        pool.extend(cell.kept.iter().copied().zip(cell.outcomes()).map(|(i, outcome)| (*cell, i, outcome)));
    }
    pool.shuffle(rng);
    let mut subjects = Vec::new();
    let mut taken: Vec<(String, usize)> = Vec::new();
    for (drawn_from, lowest, highest) in [("win", 0.75, 1.0), ("loss", 0.0, 0.25), ("random", 0.0, 1.0)] {
        let mut left = MAPS;
        for &(cell, i, outcome) in pool.iter().filter(|(.., outcome)| (lowest..=highest).contains(outcome)) {
            let name = (cell.at.variant.clone(), i);
            if left == 0 || taken.contains(&name) {
                continue;
            }
            let responses: Vec<Response> = cell.artefact(inputs, "responses")?.read_jsonl("test.jsonl")?;
            let Some((prompt, response)) = prompts.get(i).zip(responses.get(i)) else { continue };
            if response.ids.is_empty() {
                continue;
            }
            let edit = world.as_ref().map(|world| repaired(config, world, prompt, response, tokenizer, rng));
            let (labels, edited) = edit.unzip();
            subjects.push(Subject {
                map: Heatmap {
                    drawn_from: drawn_from.to_owned(),
                    variant: Some(cell.at.variant.clone()),
                    budget: cell.at.budget,
                    seed: cell.at.seed,
                    outcome: Some(outcome),
                    prompt: prompt.text.clone(),
                    tokens: tokenizer.pieces(&response.ids),
                    labels: labels.unwrap_or_default(),
                    edited,
                    rows: Vec::new(),
                },
                prompt: tokenizer.encode_prompt(&prompt.text, config.setting.max_prompt_tokens),
                ids: response.ids.clone(),
                made_by: Some(cell),
            });
            taken.push(name);
            left -= 1;
        }
    }
    Ok(subjects)
}

/// What a world's editor who notices every fault does to a response: the labels of its tokens, and the text after.
fn repaired(
    config: &Config,
    world: &World,
    prompt: &Prompt,
    response: &Response,
    tokenizer: &Tokenizer,
    rng: &mut ChaCha8Rng,
) -> (String, String) {
    let preference = Preference {
        prompt: prompt.clone(),
        chosen: response.clone(),
        rejected: response.clone(),
        noticed: world.faults(&prompt.facts, response),
    };
    let edit = world.edit(rng, &preference);
    let labelled = label_edit(&edit, tokenizer, config.recipe.labels.unit);
    (spell(&labelled.original_labels), edit.edited.text)
}

/// How the policy's response fared shown first and shown second, where the judge was asked in both orders or does not see one.
fn orders(judged: &Judged, prompt: usize) -> Option<[f64; 2]> {
    if let Some((ours, theirs)) = judged.verdicts(prompt) {
        return Some([ours.against(theirs), 1.0 - theirs.against(ours)]);
    }
    let votes = &judged.ballots.get(prompt)?.0;
    let of = |first: bool| votes.iter().find(|vote| vote.first == Some(first))?.preference;
    Some([of(true)?, of(false)?])
}

/// Test prompts drawn at random, with the answers of the reference and of every variant at the largest budget.
pub(super) fn examples(inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Example>> {
    let cells = shown(chosen);
    let Some(first) = cells.first() else { return Ok(Vec::new()) };
    let prompts = dataset(inputs)?.test;
    let reference: Vec<Response> = first.artefact(inputs, "reference_responses")?.read_jsonl("test.jsonl")?;
    let mut answers: Vec<(&Loaded, Vec<Response>)> = Vec::new();
    for cell in &cells {
        answers.push((cell, cell.artefact(inputs, "responses")?.read_jsonl("test.jsonl")?));
    }
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(samples_seed()));
    order.truncate(EXAMPLES);
    let example = |i: usize| {
        let mut responses = vec![ExampleResponse {
            name: "reference".to_owned(),
            text: reference[i].text.clone(),
            faults: first.judgements.judged.reference.get(i).and_then(|verdict| verdict.faults.clone()),
            ..ExampleResponse::default()
        }];
        responses.extend(answers.iter().map(|(cell, texts)| {
            let judged = &cell.judgements.judged;
            ExampleResponse {
                name: cell.at.variant.clone(),
                text: texts[i].text.clone(),
                faults: judged.test.get(i).and_then(|verdict| verdict.faults.clone()),
                outcome: judged.outcomes()[i],
                orders: orders(judged, i),
            }
        }));
        Example { prompt: prompts[i].text.clone(), budget: first.at.budget, seed: first.at.seed, responses }
    };
    Ok(order.into_iter().map(example).collect())
}
