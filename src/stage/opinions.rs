//! Stage `opinions`: what a further judge says of the responses of one variant at one budget, at the KL coefficient that the
//! primary judge's verdicts choose.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::judgements::Judgements;
use super::judging::{Bench, Judged, Needs, best_coefficient};
use super::policy::{Setting, dataset};
use crate::data::Response;
use crate::endpoint::Usage;
use crate::events::Emitter;
use crate::judge::Judge;
use crate::recipe::Recipe;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// As keys know it.
    pub(super) judge: Judge,
    /// The runs to choose from; the inputs' roles begin with their index.
    pub(super) runs: Vec<Run>,
    pub(super) setting: Setting,
}

/// One trained policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) kl_coef: f64,
}

/// What is said of one seed's responses to the test prompts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Opinion {
    pub(super) seed: u64,
    pub(super) kl_coef: f64,
    #[serde(flatten)]
    pub(super) judged: Judged,
}

pub(super) fn run(
    config: &Config,
    recipe: &Recipe,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
) -> Result<()> {
    let tokenizer = config.setting.tokenizer(inputs)?;
    let prompts = dataset(inputs)?.test;
    let mut rates = Vec::new();
    for (i, run) in config.runs.iter().enumerate() {
        let judgements: Judgements = inputs.artefact(&format!("{i}.judgements"))?.read_json("judgements.json")?;
        rates.push((run.kl_coef, judgements.curve.last().and_then(|point| point.win_rate)));
    }
    let best = best_coefficient(&rates).context("no run to choose from")?;
    let (mut opinions, mut usage) = (Vec::new(), None::<Usage>);
    for (i, run) in config.runs.iter().enumerate().filter(|(_, run)| run.kl_coef.to_bits() == best.to_bits()) {
        let model = format!("{i}.judge");
        let reference = format!("{i}.reference");
        let needs = Needs { recipe, inputs, model: &model, reference: &reference, workspace };
        let bench = Bench::new(&config.judge, &needs, &config.setting, &tokenizer, emitter)?;
        let read = |role: &str| -> Result<Vec<Response>> {
            Ok(inputs.artefact(&format!("{i}.{role}"))?.read_jsonl("test.jsonl")?)
        };
        let judged = bench.judge(&prompts, &read("responses")?, &read("reference_responses")?)?;
        if let Some(more) = bench.usage(&[&judged]) {
            *usage.get_or_insert_default() += more;
        }
        opinions.push(Opinion { seed: run.seed, kl_coef: run.kl_coef, judged });
    }
    if let Some(usage) = usage {
        workspace.write_json("usage.json", &usage)?;
    }
    Ok(workspace.write_json("opinions.json", &opinions)?)
}
