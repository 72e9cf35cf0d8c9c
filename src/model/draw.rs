//! Drawing a token from logits.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::generate::Sampling;
use crate::compute::fused::exponentials;

/// A token, and its log-probability at the sampling temperature, nothing truncated.
pub(super) struct Drawn {
    pub(super) id: u32,
    pub(super) log_prob: f64,
}

/// The random stream of one row.
pub(super) fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// Draws a token by inverting the cumulative distribution; overwrites `logits`.
pub(super) fn draw(logits: &mut [f32], sampling: Sampling, rng: &mut ChaCha8Rng) -> Drawn {
    let greedy = sampling.temperature == 0.0;
    exponentials(logits, if greedy { 1.0 } else { sampling.temperature.recip() as f32 });
    let weights = logits;
    let all = total(weights);
    let drawn = if greedy {
        None
    } else {
        let left = truncate(weights, sampling, all);
        inverse(weights, rng.random::<f64>() * left)
    };
    let id = drawn.unwrap_or_else(|| most_probable(weights));
    Drawn { id: u32::try_from(id).unwrap_or(u32::MAX), log_prob: f64::from(weights[id]).ln() - all.ln() }
}

fn total(weights: &[f32]) -> f64 {
    weights.iter().map(|&p| f64::from(p)).sum()
}

/// The first of the largest.
fn most_probable(weights: &[f32]) -> usize {
    (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// Where the cumulative weights pass `mass`; nowhere if rounding keeps them below.
fn inverse(weights: &[f32], mut mass: f64) -> Option<usize> {
    weights.iter().position(|&p| {
        mass -= f64::from(p);
        mass < 0.0 && p > 0.0
    })
}

/// Zeroes the weights that `top_k` and `top_p` exclude, and returns what is left of `all`.
fn truncate(weights: &mut [f32], sampling: Sampling, all: f64) -> f64 {
    if sampling.top_k.is_none() && sampling.top_p.is_none() {
        return all;
    }
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let mut mass = 0.0;
    for (rank, &id) in order.iter().enumerate() {
        let beyond_k = sampling.top_k.is_some_and(|k| rank >= k);
        let beyond_p = sampling.top_p.is_some_and(|p| mass >= p * all);
        mass += f64::from(weights[id]);
        if beyond_k || beyond_p {
            weights[id] = 0.0;
        }
    }
    total(weights)
}
