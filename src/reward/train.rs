//! Training a reward model on pairs.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::loss::{anchor, bradley_terry, edited_weights, mean_weights, soft_cross_entropy, soft_target, weighted_sum};
use super::score::{RewardModel, rewards};
use super::{Config, Kind, Token, TokenLoss};
use crate::compute::Crew;
use crate::events::Emitter;
use crate::labels::Label;
use crate::model::checkpoint::Checkpoints;
use crate::model::descent::{Schedule, descend};
use crate::model::gradient::{Share, gradients};
use crate::model::{Batch, Model, Pair, bucket};
use crate::sft::Order;

/// One side of a pair: a response and, where it came from an edit, its token labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// Token ids.
    pub ids: Vec<u32>,
    /// One label a token; empty for preference pairs.
    pub labels: Vec<Label>,
}

/// A better and a worse response to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Prompt ids.
    pub prompt: Vec<u32>,
    /// The preferred or edited response.
    pub chosen: Side,
    /// The less preferred or original response.
    pub rejected: Side,
}

impl Comparison {
    /// Both sides as rows.
    fn rows(&self) -> [Pair<'_>; 2] {
        [&self.chosen, &self.rejected].map(|side| Pair { prompt: &self.prompt, response: &side.ids })
    }
}

/// What a reward model learns from and with.
pub struct Task<'a> {
    /// The recipe's `[reward]` table.
    pub config: &'a Config,
    /// What to train.
    pub kind: &'a Kind,
    /// The pairs.
    pub pairs: &'a [Comparison],
    /// The padding id.
    pub pad: u32,
    /// Decides the head's initial weights and the order of the pairs.
    pub seed: u64,
    /// Parts a batch is cut into.
    pub shards: usize,
}

/// Trains a reward model that starts from `trunk` (the SFT model) under a new head.
///
/// # Errors
/// Without pairs, when the loss is not finite (the step is named; the last checkpoint stays), or when a checkpoint
/// cannot be used.
pub fn train(
    trunk: &Model,
    task: &Task,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<RewardModel> {
    let (config, device) = (task.config, trunk.device());
    ensure!(!task.pairs.is_empty(), "no pairs to learn from");
    let batch_size = config.batch_size.get().min(task.pairs.len());
    let steps = (config.epochs.get() * task.pairs.len()).div_ceil(batch_size);
    let schedule = Schedule { table: "reward", steps, optimizer: &config.optimizer };
    let mut order = Order::new(task.pairs.len(), task.seed);
    let model = trunk.with_head(task.kind.outputs(), 0.01, task.seed);
    let model = descend(model, schedule, emitter, checkpoints, |model, step| {
        let pairs: Vec<&Comparison> = order.batch(step, batch_size).into_iter().map(|i| &task.pairs[i]).collect();
        let totals = Totals::of(&pairs);
        let shards = bucket::shards(pairs, task.shards, |pair| pair.chosen.ids.len().max(pair.rejected.ids.len()));
        let padding = bucket::padding(shards.iter().map(|pairs| pairs.iter().flat_map(|pair| pair.rows())));
        let tokens: usize = shards.iter().flatten().flat_map(|pair| pair.rows()).map(|row| row.response.len()).sum();
        let outcome = gradients(model, &shards, crew, |model, pairs| {
            let (loss, correct) = loss(task.kind, model, pairs, totals, task.pad, &device);
            Share { loss, sums: [correct] }
        });
        let accuracy = outcome.sums[0] / totals.pairs as f64;
        (outcome, [("train_accuracy", accuracy), ("tokens", tokens as f64), ("padding", padding)])
    })?;
    Ok(RewardModel { kind: task.kind.clone(), model })
}

/// Counts over a whole batch, by which the shares of its shards are divided.
#[derive(Clone, Copy, Debug)]
struct Totals {
    pairs: usize,
    unchanged: usize,
}

impl Totals {
    fn of(pairs: &[&Comparison]) -> Self {
        let unchanged = |side: &Side| side.labels.iter().filter(|&&label| label == Label::U).count();
        let unchanged = pairs.iter().map(|pair| unchanged(&pair.chosen) + unchanged(&pair.rejected)).sum();
        Self { pairs: pairs.len(), unchanged }
    }
}

/// A shard's share of the loss, and how many of its pairs are scored the right way round.
fn loss(
    kind: &Kind,
    model: &Model,
    pairs: &[&Comparison],
    totals: Totals,
    pad: u32,
    device: &Device,
) -> (Tensor<1>, f64) {
    // Both sides in one pass: chosen rows first.
    let sides: Vec<(&Comparison, &Side, bool)> = pairs
        .iter()
        .map(|pair| (*pair, &pair.chosen, true))
        .chain(pairs.iter().map(|pair| (*pair, &pair.rejected, false)))
        .collect();
    let rows: Vec<Pair> =
        sides.iter().map(|(pair, side, _)| Pair { prompt: &pair.prompt, response: &side.ids }).collect();
    let batch = Batch::new(&rows, pad, device);
    let columns = batch.response_columns;
    let grid = |row: &dyn Fn(&Side, bool) -> Vec<f32>| {
        let data = sides.iter().flat_map(|(_, side, chosen)| {
            let mut values = row(side, *chosen);
            values.resize(columns, 0.0);
            values
        });
        Tensor::<2>::from_data(TensorData::new(data.collect::<Vec<f32>>(), [sides.len(), columns]), device)
    };
    let outputs = model.at_response(&batch);
    let weights = match kind {
        Kind::Sequence(_) => grid(&|side, _| last_token(side.ids.len())),
        Kind::Token(token) => grid(&|side, _| token_weights(token, side)),
    };
    let scores = weighted_sum(rewards(kind, outputs.clone()), weights);
    let (chosen, rejected) = (scores.clone().narrow(0, 0, pairs.len()), scores.narrow(0, pairs.len(), pairs.len()));
    let correct = chosen.clone().inner().greater(rejected.clone().inner()).int().sum().into_scalar::<i64>() as f64;
    let loss = match kind {
        Kind::Token(token) if token.loss == TokenLoss::Tlcr => {
            let targets = grid(&|side, chosen| side.labels.iter().map(|&label| soft_target(label, chosen)).collect());
            let weights = grid(&|side, _| mean_weights(side.ids.len())) / totals.pairs as f64;
            soft_cross_entropy(outputs, targets, weights)
        }
        Kind::Token(token) if token.loss == TokenLoss::PairwiseEditedAnchored => {
            let unchanged =
                grid(&|side, _| side.labels.iter().map(|&label| f32::from(u8::from(label == Label::U))).collect());
            bradley_terry(chosen, rejected, 0.0, totals.pairs)
                + anchor(rewards(kind, outputs), unchanged, token.anchor.get(), totals.unchanged)
        }
        _ => bradley_terry(chosen, rejected, 0.0, totals.pairs),
    };
    (loss, correct)
}

/// Weights that read a response's last token.
fn last_token(length: usize) -> Vec<f32> {
    let mut weights = vec![0.0; length];
    if let Some(last) = weights.last_mut() {
        *last = 1.0;
    }
    weights
}

/// Weights whose sum of rewards the loss compares.
fn token_weights(token: &Token, side: &Side) -> Vec<f32> {
    match token.loss {
        TokenLoss::PairwiseMean | TokenLoss::Tlcr => mean_weights(side.ids.len()),
        TokenLoss::PairwiseSum => vec![1.0; side.ids.len()],
        TokenLoss::PairwiseEditedOnly | TokenLoss::PairwiseEditedAnchored => {
            edited_weights(&side.labels, token.edited_normaliser)
        }
    }
}
