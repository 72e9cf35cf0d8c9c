//! Stage `responses`: what a policy says to the held-out prompts, and how far it is from the reference.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::ppo::{reward_of, rewards};
use crate::compute::{Crew, Place};
use crate::data::{Prompt, Response};
use crate::events::Emitter;
use crate::model::{Batch, Model, Pair, bucket};
use crate::ppo::KlEstimator;
use crate::ppo::watch::Habits;
use crate::report::Divergence;
use crate::reward::score::ragged;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 5;

/// Validation prompts to which the reference answers many times, and how often: for best-of-n curves, where an oracle can be
/// asked what they are worth.
pub(super) const BEST_OF: (usize, usize) = (32, 64);

/// Samples of the reference on training prompts, from which rewards are calibrated.
pub(super) const CALIBRATION_PROMPTS: usize = 512;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    /// Whether this is the reference itself.
    pub(super) reference: bool,
    pub(super) seed: u64,
    pub(super) setting: Setting,
}

/// Means over the test responses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) habits: Habits,
    /// None of the reference itself.
    pub(super) kl: Option<Divergence>,
    pub(super) mean_reward: Option<f64>,
    /// Of the best of n samples: the most that its KL to the reference can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kl_bound: Option<f64>,
}

impl Summary {
    /// Distance from the reference in nats a response: measured, or where nothing was trained, its bound.
    pub(super) fn kl_nats(&self) -> Option<f64> {
        self.kl.map(|kl| kl.sequence_k1).or(self.kl_bound)
    }
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, emitter: &Emitter) -> Result<()> {
    let setting = &config.setting;
    let data = dataset(inputs)?;
    let mine = inputs.artefact("policy")?;
    let (reference, policy) = if config.reference {
        (None, setting.model(mine)?)
    } else {
        let reference = setting.model(inputs.artefact("reference")?)?;
        let policy = setting.trained(mine, Some(&reference))?;
        (Some(reference), policy)
    };
    let policy = setting.policy(inputs, policy)?;
    let crew = setting.crew();
    let who = if config.reference { "reference" } else { "policy" };
    let respond = |prompts: &[Prompt], split: &str| {
        let done = |n| emitter.progress(n, prompts.len(), "responses");
        crew.install(|| policy.respond(prompts, seed(config.seed, &format!("{who} {split} responses")), &crew, &done))
    };
    let test = respond(&data.test, "test");
    workspace.write_jsonl("test.jsonl", &test)?;
    let habits = Habits::of(test.iter().map(|response| response.ids.as_slice()));
    let summary = if let Some(reference) = reference {
        let prompts: Vec<Vec<u32>> = data.test.iter().map(|prompt| policy.prompt_ids(&prompt.text)).collect();
        let rows: Vec<Pair> = pairs(&prompts, &test);
        let pad = policy.special().pad;
        let ratios = crew.install(|| log_ratios(&policy.model, &reference, &rows, pad, &crew));
        let models = rewards(inputs, "");
        // A policy that learned from pairs has no reward.
        let mean_reward = if models.is_empty() {
            None
        } else {
            let reward = reward_of(mine, &models, inputs.find("mix"), setting, Some(&reference))?;
            let returns = crew.install(|| reward.returns(&rows, pad, &crew));
            Some(returns.iter().sum::<f64>() / returns.len().max(1) as f64)
        };
        Summary { habits, kl: Some(divergence(&ratios)), mean_reward, kl_bound: None }
    } else {
        workspace.write_jsonl("validation.jsonl", respond(&data.validation, "validation"))?;
        let calibration = &data.train[..data.train.len().min(CALIBRATION_PROMPTS)];
        workspace.write_jsonl("calibration.jsonl", respond(calibration, "calibration"))?;
        let (prompts, samples) = if world(inputs)?.is_some() { BEST_OF } else { (0, BEST_OF.1) };
        let repeated: Vec<Prompt> = data
            .validation
            .iter()
            .take(prompts)
            .flat_map(|prompt| std::iter::repeat_n(prompt.clone(), samples))
            .collect();
        let answers = respond(&repeated, "best-of-n");
        workspace.write_jsonl("best_of.jsonl", answers.chunks(samples))?;
        Summary { habits, ..Summary::default() }
    };
    Ok(workspace.write_json("summary.json", &summary)?)
}

/// Prompts and responses side by side.
pub(super) fn pairs<'a>(prompts: &'a [Vec<u32>], responses: &'a [Response]) -> Vec<Pair<'a>> {
    prompts.iter().zip(responses).map(|(prompt, response)| Pair { prompt, response: &response.ids }).collect()
}

/// `log pi - log pi_ref` of every response token.
fn log_ratios(policy: &Model, reference: &Model, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
    let replicas = |place: Place| (policy.on(place), reference.on(place));
    bucket::map(rows, crew, replicas, |(policy, reference), rows| {
        let batch = Batch::new(rows, pad, &policy.device());
        ragged(&(policy.log_probs(&batch, 1.0) - reference.log_probs(&batch, 1.0)), &batch.lengths)
    })
}

/// The KL that log-ratios of fresh samples estimate, by response and by token [KL].
fn divergence(ratios: &[Vec<f64>]) -> Divergence {
    let sum = |estimator: KlEstimator| ratios.iter().flatten().map(|&logr| estimator.estimate(logr)).sum::<f64>();
    let (k1, k3) = (sum(KlEstimator::K1), sum(KlEstimator::K3));
    let (responses, tokens) = (ratios.len().max(1) as f64, ratios.iter().map(Vec::len).sum::<usize>().max(1) as f64);
    Divergence {
        sequence_k1: k1 / responses,
        sequence_k3: k3 / responses,
        token_k1: k1 / tokens,
        token_k3: k3 / tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_once_in_the_mean_over_tokens_and_a_response_once_in_the_other() {
        let found = divergence(&[vec![0.5, -0.1, 0.2], vec![1.0]]);
        let k3 = |x: f64| (-x).exp() - 1.0 + x;
        let sum = k3(0.5) + k3(-0.1) + k3(0.2) + k3(1.0);
        let expected = [1.6 / 2.0, sum / 2.0, 1.6 / 4.0, sum / 4.0];
        let found = [found.sequence_k1, found.sequence_k3, found.token_k1, found.token_k3];
        assert!(
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12),
            "expected {expected:?}, found {found:?}"
        );
        assert_eq!(divergence(&[]), Divergence::default());
    }
}
