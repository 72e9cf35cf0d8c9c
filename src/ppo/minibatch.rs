//! A minibatch's ragged numbers as rectangles beside its tokens.
//!
//! What the numbers mean is left to the loop and its losses.

use burn::tensor::{Device, Tensor, TensorData};

use super::rollout::Row;
use crate::model::{Batch, Pair};

/// A shard's rows as rectangles.
pub(super) struct Minibatch {
    pub(super) tokens: Batch,
    pub(super) weights: Tensor<2>,
}

impl Minibatch {
    pub(super) fn new(rows: &[&Row], pad: u32, weight: &(dyn Fn(&Row) -> Vec<f32> + Sync), device: &Device) -> Self {
        let pairs: Vec<Pair> = rows.iter().map(|row| row.pair()).collect();
        let tokens = Batch::new(&pairs, pad, device);
        let weights = rectangle(rows.iter().map(|row| weight(row)), tokens.response_columns, device);
        Self { tokens, weights }
    }

    pub(super) fn grid<'a>(&self, rows: &[&'a Row], numbers: impl Fn(&'a Row) -> &'a [f64]) -> Tensor<2> {
        let rows = rows.iter().map(|row| numbers(row).iter().map(|&x| x as f32).collect());
        rectangle(rows, self.tokens.response_columns, &self.weights.device())
    }
}

/// Ragged rows, padded with zeros on the right.
fn rectangle(rows: impl ExactSizeIterator<Item = Vec<f32>>, columns: usize, device: &Device) -> Tensor<2> {
    let shape = [rows.len(), columns];
    let values = rows.flat_map(|mut row| {
        row.resize(columns, 0.0);
        row
    });
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}
