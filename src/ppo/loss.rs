//! The clipped policy and value losses.
//!
//! Both are sums over response tokens of a loss times a weight; [`weights`] makes the sum a token mean or a sequence
//! mean, over a minibatch that may be cut into shards. Padding has weight zero and its inputs are cleared first, so
//! that junk there cannot become NaN.

use burn::tensor::Tensor;

use super::Aggregation;

/// The clipping of the policy loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// The ratio's lower bound is one minus this.
    pub low: f64,
    /// The ratio's upper bound is one plus this.
    pub high: f64,
    /// Bound `c` on the loss of a token with negative advantage [DUAL-CLIP].
    pub dual: Option<f64>,
}

/// Each token's weight: `lengths` are the rows of this shard, `tokens` and `rows` count the whole minibatch (rows
/// without tokens not counted).
#[must_use]
pub fn weights(aggregation: Aggregation, length: usize, tokens: usize, rows: usize) -> Vec<f32> {
    let weight = match aggregation {
        Aggregation::TokenMean => 1.0 / tokens.max(1) as f64,
        Aggregation::SequenceMean => 1.0 / (length.max(1) * rows.max(1)) as f64,
    };
    vec![weight as f32; length]
}

/// Policy loss `sum_t w_t max(-A rho, -A clip(rho, 1 - low, 1 + high))` with `rho = exp(new - old)` [PPO]; with a dual
/// clip `c`, at most `-c A` where A is negative [DUAL-CLIP].
///
/// # Shapes
/// All `[B, R]`; result a scalar, and the tokens (zero or one, masked) at which clipping decided.
#[must_use]
pub fn policy_loss(
    new: Tensor<2>,
    old: Tensor<2>,
    advantages: Tensor<2>,
    mask: &Tensor<2>,
    weights: Tensor<2>,
    clip: Clip,
) -> (Tensor<1>, Tensor<2>) {
    let keep = mask.clone().equal_scalar(0.0);
    let zero = |x: Tensor<2>| x.mask_fill(keep.clone(), 0.0);
    let advantages = zero(advantages);
    let ratio = zero(new - old).exp();
    let unclipped = ratio.clone() * advantages.clone().neg();
    let clipped = ratio.clamp(1.0 - clip.low, 1.0 + clip.high) * advantages.clone().neg();
    let decided = clipped.clone().inner().greater(unclipped.clone().inner()).float() * mask.clone();
    let mut token = unclipped.max_pair(clipped);
    if let Some(c) = clip.dual {
        let bounded = token.clone().min_pair(advantages.clone() * -c);
        let negative = advantages.lower_scalar(0.0);
        token = token.mask_where(negative, bounded);
    }
    ((token * weights).sum(), decided)
}

/// Value loss `sum_t w_t max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2) / 2` [PPO]; unclipped without `c`.
///
/// # Shapes
/// All `[B, R]`; result a scalar, and the tokens (zero or one, masked) at which clipping decided.
#[must_use]
pub fn value_loss(
    values: Tensor<2>,
    old: Tensor<2>,
    returns: Tensor<2>,
    mask: &Tensor<2>,
    weights: Tensor<2>,
    clip: Option<f64>,
) -> (Tensor<1>, Tensor<2>) {
    let keep = mask.clone().equal_scalar(0.0);
    let zero = |x: Tensor<2>| x.mask_fill(keep.clone(), 0.0);
    let (values, old, returns) = (zero(values), zero(old), zero(returns));
    let plain = (values.clone() - returns.clone()).square();
    let Some(c) = clip else {
        return ((plain * weights).sum() * 0.5, mask.zeros_like());
    };
    let clipped = (old.clone() + (values - old).clamp(-c, c) - returns).square();
    let decided = clipped.clone().inner().greater(plain.clone().inner()).float() * mask.clone();
    ((plain.max_pair(clipped) * weights).sum() * 0.5, decided)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::model::weights::host;

    fn grid(values: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.concat(), [2, 3]), &Device::flex())
    }

    const MASK: [[f32; 3]; 2] = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
    const WEIGHTS: [[f32; 3]; 2] = [[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]];

    #[test]
    fn junk_in_padding_reaches_neither_losses_nor_gradients() {
        let junk = |x: [[f32; 3]; 2], junk: f32| grid([[x[0][0], x[0][1], junk], [x[1][0], junk, junk]]);
        let clip = Clip { low: 0.2, high: 0.2, dual: None };
        let run = |fill: f32| {
            let new = junk([[-1.0, -2.0, 0.0], [-0.5, 0.0, 0.0]], fill).autodiff().require_grad();
            let old = junk([[-1.1, -1.0, 0.0], [-0.5, 0.0, 0.0]], -fill);
            let numbers = junk([[0.5, -1.5, 0.0], [2.0, 0.0, 0.0]], fill);
            let (policy, _) = policy_loss(new.clone(), old.clone(), numbers.clone(), &grid(MASK), grid(WEIGHTS), clip);
            let (value, _) = value_loss(new.clone(), old, numbers, &grid(MASK), grid(WEIGHTS), Some(0.2));
            let losses = [policy.clone(), value.clone()].map(|loss| host(&loss)[0]);
            let gradient = host(&new.grad(&(policy + value).backward()).unwrap());
            (losses, gradient)
        };
        let clean = run(0.0);
        assert!(clean.0.iter().all(|loss| loss.is_finite() && loss.abs() > 1e-3), "{clean:?}");
        assert!([2, 4, 5].iter().all(|&i| clean.1[i].abs() < 1e-12), "{clean:?}");
        assert_eq!(run(300.0), clean);
    }

    #[test]
    fn weights_make_token_means_and_sequence_means() {
        assert_eq!(weights(Aggregation::TokenMean, 2, 8, 3), [0.125; 2]);
        assert_eq!(weights(Aggregation::SequenceMean, 2, 8, 4), [0.125; 2]);
        assert_eq!(weights(Aggregation::SequenceMean, 0, 8, 4), [0.0; 0]);
    }
}
