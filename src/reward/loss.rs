//! Losses of reward models, as functions of the rewards at response tokens.
//!
//! Every pairwise loss here is Bradley-Terry on one number a side, and that number is a weighted sum of token rewards:
//! the losses differ in their weights. `total` is the number of pairs of the whole batch, so that shards add up.

use burn::tensor::activation::{log_sigmoid, log_softmax, softmax};
use burn::tensor::{Int, Tensor};

use super::EditedNormaliser;
use crate::labels::Label;

/// Bradley-Terry: `sum_i -log sigmoid(chosen_i - rejected_i - margin) / total` [BT].
///
/// # Shapes
/// `chosen` and `rejected` `[N]`; result a scalar.
#[must_use]
pub fn bradley_terry(chosen: Tensor<1>, rejected: Tensor<1>, margin: f64, total: usize) -> Tensor<1> {
    log_sigmoid(chosen - rejected - margin).sum().neg() / total as f64
}

/// One number a row: `sum_t weight_t reward_t`.
///
/// # Shapes
/// `rewards` and `weights` `[N, R]`; result `[N]`.
#[must_use]
pub fn weighted_sum(rewards: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
    (rewards * weights).sum_dim(1).squeeze_dim(1)
}

/// Weights that make [`weighted_sum`] the mean over a response of `length` tokens.
#[must_use]
pub fn mean_weights(length: usize) -> Vec<f32> {
    vec![1.0 / length.max(1) as f32; length]
}

/// Weights that make [`weighted_sum`] the sum over the edited tokens, divided by `normaliser`; all zero where nothing
/// was edited.
#[must_use]
pub fn edited_weights(labels: &[Label], normaliser: EditedNormaliser) -> Vec<f32> {
    let edited = labels.iter().filter(|&&label| label != Label::U).count();
    let divisor = match normaliser {
        EditedNormaliser::EditedCount => edited,
        EditedNormaliser::Sum => 1,
        EditedNormaliser::ResponseLength => labels.len(),
    };
    labels.iter().map(|&label| if label == Label::U { 0.0 } else { 1.0 / divisor.max(1) as f32 }).collect()
}

/// Holds unchanged tokens at zero: `weight * sum_t unchanged_t reward_t^2 / unchanged_total`.
///
/// # Shapes
/// `rewards` and `unchanged` (zero or one) `[N, R]`; result a scalar.
#[must_use]
pub fn anchor(rewards: Tensor<2>, unchanged: Tensor<2>, weight: f64, unchanged_total: usize) -> Tensor<1> {
    (rewards.square() * unchanged).sum() * (weight / unchanged_total.max(1) as f64)
}

/// Soft-target cross-entropy of two logits a token, negative and positive [TLCR]:
/// `-sum_t w_t (target_t log p_t(positive) + (1 - target_t) log p_t(negative))`.
///
/// With `w_t = 1 / (length * rows)` this is the mean over the tokens of a sequence, then over sequences.
///
/// # Shapes
/// `logits` `[N, R, 2]`; `targets` (share of positive) and `weights` `[N, R]`; result a scalar.
#[must_use]
pub fn soft_cross_entropy(logits: Tensor<3>, targets: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
    let [n, r, _] = logits.dims();
    let log_p = log_softmax(logits, 2);
    let negative = log_p.clone().narrow(2, 0, 1).reshape([n, r]);
    let positive = log_p.narrow(2, 1, 1).reshape([n, r]);
    ((positive * targets.clone() + negative * (targets.neg() + 1.0)) * weights).sum().neg()
}

/// The soft target of a token label: what was removed is negative, what was put in positive, the rest undecided.
#[must_use]
pub const fn soft_target(label: Label, edited_side: bool) -> f32 {
    match (label, edited_side) {
        (Label::U, _) => 0.5,
        (_, true) => 1.0,
        (_, false) => 0.0,
    }
}

/// Class-weighted cross-entropy of token classes: `-sum_t w_t log p_t(y_t)` over labelled tokens [TPPO].
///
/// With `w_t` the weight of class `y_t` over the sum of these weights in the batch, this is a weighted mean over tokens.
///
/// # Shapes
/// `logits` `[N, R, C]`; `classes` `[N, R]` (any valid class where unlabelled); `weights` `[N, R]`, zero where unlabelled;
/// result a scalar.
#[must_use]
pub fn class_cross_entropy(logits: Tensor<3>, classes: Tensor<2, Int>, weights: Tensor<2>) -> Tensor<1> {
    let [n, r, _] = logits.dims();
    let log_p = log_softmax(logits, 2).gather(2, classes.reshape([n, r, 1])).reshape([n, r]);
    (log_p * weights).sum().neg()
}

/// The class that the probabilities expect: `sum_c c p_t(c)` [TPPO].
///
/// # Shapes
/// `logits` `[N, R, C]`; result `[N, R]`.
#[must_use]
pub fn expected_class(logits: Tensor<3>) -> Tensor<2> {
    let [n, r, classes] = logits.dims();
    let p = softmax(logits, 2);
    let class = |c: usize| p.clone().narrow(2, c, 1).reshape([n, r]) * c as f64;
    (1..classes).map(class).reduce(|sum, more| sum + more).unwrap_or_else(|| p.clone().reshape([n, r]) * 0.0)
}

/// Squared error of what is said of whole responses: `sum_i (predicted_i - given_i)^2 / total` [TPPO].
///
/// # Shapes
/// `predicted` and `given` `[N]`; result a scalar.
#[must_use]
pub fn squared_error(predicted: Tensor<1>, given: Tensor<1>, total: usize) -> Tensor<1> {
    (predicted - given).square().sum() / total as f64
}

/// Binary cross-entropy at the ends of spans: `sum_t -log sigmoid(sign_t logit_t) / total` where `sign_t` is 1 for a span
/// with an error, -1 for one without [FG-RLHF]; tokens that end none have sign 0 and do not count.
///
/// # Shapes
/// `logits` and `signs` `[N, R]`; result a scalar.
#[must_use]
pub fn span_cross_entropy(logits: Tensor<2>, signs: Tensor<2>, total: usize) -> Tensor<1> {
    let ends = signs.clone().abs();
    (log_sigmoid(logits * signs) * ends).sum().neg() / total as f64
}
