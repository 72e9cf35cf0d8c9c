//! An iteration's responses with everything that the update needs: sampled, scored, shaped, their advantages estimated.

use burn::tensor::Tensor;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Config;
use super::gae::{ADVANTAGES, gae, whiten};
use super::train::Task;
use crate::compute::Crew;
use crate::model::generate::{Sampling, Special, sample};
use crate::model::{Batch, Model, Pair, bucket};
use crate::reward::score::ragged;

/// One sampled response with everything that the update needs; all numbers one a response token.
pub(super) struct Row<'a> {
    pub(super) prompt: &'a [u32],
    pub(super) response: Vec<u32>,
    pub(super) log_probs: Vec<f64>,
    pub(super) reference: Vec<f64>,
    pub(super) values: Vec<f64>,
    pub(super) rewards: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    pub(super) returns: Vec<f64>,
}

impl<'a> Row<'a> {
    fn new(
        prompt: &'a [u32],
        response: Vec<u32>,
        Pass { log_probs, reference, values }: Pass,
        rewards: Vec<f64>,
        kl_coef: f64,
        config: &Config,
    ) -> Self {
        let shaped = config.kl_estimator.penalise(&rewards, &log_probs, &reference, kl_coef);
        let (advantages, returns) = gae(&shaped, &values, config.gamma.get(), config.gae_lambda.get());
        Row { prompt, response, log_probs, reference, values, rewards, advantages, returns }
    }

    pub(super) fn pair(&self) -> Pair<'_> {
        Pair { prompt: self.prompt, response: &self.response }
    }
}

/// An iteration's responses.
pub(super) struct Rollout<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) finished: usize,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        policy: &Model,
        value: &Model,
        reference: &Model,
        task: &Task<'a>,
        kl_coef: f64,
        step: usize,
        crew: &Crew,
    ) -> Self {
        let (prompts, responses) = rolled_out(policy, task, step, crew);
        let pairs: Vec<Pair> =
            prompts.iter().zip(&responses).map(|(prompt, response)| Pair { prompt, response }).collect();
        let models = [policy, reference, value];
        let passes = passes(models, &pairs, task.config.temperature.get(), task.special.pad, crew);
        let rewards = task.reward.rewards(&pairs, task.special.pad, crew);
        let finished = |response: &[u32]| response.last() == Some(&task.special.eos);
        let rows = prompts.into_iter().zip(&responses).zip(passes).zip(rewards);
        let mut rows: Vec<Row> = rows
            .map(|(((prompt, response), pass), rewards)| {
                let rewards = paid(&rewards, finished(response), task.config);
                Row::new(prompt, response.clone(), pass, rewards, kl_coef, task.config)
            })
            .collect();
        if task.config.whiten_advantages {
            let mut advantages: Vec<Vec<f64>> =
                rows.iter_mut().map(|row| std::mem::take(&mut row.advantages)).collect();
            whiten(&mut advantages, ADVANTAGES);
            for (row, advantages) in rows.iter_mut().zip(advantages) {
                row.advantages = advantages;
            }
        }
        Self { rows, finished: responses.iter().filter(|response| finished(response)).count() }
    }

    /// Mean over responses of the sequence KL (the sum of k1), in nats.
    pub(super) fn mean_kl(&self) -> f64 {
        self.mean(|row| row.log_probs.iter().zip(&row.reference).map(|(new, old)| new - old).sum())
    }

    pub(super) fn mean(&self, f: impl Fn(&Row) -> f64) -> f64 {
        self.rows.iter().map(f).sum::<f64>() / self.rows.len().max(1) as f64
    }
}

/// Draws an iteration's prompts and the policy's responses to them.
fn rolled_out<'a>(policy: &Model, task: &Task<'a>, step: usize, crew: &Crew) -> (Vec<&'a [u32]>, Vec<Vec<u32>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(task.seed);
    rng.set_stream(step as u64);
    let count = task.config.batch_size.get();
    let prompts: Vec<&[u32]> = if count <= task.prompts.len() {
        index::sample(&mut rng, task.prompts.len(), count).into_iter().map(|i| task.prompts[i].as_slice()).collect()
    } else {
        task.prompts.iter().cycle().take(count).map(Vec::as_slice).collect()
    };
    let sampling = Sampling::plain(task.config.temperature.get(), task.max_response);
    let responses = sample(policy, &prompts, task.special, sampling, rng.random(), crew, &|_| ());
    (prompts, responses)
}

/// Rewards as PPO pays them: scaled, less the penalty of a response that did not finish.
fn paid(rewards: &[f64], finished: bool, config: &Config) -> Vec<f64> {
    let mut rewards: Vec<f64> = rewards.iter().map(|reward| reward * config.reward_scale.get()).collect();
    if let (false, Some(last)) = (finished, rewards.last_mut()) {
        *last -= config.missing_eos_penalty.get();
    }
    rewards
}

/// The advantages of a response's tokens as an iteration would estimate them, before whitening: by policy, reference and
/// value model, from its `rewards` and, beside the table, the KL coefficient.
#[must_use]
pub fn advantages(
    [policy, reference, value]: &[Model; 3],
    row: Pair,
    rewards: &[f64],
    (config, kl_coef): (&Config, f64),
    special: Special,
    crew: &Crew,
) -> Vec<f64> {
    let passes = passes([policy, reference, value], &[row], config.temperature.get(), special.pad, crew);
    let rewards = paid(rewards, row.response.last() == Some(&special.eos), config);
    let response = row.response.to_vec();
    let rows =
        passes.into_iter().map(|pass| Row::new(row.prompt, response.clone(), pass, rewards.clone(), kl_coef, config));
    rows.flat_map(|row| row.advantages).collect()
}

/// What the frozen passes say of one response, one number a token.
struct Pass {
    log_probs: Vec<f64>,
    reference: Vec<f64>,
    values: Vec<f64>,
}

/// The passes of policy, reference and value model.
fn passes(
    [policy, reference, value]: [&Model; 3],
    pairs: &[Pair],
    temperature: f64,
    pad: u32,
    crew: &Crew,
) -> Vec<Pass> {
    bucket::map(pairs, crew, |pairs| {
        let batch = Batch::new(pairs, pad, &policy.device());
        let log_probs = ragged(&policy.log_probs(&batch, temperature), &batch.lengths);
        let reference = ragged(&reference.log_probs(&batch, temperature), &batch.lengths);
        let values = ragged(&column(value.before_response(&batch)), &batch.lengths);
        let rows = log_probs.into_iter().zip(reference).zip(values);
        rows.map(|((log_probs, reference), values)| Pass { log_probs, reference, values }).collect()
    })
}

/// `[B, R, 1]` to `[B, R]`.
pub(super) fn column(outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    outputs.reshape([b, r])
}
