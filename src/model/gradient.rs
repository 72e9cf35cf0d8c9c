//! Gradients of a loss over a batch that is cut into shards.
//!
//! The number of shards is part of the recipe and their gradients are added in order, so the result is the same
//! whatever the number of threads.

use burn::tensor::Tensor;

use super::{Model, recompute};
use crate::compute::Crew;

/// What one shard contributes: its share of the loss, and numbers to be added up over shards.
pub struct Share<const N: usize> {
    /// The shard's summand of the loss, a scalar with a graph.
    pub loss: Tensor<1>,
    /// Plain numbers: their meaning is the caller's.
    pub sums: [f64; N],
}

/// A whole batch's loss, sums and gradients.
pub struct Outcome<const N: usize> {
    /// The loss.
    pub loss: f64,
    /// The shards' sums, added.
    pub sums: [f64; N],
    /// One gradient a weight, in the model's order.
    pub gradients: Vec<Tensor<2>>,
}

/// Cuts `items` into at most `shards` runs of nearly equal length.
#[must_use]
pub fn split<T>(items: &[T], shards: usize) -> Vec<&[T]> {
    items.chunks(items.len().div_ceil(shards.max(1)).max(1)).collect()
}

/// Evaluates `share` on every shard with a tracked copy of `model` and adds up losses, sums and gradients.
pub fn gradients<I: Sync, const N: usize>(
    model: &Model,
    shards: &[I],
    crew: &Crew,
    share: impl Fn(&Model, &I) -> Share<N> + Sync,
) -> Outcome<N> {
    let home = model.device();
    let parts = crew.map_on(
        shards,
        |device| model.on(device),
        |model, shard| {
            let tracked = model.tracked();
            let (Share { loss, sums }, passes) = recompute::recorded(crew.recomputes(), || share(&tracked, shard));
            let mut gradients = loss.backward();
            let mut found: Vec<Option<Tensor<2>>> = vec![None; tracked.weights.len()];
            recompute::add(&mut gradients, &tracked.weights, &mut found);
            for pass in passes.into_iter().rev() {
                pass.backward(&mut gradients, &tracked.weights, &mut found);
            }
            let gradients: Vec<Tensor<2>> = found
                .into_iter()
                .zip(&tracked.weights)
                .map(|(gradient, w)| gradient.unwrap_or_else(|| w.clone().inner().zeros_like()))
                .map(|gradient| if model.device() == home { gradient } else { gradient.to_device(&home) })
                .collect();
            (loss.into_scalar::<f32>(), sums, gradients)
        },
    );
    let (mut loss, mut sums) = (0.0, [0.0; N]);
    let mut by_weight: Vec<Vec<Tensor<2>>> = model.weights.iter().map(|_| Vec::with_capacity(parts.len())).collect();
    for (share, shares, gradients) in parts {
        loss += f64::from(share);
        for (total, share) in sums.iter_mut().zip(shares) {
            *total += share;
        }
        by_weight.iter_mut().zip(gradients).for_each(|(shards, gradient)| shards.push(gradient));
    }
    let summed = crew.map(by_weight, |shards| shards.into_iter().reduce(|a, b| a + b).expect("at least one shard"));
    Outcome { loss, sums, gradients: summed }
}
