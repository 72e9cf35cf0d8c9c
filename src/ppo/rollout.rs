//! An iteration's responses with everything that the update needs: sampled, scored, shaped, their advantages estimated.
//!
//! The policy's log-probabilities are those it was sampled with: another pass would give the same.

use burn::tensor::Tensor;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Config;
use super::gae::{ADVANTAGES, gae, whiten};
use super::train::Task;
use crate::compute::{Crew, Place};
use crate::model::generate::{Sampled, Sampling, Special, sample};
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
        Sampled { ids: response, log_probs }: Sampled,
        Pass { reference, values, rewards }: Pass,
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
    /// Share of the columns that reference, value and reward model read that is no token.
    pub(super) padding: f64,
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
        let (prompts, sampled) = rolled_out(policy, task, step, crew);
        let pairs: Vec<Pair> =
            prompts.iter().zip(&sampled).map(|(prompt, sampled)| Pair { prompt, response: &sampled.ids }).collect();
        let passes = passes(reference, value, &pairs, task, crew);
        let batches = bucket::batches(&pairs);
        let padding = bucket::padding(batches.iter().map(|batch| batch.iter().map(|&i| pairs[i])));
        let is_finished = |sampled: &Sampled| sampled.ids.last() == Some(&task.special.eos);
        let finished = sampled.iter().filter(|sampled| is_finished(sampled)).count();
        let rows = prompts.into_iter().zip(sampled).zip(passes);
        let mut rows: Vec<Row> = rows
            .map(|((prompt, sampled), pass)| {
                let rewards = paid(&pass.rewards, is_finished(&sampled), task.config);
                Row::new(prompt, sampled, Pass { rewards, ..pass }, kl_coef, task.config)
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
        Self { rows, finished, padding }
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
fn rolled_out<'a>(policy: &Model, task: &Task<'a>, step: usize, crew: &Crew) -> (Vec<&'a [u32]>, Vec<Sampled>) {
    let mut rng = ChaCha8Rng::seed_from_u64(task.seed);
    rng.set_stream(step as u64);
    let count = task.config.batch_size.get();
    let prompts: Vec<&[u32]> = if count <= task.prompts.len() {
        index::sample(&mut rng, task.prompts.len(), count).into_iter().map(|i| task.prompts[i].as_slice()).collect()
    } else {
        task.prompts.iter().cycle().take(count).map(Vec::as_slice).collect()
    };
    let sampling = Sampling::plain(task.config.temperature.get(), task.max_response);
    let sampled = sample(policy, &prompts, task.special, sampling, rng.random(), crew, &|_| ());
    (prompts, sampled)
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
) -> Vec<f64> {
    let batch = Batch::new(&[row], special.pad, &policy.device());
    let temperature = config.temperature.get();
    let only = |outputs: &Tensor<2>| ragged(outputs, &batch.lengths).concat();
    let sampled = Sampled { ids: row.response.to_vec(), log_probs: only(&policy.log_probs(&batch, temperature)) };
    let pass = Pass {
        reference: only(&reference.log_probs(&batch, temperature)),
        values: only(&column(value.before_response(&batch))),
        rewards: paid(rewards, row.response.last() == Some(&special.eos), config),
    };
    Row::new(row.prompt, sampled, pass, kl_coef, config).advantages
}

/// What the passes without gradients say of one response, one number a token.
struct Pass {
    reference: Vec<f64>,
    values: Vec<f64>,
    rewards: Vec<f64>,
}

/// The passes of reference and value model over the same batches, and of the reward model.
fn passes(reference: &Model, value: &Model, pairs: &[Pair], task: &Task, crew: &Crew) -> Vec<Pass> {
    let temperature = task.config.temperature.get();
    let replicas = |place: Place| (reference.on(place), value.on(place));
    let passes = bucket::map(pairs, crew, replicas, |(reference, value), pairs| {
        let batch = Batch::new(pairs, task.special.pad, &value.device());
        let log_probs = ragged(&reference.log_probs(&batch, temperature), &batch.lengths);
        let values = ragged(&column(value.before_response(&batch)), &batch.lengths);
        log_probs.into_iter().zip(values).collect()
    });
    let rewards = task.reward.rewards(pairs, task.special.pad, crew);
    let passes = passes.into_iter().zip(rewards);
    passes.map(|((reference, values), rewards)| Pass { reference, values, rewards }).collect()
}

/// `[B, R, 1]` to `[B, R]`.
pub(super) fn column(outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    outputs.reshape([b, r])
}
