//! The update: clipped policy and value losses over shuffled minibatches.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;

use super::loss::{Clip, policy_loss, value_loss, weights};
use super::minibatch::Minibatch;
use super::rollout::{Rollout, Row, column};
use super::train::Task;
use crate::compute::Crew;
use crate::model::bucket;
use crate::model::checkpoint::Learner;
use crate::model::gradient::{Share, gradients};
use crate::units::Positive;

/// Means over an iteration's minibatch updates.
#[derive(Default)]
pub(super) struct Update {
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) clip_fraction: f64,
    pub(super) value_clip_fraction: f64,
    pub(super) policy_grad_norm: f64,
    pub(super) value_grad_norm: f64,
    pub(super) padding: f64,
}

pub(super) fn update(
    policy: &mut Learner,
    value: &mut Learner,
    rollout: &Rollout,
    task: &Task,
    step: usize,
    crew: &Crew,
) -> Result<Update> {
    let config = task.config;
    let steps = config.steps.get();
    let minibatch = rollout.rows.len() / config.minibatches.get();
    let mut order = crate::sft::Order::new(rollout.rows.len(), task.seed ^ (step as u64 + 1).rotate_left(32));
    let mut mean = Update::default();
    let updates = config.epochs.get() * config.minibatches.get();
    for i in 0..updates {
        let rows: Vec<&Row> = order.batch(i, minibatch).into_iter().map(|i| &rollout.rows[i]).collect();
        let part = minibatch_losses(policy, value, &rows, task, step, crew);
        ensure!(
            part.policy_loss.is_finite() && part.value_loss.is_finite(),
            "the policy loss is {} and the value loss {} at iteration {}: expected numbers; lower learning rates in \
             `ppo.policy_optimizer` and `ppo.value_optimizer` may help (checkpoints of earlier iterations are kept)",
            part.policy_loss,
            part.value_loss,
            step + 1
        );
        mean.policy_loss += part.policy_loss / updates as f64;
        mean.value_loss += part.value_loss / updates as f64;
        mean.clip_fraction += part.clip_fraction / updates as f64;
        mean.padding += part.padding / updates as f64;
        mean.value_clip_fraction += part.value_clip_fraction / updates as f64;
        let rate = config.value_optimizer.rate(step, steps);
        mean.value_grad_norm += value.update(part.value_gradients, rate, crew) / updates as f64;
        if let Some(gradients) = part.policy_gradients {
            let rate = config.policy_optimizer.rate(step, steps);
            mean.policy_grad_norm += policy.update(gradients, rate, crew) / updates as f64;
        }
    }
    Ok(mean)
}

/// Losses and gradients of one minibatch; the policy's only after the value warm-up.
struct Losses {
    policy_loss: f64,
    value_loss: f64,
    clip_fraction: f64,
    value_clip_fraction: f64,
    padding: f64,
    policy_gradients: Option<Vec<Tensor<2>>>,
    value_gradients: Vec<Tensor<2>>,
}

fn minibatch_losses(policy: &Learner, value: &Learner, rows: &[&Row], task: &Task, step: usize, crew: &Crew) -> Losses {
    let config = task.config;
    let tokens: usize = rows.iter().map(|row| row.response.len()).sum();
    let shards = task.shards.apply(&policy.model, rows.to_vec(), 1, |row| bucket::size(row.pair()));
    let clip = Clip {
        low: config.clip_range.get(),
        high: config.clip_range_high.unwrap_or(config.clip_range).get(),
        dual: config.dual_clip.map(Positive::get),
    };
    let weight = |row: &Row| weights(config.aggregation, row.response.len(), tokens, rows.len());
    let critic = gradients(&value.model, &shards, crew, |model, rows| {
        let batch = Minibatch::new(rows, task.special.pad, &weight, &model.device());
        let values = column(model.before_response(&batch.tokens));
        let old = batch.grid(rows, |row| &row.values);
        let returns = batch.grid(rows, |row| &row.returns);
        let clip = config.value_clip_range.map(Positive::get);
        let (loss, clipped) = value_loss(values, old, returns, &batch.tokens.response_mask, batch.weights, clip);
        Share { loss, sums: [f64::from(clipped.sum().into_scalar::<f32>())] }
    });
    let actor = (step >= config.value_warmup_steps).then(|| {
        gradients(&policy.model, &shards, crew, |model, rows| {
            let batch = Minibatch::new(rows, task.special.pad, &weight, &model.device());
            let new = model.log_probs(&batch.tokens, config.temperature.get());
            let old = batch.grid(rows, |row| &row.log_probs);
            let advantages = batch.grid(rows, |row| &row.advantages);
            let (loss, clipped) = policy_loss(new, old, advantages, &batch.tokens.response_mask, batch.weights, clip);
            Share { loss, sums: [f64::from(clipped.sum().into_scalar::<f32>())] }
        })
    });
    let share = |clipped: f64| clipped / tokens.max(1) as f64;
    Losses {
        policy_loss: actor.as_ref().map_or(0.0, |actor| actor.loss),
        value_loss: critic.loss,
        clip_fraction: actor.as_ref().map_or(0.0, |actor| share(actor.sums[0])),
        value_clip_fraction: share(critic.sums[0]),
        padding: bucket::padding(shards.iter().map(|rows| rows.iter().map(|row| row.pair()))),
        policy_gradients: actor.map(|actor| actor.gradients),
        value_gradients: critic.gradients,
    }
}
