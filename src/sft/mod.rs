//! Supervised fine-tuning: maximise the likelihood of demonstrated responses.

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::{Checkpoints, Learner};
use crate::model::gradient::{Share, gradients, split};
use crate::model::{Batch, Model, Pair, optim};
use crate::units::Count;

/// The recipe's `[sft]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Optimiser steps.
    pub steps: Count,
    /// Demonstrations per step.
    pub batch_size: Count,
    /// Steps between checkpoints from which a killed run continues.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: Count,
    /// The optimiser and its schedule.
    pub optimizer: optim::Config,
}

fn default_checkpoint_every() -> Count {
    Count::try_from(200).expect("at least one")
}

/// What SFT learns from and with.
pub struct Task<'a> {
    /// The recipe's `[sft]` table.
    pub config: &'a Config,
    /// Prompt and response ids, end-of-sequence token included.
    pub examples: &'a [(Vec<u32>, Vec<u32>)],
    /// The padding id.
    pub pad: u32,
    /// Decides the order of the examples.
    pub seed: u64,
    /// Parts a batch is cut into.
    pub shards: usize,
}

/// Trains `model` to imitate the examples: minimises the mean negative log-likelihood of response tokens.
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
    let (config, device) = (task.config, model.device());
    ensure!(!task.examples.is_empty(), "no demonstrations to learn from");
    let steps = config.steps.get();
    let mut learner = Learner::new(model, &config.optimizer);
    let mut first = 0;
    if let Some((step, files)) = checkpoints.latest()? {
        learner = learner.restore("model", &config.optimizer, &files, &device)?;
        first = step;
    }
    let mut order = Order::new(task.examples.len(), task.seed);
    for step in first..steps {
        let rows: Vec<Pair> = order
            .batch(step, config.batch_size.get())
            .into_iter()
            .map(|i| Pair { prompt: &task.examples[i].0, response: &task.examples[i].1 })
            .collect();
        let tokens: usize = rows.iter().map(|row| row.response.len()).sum();
        let outcome = gradients(&learner.model, &split(&rows, task.shards), crew, |model, rows| {
            let batch = Batch::new(rows, task.pad, &device);
            let nll = model.log_probs(&batch, 1.0).neg() * batch.response_mask;
            Share { loss: nll.sum() / tokens as f64, sums: [] }
        });
        ensure!(
            outcome.loss.is_finite(),
            "the loss is {} at step {}: expected a number; a lower `sft.optimizer.learning_rate` may help (checkpoints of \
             earlier steps are kept)",
            outcome.loss,
            step + 1
        );
        // Only now are the weights known to be good: they have a finite loss.
        if step > first && step % config.checkpoint_every.get() == 0 {
            checkpoints.save(step, &learner.files("model"))?;
        }
        let norm = learner.update(outcome.gradients, config.optimizer.rate(step, steps));
        emitter.metrics(step + 1, [("loss", outcome.loss), ("grad_norm", norm), ("tokens", tokens as f64)]);
        emitter.progress(step + 1, steps, "steps");
    }
    Ok(learner.model)
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
