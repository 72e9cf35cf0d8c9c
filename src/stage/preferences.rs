//! Stage `preferences`: pairs of responses, one preferred.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::annotator::{Desk, prefer, publish};
use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use crate::data::{Preference, Prompt, Response};
use crate::events::Emitter;
use crate::recipe::{PreferenceSource, Recipe, SimulatedPreferences};
use crate::store::Workspace;

pub(super) const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) source: PreferenceSource,
    pub(super) budget: usize,
    /// Annotated prompts of earlier rounds; a later round leaves held-out prompts alone, so that the models of all rounds
    /// are examined on the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) skip: usize,
    pub(super) seed: u64,
    pub(super) setting: Setting,
    /// The texts of the questions of a pool of language models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) templates: Vec<String>,
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
) -> Result<()> {
    let data = dataset(inputs)?;
    let annotated = annotated(&data.train, config.skip + config.budget, config.seed).split_off(config.skip);
    let held_out = if config.skip == 0 { data.validation.as_slice() } else { &[] };
    let (preferences, held_out) = match &config.source {
        PreferenceSource::Dataset(_) => {
            let ids: BTreeSet<u64> = annotated.iter().map(|prompt| prompt.id).collect();
            let mine = data.preferences.into_iter().filter(|preference| ids.contains(&preference.prompt.id));
            (mine.collect(), data.held_out_preferences)
        }
        PreferenceSource::Simulated(annotator) => {
            let simulate =
                |prompts: &[Prompt], split: &str| simulate(config, annotator, prompts, split, inputs, emitter);
            (simulate(&annotated, "train")?, simulate(held_out, "validation")?)
        }
        PreferenceSource::Llm(llm) => {
            let ask = |prompts: &[Prompt], split: &str| {
                let (a, b) = sides(config, prompts, split, inputs, emitter)?;
                let pairs = prompts.iter().zip(a).zip(b).map(|((prompt, a), b)| (prompt, a, b));
                // Two equal samples say nothing about what is better.
                let pairs = pairs.filter(|(_, a, b)| a.ids != b.ids).collect();
                let desks = desks(config, recipe, workspace, emitter)?;
                prefer(llm, desks, pairs, seed(config.seed, &format!("{split} annotator")))
            };
            let (preferences, account) = ask(&annotated, "train")?;
            ensure!(
                !preferences.is_empty() || account.asked == 0,
                "none of {} pairs has a usable preference; answers were rejected as: {}",
                account.asked,
                account.rejections.keys().cloned().collect::<Vec<_>>().join(", "),
            );
            publish(&account, workspace, emitter)?;
            (preferences, ask(held_out, "validation")?.0)
        }
    };
    workspace.write_jsonl("preferences.jsonl", &preferences)?;
    Ok(workspace.write_jsonl("held_out.jsonl", &held_out)?)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The prompts that are annotated: a smaller budget is a prefix of a larger one.
pub(super) fn annotated(train: &[Prompt], budget: usize, run: u64) -> Vec<Prompt> {
    let mut prompts = train.to_vec();
    prompts.shuffle(&mut ChaCha8Rng::seed_from_u64(seed(run, "annotated prompts")));
    prompts.truncate(budget);
    prompts
}

fn simulate(
    config: &Config,
    annotator: &SimulatedPreferences,
    prompts: &[Prompt],
    split: &str,
    inputs: &Inputs,
    emitter: &Emitter,
) -> Result<Vec<Preference>> {
    let world = world(inputs)?.context("simulated preferences need a world; the dataset is none")?;
    let (a, b) = sides(config, prompts, split, inputs, emitter)?;
    let annotate = |(i, ((prompt, a), b)): (u64, ((&Prompt, _), _))| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed(config.seed, &format!("{split} annotator")));
        rng.set_stream(i);
        world.annotate(&mut rng, prompt, a, b, annotator.notice_rate.get(), annotator.label_noise.get())
    };
    let preferences = (0..).zip(prompts.iter().zip(a).zip(b)).map(annotate);
    // Two equal samples say nothing about what is better.
    Ok(preferences.filter(|preference| preference.chosen.ids != preference.rejected.ids).collect())
}

/// Two samples of the policy to each prompt.
fn sides(
    config: &Config,
    prompts: &[Prompt],
    split: &str,
    inputs: &Inputs,
    emitter: &Emitter,
) -> Result<(Vec<Response>, Vec<Response>)> {
    let policy = config.setting.policy(inputs, config.setting.sampler(inputs.artefact("policy")?, inputs)?)?;
    let crew = config.setting.crew();
    let mut sides = Vec::new();
    for (i, side) in ["first", "second"].into_iter().enumerate() {
        let done = |n: usize| emitter.progress(i * prompts.len() + n, 2 * prompts.len(), "responses");
        let seed = seed(config.seed, &format!("{split} {side} samples"));
        sides.push(crew.install(|| policy.respond(prompts, seed, &crew, &done)));
    }
    let (b, a) = (sides.pop().unwrap_or_default(), sides.pop().unwrap_or_default());
    Ok((a, b))
}

/// The pool, treated as the recipe of this run says.
fn desks<'a>(
    config: &Config,
    recipe: &Recipe,
    workspace: &Workspace,
    emitter: &'a Emitter<'a>,
) -> Result<Vec<Desk<'a>>> {
    let PreferenceSource::Llm(asked) = &recipe.preferences else { bail!("expected `[preferences.llm]` in the recipe") };
    let pool = asked.annotators.iter().zip(&config.templates);
    pool.map(|(annotator, template)| Desk::new(&annotator.endpoint, "preferences.llm", template, workspace, emitter))
        .collect()
}
