//! Learning from pairs: Bradley-Terry of sequence and token models, soft labels of TLCR.

use burn::tensor::{Device, Tensor};

use super::loss::{anchor, bradley_terry, edited_weights, mean_weights, soft_cross_entropy, soft_target, weighted_sum};
use super::score::rewards;
use super::train::{Example, grid};
use super::{Kind, Token, TokenLoss};
use crate::labels::Label;
use crate::model::{Model, Pair, bucket};

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

/// Counts over a whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    pairs: usize,
    unchanged: usize,
}

impl Example for Comparison {
    type Prior = ();
    type Totals = Totals;

    fn prior(_: &Kind, _: &[Self]) {}

    fn rows(&self) -> Vec<Pair<'_>> {
        [&self.chosen, &self.rejected].map(|side| Pair { prompt: &self.prompt, response: &side.ids }).into()
    }

    fn batches<'a>(shard: &[&'a Self]) -> Vec<Vec<Pair<'a>>> {
        let rows: Vec<Pair> = shard.iter().flat_map(|pair| pair.rows()).collect();
        bucket::halves(&rows).into_iter().map(|half| half.into_iter().map(|(_, row)| row).collect()).collect()
    }

    fn totals((): &(), pairs: &[&Self]) -> Totals {
        let unchanged = |side: &Side| side.labels.iter().filter(|&&label| label == Label::U).count();
        let unchanged = pairs.iter().map(|pair| unchanged(&pair.chosen) + unchanged(&pair.rejected)).sum();
        Totals { pairs: pairs.len(), unchanged }
    }

    fn judged(totals: &Totals) -> f64 {
        totals.pairs as f64
    }

    fn loss(
        kind: &Kind,
        model: &Model,
        pairs: &[&Self],
        totals: &Totals,
        pad: u32,
        device: &Device,
    ) -> (Tensor<1>, f64) {
        // Both sides together, so that each is read beside what is as long: chosen rows first.
        let sides: Vec<(&Self, &Side, bool)> = pairs
            .iter()
            .map(|pair| (*pair, &pair.chosen, true))
            .chain(pairs.iter().map(|pair| (*pair, &pair.rejected, false)))
            .collect();
        let rows: Vec<Pair> =
            sides.iter().map(|(pair, side, _)| Pair { prompt: &pair.prompt, response: &side.ids }).collect();
        let outputs = bucket::at_response(model, &rows, pad);
        let columns = outputs.dims()[1];
        let grid = |row: &dyn Fn(&Side, bool) -> Vec<f32>| {
            grid(sides.iter().map(|(_, side, chosen)| row(side, *chosen)), columns, device)
        };
        let weights = match kind {
            Kind::Token(token) => grid(&|side, _| token_weights(token, side)),
            _ => grid(&|side, _| last_token(side.ids.len())),
        };
        let scores = weighted_sum(rewards(kind, outputs.clone()), weights);
        let (chosen, rejected) = (scores.clone().narrow(0, 0, pairs.len()), scores.narrow(0, pairs.len(), pairs.len()));
        let correct = chosen.clone().inner().greater(rejected.clone().inner()).int().sum().into_scalar::<i64>() as f64;
        let loss = match kind {
            Kind::Token(token) if token.loss == TokenLoss::Tlcr => {
                let targets =
                    grid(&|side, chosen| side.labels.iter().map(|&label| soft_target(label, chosen)).collect());
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
