//! Stage `judgements`: a score for every response, the reference's beside the policy's.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, dataset, response};
use super::responses::pairs;
use super::reward;
use crate::data::world::World;
use crate::data::{Prompt, Response};
use crate::events::Emitter;
use crate::judge::{self, Verdict};
use crate::ppo::train::Snapshot;
use crate::ppo::watch::Habits;
use crate::store::Workspace;
use crate::text::Tokenizer;

pub(super) const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) judge: judge::Config,
    pub(super) setting: Setting,
}

/// A policy's responses, judged against the reference's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Judgements {
    /// On the test prompts.
    pub(super) test: Vec<Verdict>,
    /// The reference on the test prompts.
    pub(super) reference: Vec<Verdict>,
    /// On the validation prompts, at every step that was sampled.
    pub(super) curve: Vec<Point>,
}

/// One point of a learning curve.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) step: usize,
    pub(super) win_rate: f64,
    /// Mean score.
    pub(super) score: f64,
    pub(super) habits: Habits,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, emitter: &Emitter) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let data = dataset(inputs)?;
    let judge = Judge::new(config, inputs, &tokenizer)?;
    let reference = inputs.artefact("reference_responses")?;
    let snapshots: Vec<Snapshot> = inputs.artefact("policy")?.read_jsonl("validation.jsonl")?;
    let baseline = judge.verdicts(&data.validation, &reference.read_jsonl("validation.jsonl")?);
    let curve = snapshots.into_iter().map(|snapshot| {
        let habits = Habits::of(snapshot.responses.iter().map(Vec::as_slice));
        let responses: Vec<Response> = snapshot.responses.into_iter().map(|ids| response(&tokenizer, ids)).collect();
        let verdicts = judge.verdicts(&data.validation, &responses);
        let mean = |sum: f64| sum / verdicts.len().max(1) as f64;
        let win_rate = mean(verdicts.iter().zip(&baseline).map(|(ours, theirs)| ours.against(theirs)).sum());
        let score = mean(verdicts.iter().map(|verdict| verdict.score).sum());
        emitter.metrics(snapshot.step, [("win_rate", win_rate)]);
        Point { step: snapshot.step, win_rate, score, habits }
    });
    let curve = curve.collect();
    let judgements = Judgements {
        test: judge.verdicts(&data.test, &inputs.artefact("responses")?.read_jsonl("test.jsonl")?),
        reference: judge.verdicts(&data.test, &reference.read_jsonl("test.jsonl")?),
        curve,
    };
    Ok(workspace.write_json("judgements.json", &judgements)?)
}

/// The recipe's judge with what it needs.
enum Judge<'a> {
    Oracle(Box<World>),
    RewardModel { model: Box<crate::reward::score::RewardModel>, tokenizer: &'a Tokenizer, setting: &'a Setting },
}

impl<'a> Judge<'a> {
    fn new(config: &'a Config, inputs: &Inputs, tokenizer: &'a Tokenizer) -> Result<Self> {
        Ok(match config.judge {
            judge::Config::Oracle(_) => {
                Self::Oracle(Box::new(world(inputs)?.context("an oracle needs a world; the dataset is none")?))
            }
            judge::Config::RewardModel(_) => {
                let model = Box::new(reward::load(inputs.artefact("judge")?, &config.setting)?);
                Self::RewardModel { model, tokenizer, setting: &config.setting }
            }
        })
    }

    fn verdicts(&self, prompts: &[Prompt], responses: &[Response]) -> Vec<Verdict> {
        match self {
            Self::Oracle(world) => prompts
                .iter()
                .zip(responses)
                .map(|(prompt, response)| Verdict::of_faults(&world.faults(&prompt.facts, response)))
                .collect(),
            Self::RewardModel { model, tokenizer, setting } => {
                let ids: Vec<Vec<u32>> = prompts
                    .iter()
                    .map(|prompt| tokenizer.encode_prompt(&prompt.text, setting.max_prompt_tokens))
                    .collect();
                let crew = setting.crew();
                let scores = crew.install(|| model.scores(&pairs(&ids, responses), tokenizer.pad(), &crew));
                scores.into_iter().map(Verdict::of_score).collect()
            }
        }
    }
}
