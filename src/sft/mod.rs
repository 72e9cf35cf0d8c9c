//! Supervised fine-tuning: maximise the likelihood of demonstrated responses.

mod example;

pub use example::Example;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::Checkpoints;
use crate::model::descent::{Schedule, descend};
use crate::model::gradient::{Share, gradients};
use crate::model::{Batch, Model, Pair, bucket, optim};
use crate::units::Count;

/// The recipe's `[sft]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Optimiser steps.
    pub steps: Count,
    /// Demonstrations per step.
    pub batch_size: Count,
    /// The optimiser and its schedule.
    pub optimizer: optim::Config,
}

/// What SFT learns from and with.
pub struct Task<'a> {
    /// The recipe's `[sft]` table.
    pub config: &'a Config,
    /// What is imitated.
    pub examples: &'a [Example],
    /// The padding id.
    pub pad: u32,
    /// Decides the order of the examples.
    pub seed: u64,
    /// Parts a batch is cut into.
    pub shards: bucket::Cut,
}

/// Trains `model` to imitate the examples: minimises the mean negative log-likelihood of the tokens that are learned.
///
/// # Errors
/// When the loss is not finite (the step is named; the last checkpoint stays), or a checkpoint cannot be used.
pub fn train(
    model: Model,
    task: &Task,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<Model> {
    let config = task.config;
    ensure!(!task.examples.is_empty(), "no demonstrations to learn from");
    let schedule = Schedule { table: "sft", steps: config.steps.get(), optimizer: &config.optimizer };
    let mut order = Order::new(task.examples.len(), task.seed);
    descend(model, schedule, crew, emitter, checkpoints, |model, step| {
        let batch = order.batch(step, config.batch_size.get());
        let rows: Vec<&Example> = batch.into_iter().map(|i| &task.examples[i]).collect();
        let tokens =
            rows.iter().map(|row| row.learned.iter().filter(|learned| **learned).count()).sum::<usize>() as f64;
        let shards = task.shards.apply(model, rows, 1, |row| bucket::size(pair(row)));
        let padding = bucket::padding(shards.iter().map(|rows| rows.iter().map(|row| pair(row))));
        let outcome = gradients(model, &numbered(shards), crew, |model, (shard, rows)| {
            let model = model.noisy(noise(task.seed, step, *shard));
            let pairs: Vec<Pair> = rows.iter().map(|row| pair(row)).collect();
            let batch = Batch::new(&pairs, task.pad, &model.device());
            let nll = model.log_probs(&batch, 1.0).neg() * learned(rows, &batch, &model.device());
            Share { loss: nll.sum() / tokens, sums: [] }
        });
        (outcome, [("tokens", tokens), ("padding", padding)])
    })
}

fn pair(example: &Example) -> Pair<'_> {
    Pair { prompt: &example.prompt, response: &example.response }
}

/// One where something is learned, zero elsewhere, `[B, R]`.
fn learned(rows: &[&Example], batch: &Batch, device: &Device) -> Tensor<2> {
    let columns = batch.response_columns;
    let mut mask = vec![0.0_f32; rows.len() * columns];
    for (line, row) in mask.chunks_exact_mut(columns).zip(rows) {
        for (cell, _) in line.iter_mut().zip(&row.learned).filter(|(_, learned)| **learned) {
            *cell = 1.0;
        }
    }
    Tensor::from_data(TensorData::new(mask, [rows.len(), columns]), device)
}

/// Items with their numbers.
#[must_use]
pub fn numbered<T>(items: Vec<T>) -> Vec<(u64, T)> {
    (0..).zip(items).collect()
}

/// The seed of what is dropped in one shard of a step: a function of what it is for, so that it needs no storing.
#[must_use]
pub const fn noise(seed: u64, step: usize, shard: u64) -> u64 {
    seed ^ ((step as u64) << 16 | shard).wrapping_add(1).rotate_left(24)
}

/// The order in which examples are seen: every epoch a new permutation, a function of (seed, epoch) alone.
pub struct Order {
    examples: usize,
    seed: u64,
    epoch: Option<(usize, Vec<usize>)>,
}

impl Order {
    /// An order over `examples` examples.
    #[must_use]
    pub const fn new(examples: usize, seed: u64) -> Self {
        Self { examples, seed, epoch: None }
    }

    /// The examples of `step` (counted from 0) in batches of `size`; a batch may span two epochs.
    pub fn batch(&mut self, step: usize, size: usize) -> Vec<usize> {
        (step * size..(step + 1) * size).map(|i| self.at(i / self.examples, i % self.examples)).collect()
    }

    fn at(&mut self, epoch: usize, position: usize) -> usize {
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch as u64);
            let mut permutation: Vec<usize> = (0..self.examples).collect();
            permutation.shuffle(&mut rng);
            self.epoch = Some((epoch, permutation));
        }
        self.epoch.as_ref().map_or(0, |(_, permutation)| permutation[position])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_example_once_in_a_new_order() {
        let mut order = Order::new(7, 3);
        let seen: Vec<usize> = (0..7).flat_map(|step| order.batch(step, 3)).collect();
        for epoch in seen.chunks(7) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..7).collect::<Vec<_>>());
        }
        assert_ne!(seen[..7], seen[7..14]);
        assert_eq!(Order::new(7, 3).batch(4, 3), seen[12..15], "the order is a function of the step");
    }
}
