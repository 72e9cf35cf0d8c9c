//! Stage `judgements`: what the primary judge says of every response, the reference's beside the policy's.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::judging::{Bench, Judged, Needs};
use super::policy::{Setting, dataset, response};
use crate::data::Response;
use crate::events::Emitter;
use crate::judge::Judge;
use crate::ppo::train::Snapshot;
use crate::ppo::watch::Habits;
use crate::recipe::Recipe;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 4;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// As keys know it.
    pub(super) judge: Judge,
    pub(super) setting: Setting,
}

/// A policy's responses, judged against the reference's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Judgements {
    /// On the test prompts.
    #[serde(flatten)]
    pub(super) judged: Judged,
    /// On the validation prompts, at every step that was sampled.
    pub(super) curve: Vec<Point>,
}

/// One point of a learning curve.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) step: usize,
    /// None where the judge was not asked, or could not say.
    pub(super) win_rate: Option<f64>,
    /// Mean score, where the judge gives scores.
    pub(super) score: Option<f64>,
    pub(super) habits: Habits,
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let data = dataset(inputs)?;
    let needs = Needs { recipe, inputs, model: "judge", reference: "reference", workspace };
    let bench = Bench::new(&config.judge, &needs, setting, &tokenizer, emitter)?;
    let reference = inputs.artefact("reference_responses")?;
    let snapshots: Vec<Snapshot> = inputs.artefact("policy")?.read_jsonl("validation.jsonl")?;
    let theirs: Vec<Response> = reference.read_jsonl("validation.jsonl")?;
    let last = snapshots.last().map(|snapshot| snapshot.step);
    let (mut curve, mut all) = (Vec::new(), Vec::new());
    for Snapshot { step, responses } in snapshots {
        let habits = Habits::of(responses.iter().map(Vec::as_slice));
        let ours: Vec<Response> = responses.into_iter().map(|ids| response(&tokenizer, ids)).collect();
        // A judge of pairs costs requests: it is asked about the policy that training ended with.
        let asked = config.judge.scores() || (config.judge.can_be_asked() && Some(step) == last);
        let judged = if asked { bench.judge(&data.validation, &ours, &theirs)? } else { Judged::default() };
        let outcomes: Vec<f64> = judged.outcomes().into_iter().flatten().collect();
        let win_rate = mean(&outcomes);
        let score = mean(&judged.test.iter().map(|verdict| verdict.score).collect::<Vec<_>>());
        emitter.metrics(step, win_rate.map(|rate| ("win_rate", rate)));
        curve.push(Point { step, win_rate, score, habits });
        all.push(judged);
    }
    let ours: Vec<Response> = inputs.artefact("responses")?.read_jsonl("test.jsonl")?;
    let judged = bench.judge(&data.test, &ours, &reference.read_jsonl::<Response>("test.jsonl")?)?;
    if let Some(usage) = bench.usage(&all.iter().chain([&judged]).collect::<Vec<_>>()) {
        workspace.write_json("usage.json", &usage)?;
    }
    Ok(workspace.write_json("judgements.json", &Judgements { judged, curve })?)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
