//! A whole PPO iteration: policy, frozen reference, value model and frozen token-level reward model of one
//! architecture.
//!
//! It differs from the trainer's where the peers' work does: policy and value take every step together, nothing is
//! clipped, the advantages' variance divides by n - 1. As the trainer does, it keeps the log-probabilities it sampled with.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use super::parts::{SPECIAL, adamw};
use super::{Bench, Measured, Settings, median};
use crate::model::checkpoint::Learner;
use crate::model::generate::{Sampling, sample};
use crate::model::gradient::{Share, gradients, split};
use crate::model::{Batch, Model, Pair};
use crate::ppo::gae::{Whitening, gae, whiten};
use crate::ppo::loss::{Clip, policy_loss, value_loss};
use crate::reward::score::ragged;
use crate::sft::Order;

const RATE: f64 = 3e-6;
const KL_COEF: f64 = 0.05;
const LAMBDA: f64 = 0.95;
const CLIP: f64 = 0.2;
const VALUE_COEF: f64 = 0.1;
const WHITENING: Whitening = Whitening { shift_mean: true, unbiased: true, epsilon: 1e-8 };

/// A norm that no gradient reaches: the peers do not clip.
const NO_CLIPPING: f64 = 1e30;

/// The models of a run.
struct Run<'a> {
    bench: &'a Bench,
    policy: Learner,
    value: Learner,
    reward: Model,
}

/// Seconds of the phases of one iteration.
struct Phases {
    seconds: Vec<(&'static str, f64)>,
    last: Instant,
}

impl Phases {
    fn mark(&mut self, name: &'static str) {
        let now = Instant::now();
        self.seconds.push((name, (now - self.last).as_secs_f64()));
        self.last = now;
    }
}

/// One sampled response; all numbers one a sampled token.
struct Row {
    ids: Vec<u32>,
    old: Vec<f64>,
    values: Vec<f64>,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

/// Sums over the optimiser steps of one iteration.
#[derive(Default)]
struct Losses {
    policy: f64,
    value: f64,
}

impl Bench {
    /// Iterations after a first one that is not counted.
    pub(super) fn ppo(&self) -> Measured {
        let (settings, seed) = (&self.settings, self.settings.seed);
        let optimizer = adamw(RATE, NO_CLIPPING);
        let mut run = Run {
            bench: self,
            policy: Learner::new(self.model.clone(), &optimizer),
            value: Learner::new(self.model.with_head(1, 0.02, seed + 1), &optimizer),
            reward: self.model.with_head(1, 0.02, seed + 2),
        };
        let (mut totals, mut phases) = (Vec::new(), BTreeMap::<&str, Vec<f64>>::new());
        let mut losses = Losses::default();
        for index in 0..=settings.iters.get() as u64 {
            let prompts = self.ids(settings.prompt.get(), seed + index);
            let (seconds, last) = run.iteration(&prompts, seed + index);
            losses = last;
            if index > 0 {
                totals.push(seconds.iter().map(|(_, seconds)| seconds).sum());
                for (name, seconds) in seconds {
                    phases.entry(name).or_default().push(seconds);
                }
            }
        }
        let tokens = settings.batch.get() * settings.new.get();
        let checks = [("policy_loss", losses.policy), ("value_loss", losses.value)];
        let phases_s = phases.into_iter().map(|(name, seconds)| (name, median(&seconds))).collect();
        Measured { phases_s, ..Measured::new(totals, tokens, self.ppo_flops(), checks) }
    }

    /// Sampling, three frozen passes, and the steps of policy and value model.
    fn ppo_flops(&self) -> f64 {
        let Settings { batch, prompt, new, vocab, epochs, .. } = &self.settings;
        let pass = |outputs| self.forward(batch.get(), [prompt.get(), new.get()], outputs);
        let (language, scalar) = (pass(vocab.get()), pass(1));
        let steps = 3.0 * epochs.get() as f64;
        self.sampling() + language + 2.0 * scalar + steps * (language + scalar)
    }
}

impl Run<'_> {
    fn iteration(&mut self, prompts: &[Vec<u32>], seed: u64) -> (Vec<(&'static str, f64)>, Losses) {
        let mut phases = Phases { seconds: Vec::new(), last: Instant::now() };
        let rows = self.experience(prompts, seed, &mut phases);
        let losses = self.update(&rows, seed);
        phases.mark("update");
        (phases.seconds, losses)
    }

    fn experience(&self, prompts: &[Vec<u32>], seed: u64, phases: &mut Phases) -> Vec<Row> {
        let (crew, settings, policy) = (&self.bench.crew, &self.bench.settings, &self.policy.model);
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let sampling = Sampling::plain(1.0, settings.new.get());
        let sampled = sample(policy, &prompts, SPECIAL, sampling, seed, crew, &|_| ());
        phases.mark("rollout");
        let pairs: Vec<Pair> =
            prompts.iter().zip(&sampled).map(|(prompt, sampled)| Pair { prompt, response: &sampled.ids }).collect();
        let batches =
            crew.map(split(&pairs, settings.threads.get()), |rows| Batch::new(rows, SPECIAL.pad, &policy.device()));
        let pass = |model: &Model, outputs: &(dyn Fn(&Model, &Batch) -> Tensor<2> + Sync)| -> Vec<Vec<f64>> {
            let read = |model: &Model, batch: &Batch| ragged(&outputs(model, batch), &batch.lengths);
            crew.map_on(&batches, |place| model.on(place), read).into_iter().flatten().collect()
        };
        let reference = pass(&self.bench.model, &|model, batch| model.log_probs(batch, 1.0));
        phases.mark("reference_logprobs");
        let rewards = pass(&self.reward, &|model, batch| column(model.at_response(batch)));
        phases.mark("rewards");
        let values = pass(&self.value.model, &|model, batch| column(model.before_response(batch)));
        phases.mark("values");
        let mut rows: Vec<Row> = Vec::with_capacity(pairs.len());
        let mut advantages = Vec::with_capacity(pairs.len());
        for (i, pair) in pairs.iter().enumerate() {
            let old = &sampled[i].log_probs;
            let kl = old.iter().zip(&reference[i]).map(|(new, frozen)| new - frozen);
            let shaped: Vec<f64> = rewards[i].iter().zip(kl).map(|(reward, kl)| reward - KL_COEF * kl).collect();
            let (advantage, returns) = gae(&shaped, &values[i], 1.0, LAMBDA);
            advantages.push(advantage);
            let ids = [pair.prompt, pair.response].concat();
            rows.push(Row { ids, old: old.clone(), values: values[i].clone(), advantages: Vec::new(), returns });
        }
        whiten(&mut advantages, WHITENING);
        for (row, advantages) in rows.iter_mut().zip(advantages) {
            row.advantages = advantages;
        }
        phases.mark("gae");
        rows
    }

    fn update(&mut self, rows: &[Row], seed: u64) -> Losses {
        let settings = &self.bench.settings;
        let size = rows.len() / settings.minibatches.get();
        let steps = settings.epochs.get() * settings.minibatches.get();
        let mut order = Order::new(rows.len(), seed);
        let mut losses = Losses::default();
        for step in 0..steps {
            let minibatch: Vec<&Row> = order.batch(step, size).into_iter().map(|i| &rows[i]).collect();
            let (policy, value) = self.step(&minibatch);
            losses.policy += policy / steps as f64;
            losses.value += value / steps as f64;
        }
        losses
    }

    /// One step of both models on `policy loss + 0.1 value loss`; returns both losses.
    ///
    /// The models share no weights and AdamW knows no neighbours, so two updates are one joint update.
    fn step(&mut self, rows: &[&Row]) -> (f64, f64) {
        let (crew, settings) = (&self.bench.crew, &self.bench.settings);
        let shards = split(rows, settings.threads.get());
        let weight = 1.0 / (rows.len() * settings.new.get()) as f64;
        let critic = gradients(&self.value.model, &shards, crew, |model, rows| {
            let (batch, weights) = self.minibatch(rows, weight);
            let (old, returns) = (grid(rows, |row| &row.values, model), grid(rows, |row| &row.returns, model));
            let values = column(model.before_response(&batch));
            let (loss, _) = value_loss(values, old, returns, &batch.response_mask, weights, Some(CLIP));
            Share { loss: loss * VALUE_COEF, sums: [] }
        });
        let clip = Clip { low: CLIP, high: CLIP, dual: None };
        let actor = gradients(&self.policy.model, &shards, crew, |model, rows| {
            let (batch, weights) = self.minibatch(rows, weight);
            let (old, advantages) = (grid(rows, |row| &row.old, model), grid(rows, |row| &row.advantages, model));
            let new = model.log_probs(&batch, 1.0);
            let (loss, _) = policy_loss(new, old, advantages, &batch.response_mask, weights, clip);
            Share { loss, sums: [] }
        });
        self.value.update(critic.gradients, RATE, crew);
        self.policy.update(actor.gradients, RATE, crew);
        (actor.loss, critic.loss / VALUE_COEF)
    }

    /// A shard's ids, and every token's weight in the mean over its minibatch.
    fn minibatch<'a>(&self, rows: &[&'a Row], weight: f64) -> (Batch, Tensor<2>) {
        let (settings, device) = (&self.bench.settings, self.bench.model.device());
        let prompt = settings.prompt.get();
        let pair = |row: &&'a Row| Pair { prompt: &row.ids[..prompt], response: &row.ids[prompt..] };
        let pairs: Vec<Pair> = rows.iter().map(pair).collect();
        let weights = Tensor::full([rows.len(), settings.new.get()], weight, &device);
        (Batch::new(&pairs, SPECIAL.pad, &device), weights)
    }
}

/// One number a sampled token as a rectangle beside `model`.
#[allow(clippy::cast_possible_truncation, reason = "models compute in `f32`")]
fn grid(rows: &[&Row], numbers: impl Fn(&Row) -> &[f64], model: &Model) -> Tensor<2> {
    let values: Vec<f32> = rows.iter().flat_map(|row| numbers(row)).map(|&x| x as f32).collect();
    let shape = [rows.len(), values.len() / rows.len()];
    Tensor::from_data(TensorData::new(values, shape), &model.device())
}

/// `[B, R, 1]` to `[B, R]`.
fn column(outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    outputs.reshape([b, r])
}
