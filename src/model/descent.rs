//! The loop of supervised training: continue, look at a batch, check, update, report, save.
//!
//! What a batch is and what its loss means is the trainer's; PPO, with two models and rollouts, has a loop of its own.

use anyhow::{Context, Result, ensure};

use super::checkpoint::{Checkpoints, Learner};
use super::gradient::Outcome;
use super::{Model, optim};
use crate::compute::Crew;
use crate::events::Emitter;

/// How far and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    /// The recipe's table, for messages: `sft` or `reward`.
    pub table: &'static str,
    /// Steps in all.
    pub steps: usize,
    /// The optimiser and its rates.
    pub optimizer: &'a optim::Config,
}

/// The name of the model in a checkpoint.
const MODEL: &str = "model";

/// Trains `model` by the gradients of `look`, which is given the weights and the step (counted from 0) and returns the
/// batch's outcome and metrics of its own.
///
/// # Errors
/// When the loss is not finite (the step is named; the last checkpoint stays), or a checkpoint cannot be used.
pub fn descend<const N: usize, const M: usize>(
    model: Model,
    schedule: Schedule,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
    mut look: impl FnMut(&Model, usize) -> (Outcome<N>, [(&'static str, f64); M]),
) -> Result<Model> {
    let Schedule { table, steps, optimizer } = schedule;
    let (mut first, device) = (0, model.device());
    let mut learner = Learner::new(model, optimizer);
    if let Some((step, files)) = checkpoints.latest()? {
        learner = learner.restore(MODEL, optimizer, &files, &device)?;
        first = step;
    }
    for step in first..steps {
        let (outcome, measured) = look(&learner.model, step);
        ensure!(
            outcome.loss.is_finite(),
            "the loss is {} at step {}: expected a number; a lower `{table}.optimizer.learning_rate` may help \
             (checkpoints of earlier steps are kept)",
            outcome.loss,
            step + 1
        );
        let norm = learner.update(outcome.gradients, optimizer.rate(step, steps), crew);
        emitter.metrics(step + 1, [("loss", outcome.loss), ("grad_norm", norm)].into_iter().chain(measured));
        emitter.progress(step + 1, steps, "steps");
        if checkpoints.due(step + 1) {
            let files = learner.files(MODEL).with_context(|| format!("after step {}", step + 1))?;
            checkpoints.save(step + 1, &files)?;
        }
    }
    learner.check(MODEL).with_context(|| format!("after step {steps}"))?;
    Ok(learner.model)
}
