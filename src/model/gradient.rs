//! Gradients of a loss over a batch that is cut into shards.
//!
//! The number of shards is part of the recipe and their gradients are added in order, so the result is the same
//! whatever the number of threads.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Tensor};

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

/// Gradients of shards, added up in the shards' order: some when they come, so that few are held at once.
#[derive(Default)]
struct Sums {
    /// Of the shards before `next`.
    added: Vec<Tensor<2>>,
    next: usize,
    waiting: BTreeMap<usize, Vec<Tensor<2>>>,
}

impl Sums {
    /// Takes those of shard `index`; adds when more than `few` shards have come in order.
    fn take(&mut self, index: usize, gradients: Vec<Tensor<2>>, few: usize) {
        self.waiting.insert(index, gradients);
        let ready = self.waiting.keys().zip(self.next..).take_while(|(index, next)| **index == *next).count();
        if ready <= few {
            return;
        }
        for _ in 0..ready {
            let Some(gradients) = self.waiting.remove(&self.next) else { break };
            self.next += 1;
            self.added = if self.added.is_empty() {
                gradients
            } else {
                self.added.drain(..).zip(gradients).map(|(sum, more)| sum + more).collect()
            };
        }
    }

    /// The sums, weight by weight over all threads.
    fn finish(self, crew: &Crew) -> Vec<Tensor<2>> {
        let mut by_weight: Vec<Vec<Tensor<2>>> = Vec::new();
        for gradients in [self.added].into_iter().chain(self.waiting.into_values()) {
            by_weight.resize_with(gradients.len().max(by_weight.len()), Vec::new);
            by_weight.iter_mut().zip(gradients).for_each(|(shards, gradient)| shards.push(gradient));
        }
        crew.map(by_weight, |shards| shards.into_iter().reduce(|a, b| a + b).expect("at least one shard"))
    }
}

/// Evaluates `share` on every shard with a tracked copy of `model` and adds up losses, sums and gradients.
pub fn gradients<I: Sync, const N: usize>(
    model: &Model,
    shards: &[I],
    crew: &Crew,
    share: impl Fn(&Model, &I) -> Share<N> + Sync,
) -> Outcome<N> {
    let home = model.device();
    let added = Mutex::new(Sums::default());
    let parts = crew.map_on(
        shards.iter().enumerate(),
        |place| model.learning_on(place),
        |model, (index, shard)| {
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
                .map(|gradient| gradient.cast(DType::F32))
                .collect();
            added.lock().unwrap_or_else(PoisonError::into_inner).take(index, gradients, crew.threads());
            (loss.into_scalar::<f32>(), sums)
        },
    );
    let (mut loss, mut sums) = (0.0, [0.0; N]);
    for (share, shares) in parts {
        loss += f64::from(share);
        for (total, share) in sums.iter_mut().zip(shares) {
            *total += share;
        }
    }
    Outcome { loss, sums, gradients: added.into_inner().unwrap_or_else(PoisonError::into_inner).finish(crew) }
}
