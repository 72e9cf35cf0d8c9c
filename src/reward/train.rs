//! Training a reward model: the loop, whatever it learns from. Losses and examples are the neighbours'.

use anyhow::{Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::pairs::Comparison;
use super::score::RewardModel;
use super::spans::Marked;
use super::words::Scored;
use super::{Config, Kind};
use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::Checkpoints;
use crate::model::descent::{Schedule, descend};
use crate::model::gradient::{Share, gradients};
use crate::model::{Model, Pair, bucket};
use crate::sft::{Order, noise, numbered};

/// What a reward model learns from.
#[derive(Clone, Copy, Debug)]
pub enum Examples<'a> {
    /// Pairs of responses: `sequence` and `token`.
    Pairs(&'a [Comparison]),
    /// Responses with word scores: `tppo`.
    Scored(&'a [Scored]),
    /// Responses with error spans of one category: `spans`.
    Marked(&'a [Marked]),
}

/// What a reward model learns from and with.
pub struct Task<'a> {
    /// The recipe's `[reward]` table.
    pub config: &'a Config,
    /// What to train.
    pub kind: &'a Kind,
    /// From what.
    pub examples: Examples<'a>,
    /// The padding id.
    pub pad: u32,
    /// Decides the head's initial weights and the order of the examples.
    pub seed: u64,
    /// Parts a batch is cut into.
    pub shards: bucket::Cut,
}

/// An example that a reward model can learn from.
pub(super) trait Example: Sync + Sized {
    /// What is counted once, over all examples.
    type Prior;
    /// Counts over a whole batch, by which the shares of its shards are divided.
    type Totals: Sync;

    fn prior(kind: &Kind, all: &[Self]) -> Self::Prior;

    /// The rows that a model reads of it.
    fn rows(&self) -> Vec<Pair<'_>>;

    /// The batches in which a shard is read.
    fn batches<'a>(shard: &[&'a Self]) -> Vec<Vec<Pair<'a>>> {
        vec![shard.iter().flat_map(|example| example.rows()).collect()]
    }

    fn totals(prior: &Self::Prior, batch: &[&Self]) -> Self::Totals;

    /// How many things of the batch can be told right or wrong: pairs, tokens, spans.
    fn judged(totals: &Self::Totals) -> f64;

    /// A shard's share of the loss, and how many things of it the model tells right.
    fn loss(
        kind: &Kind,
        model: &Model,
        shard: &[&Self],
        totals: &Self::Totals,
        pad: u32,
        device: &Device,
    ) -> (Tensor<1>, f64);
}

/// Trains a reward model that starts from `trunk` (the SFT model) under a new head.
///
/// # Errors
/// Without examples, when the loss is not finite (the step is named; the last checkpoint stays), or when a checkpoint
/// cannot be used.
pub fn train(
    trunk: &Model,
    task: &Task,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<RewardModel> {
    let model = match (task.kind, task.examples) {
        (Kind::Sequence(_) | Kind::Token(_), Examples::Pairs(pairs)) => {
            learn(trunk, task, pairs, crew, emitter, checkpoints)
        }
        (Kind::Tppo(_), Examples::Scored(rows)) => learn(trunk, task, rows, crew, emitter, checkpoints),
        (Kind::Spans(_), Examples::Marked(rows)) => learn(trunk, task, rows, crew, emitter, checkpoints),
        (kind, _) => bail!("this reward model learns from {}, found other examples", kind.learns_from()),
    };
    Ok(RewardModel::new(task.kind.clone(), model?))
}

fn learn<E: Example>(
    trunk: &Model,
    task: &Task,
    examples: &[E],
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<Model> {
    let config = task.config;
    ensure!(!examples.is_empty(), "nothing to learn from: no {}", task.kind.learns_from());
    let batch_size = config.batch_size.get().min(examples.len());
    let steps = (config.epochs.get() * examples.len()).div_ceil(batch_size);
    let schedule = Schedule { table: "reward", steps, optimizer: &config.optimizer };
    let mut order = Order::new(examples.len(), task.seed);
    let prior = E::prior(task.kind, examples);
    let model = trunk.with_head(task.kind.outputs(), 0.01, task.seed);
    descend(model, schedule, crew, emitter, checkpoints, |model, step| {
        let batch: Vec<&E> = order.batch(step, batch_size).into_iter().map(|i| &examples[i]).collect();
        let totals = E::totals(&prior, &batch);
        let longest = |example: &&E| {
            let sizes = example.rows().into_iter().map(bucket::size);
            sizes.fold([0, 0], |longest, size| [longest[0].max(size[0]), longest[1].max(size[1])])
        };
        let rows = batch.iter().map(|example| example.rows().len()).max().unwrap_or(1);
        let shards = task.shards.apply(model, batch, rows, longest);
        let padding = bucket::padding(shards.iter().flat_map(|shard| E::batches(shard)));
        let tokens: usize =
            shards.iter().flatten().flat_map(|example| example.rows()).map(|row| row.response.len()).sum();
        let outcome = gradients(model, &numbered(shards), crew, |model, (number, shard)| {
            let model = model.noisy(noise(task.seed, step, *number));
            let (loss, correct) = E::loss(task.kind, &model, shard, &totals, task.pad, &model.device());
            Share { loss, sums: [correct] }
        });
        let accuracy = outcome.sums[0] / E::judged(&totals);
        (outcome, [("train_accuracy", accuracy), ("tokens", tokens as f64), ("padding", padding)])
    })
}

/// Rows of numbers, filled up with zeros to `columns`.
pub(super) fn grid(rows: impl Iterator<Item = Vec<f32>>, columns: usize, device: &Device) -> Tensor<2> {
    let mut count = 0;
    let mut data = Vec::new();
    for row in rows {
        count += 1;
        data.extend(row);
        data.resize(count * columns, 0.0);
    }
    Tensor::from_data(TensorData::new(data, [count, columns]), device)
}
