//! The PPO loop: roll out, score, shape, estimate advantages, update, watch.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Config;
use super::rollout::Rollout;
use super::shaping::Reward;
use super::update::{Update, update};
use super::watch::Habits;
use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::{Checkpoints, Learner};
use crate::model::generate::{Sampling, Special, sample};
use crate::model::{Model, bucket};

/// What PPO optimises and with what.
pub struct Task<'a> {
    /// The recipe's `[ppo]` table.
    pub config: &'a Config,
    /// The policy at the start, if not the reference.
    pub start: Option<&'a Model>,
    /// The KL coefficient at the start.
    pub kl_coef: f64,
    /// What is rewarded.
    pub reward: &'a Reward,
    /// The reference's habits, from which a policy that hacks its reward departs.
    pub habits: Habits,
    /// Prompts to roll out.
    pub prompts: &'a [Vec<u32>],
    /// Prompts that are sampled every `eval_every` iterations for the learning curve.
    pub validation: &'a [Vec<u32>],
    /// Padding and end-of-sequence ids.
    pub special: Special,
    /// Response tokens at most.
    pub max_response: usize,
    /// Decides prompts, samples and minibatches.
    pub seed: u64,
    /// Parts a minibatch is cut into.
    pub shards: bucket::Cut,
}

/// Samples of the policy on the validation prompts after `step` iterations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Iterations done.
    pub step: usize,
    /// One response a validation prompt.
    pub responses: Vec<Vec<u32>>,
}

/// What PPO leaves behind.
pub struct Trained {
    /// The policy after the last iteration.
    pub policy: Model,
    /// The value model after the last iteration: it says what advantages are made of.
    pub value: Model,
    /// The learning curve's samples, in order of step.
    pub snapshots: Vec<Snapshot>,
    /// Suspicions of reward hacking, each at the iteration where it first arose.
    pub suspicions: Vec<Suspicion>,
}

/// A limit that was passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Which limit: `length`, `kl` or `repeats`.
    pub kind: String,
    /// The iteration, counted from 1.
    pub step: usize,
    /// What was seen.
    pub message: String,
}

/// What a killed run needs beside the weights.
#[derive(Serialize, Deserialize)]
struct State {
    kl_coef: f64,
    snapshots: Vec<Snapshot>,
    suspicions: Vec<Suspicion>,
}

/// The file of a checkpoint that holds the [`State`].
const STATE: &str = "state.json";

/// Trains a policy that starts from `reference`, unless `task.start` says otherwise, against `task.reward`.
///
/// # Errors
/// When a loss is not finite (the step is named; the last checkpoint stays), or a checkpoint cannot be used.
pub fn train(
    reference: &Model,
    task: &Task,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<Trained> {
    let (config, device) = (task.config, reference.device());
    ensure!(!task.prompts.is_empty(), "no prompts to roll out");
    let steps = config.steps.get();
    let mut policy = Learner::new(task.start.unwrap_or(reference).clone(), &config.policy_optimizer);
    // The value model starts as the reward model, which has seen what is good, under a head that says zero.
    let mut value = Learner::new(task.reward.model().model.with_head(1, 0.0, 0), &config.value_optimizer);
    let mut state = State { kl_coef: task.kl_coef, snapshots: Vec::new(), suspicions: Vec::new() };
    let mut first = 0;
    if let Some((step, files)) = checkpoints.latest()? {
        policy = policy.restore("policy", &config.policy_optimizer, &files, &device)?;
        value = value.restore("value", &config.value_optimizer, &files, &device)?;
        let bytes = files.iter().find(|(name, _)| name == STATE).context("checkpoint has no `state.json`")?;
        state = serde_json::from_slice(&bytes.1).context("checkpoint file `state.json`")?;
        first = step;
    }
    for step in first..steps {
        let rollout = Rollout::new(&policy.model, &value.model, reference, task, state.kl_coef, step, crew);
        let update = update(&mut policy, &mut value, &rollout, task, step, crew)?;
        state.kl_coef = config.kl_control.update(state.kl_coef, rollout.mean_kl(), rollout.rows.len());
        emitter.metrics(step + 1, metrics(&rollout, &update, state.kl_coef));
        watch(&rollout, task, step, emitter, &mut state.suspicions);
        emitter.progress(step + 1, steps, "iterations");
        if (step + 1) % config.eval_every.get() == 0 || step + 1 == steps {
            state.snapshots.push(Snapshot { step: step + 1, responses: snapshot(&policy.model, task, crew) });
        }
        if checkpoints.due(step + 1) {
            let files = files(&policy, &value, &state).with_context(|| format!("after iteration {}", step + 1))?;
            checkpoints.save(step + 1, &files)?;
        }
    }
    let State { snapshots, suspicions, .. } = state;
    policy.check("policy").with_context(|| format!("after iteration {steps}"))?;
    Ok(Trained { policy: policy.model, value: value.model, snapshots, suspicions })
}

/// The files of a checkpoint.
fn files(policy: &Learner, value: &Learner, state: &State) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = [policy.files("policy")?, value.files("value")?].concat();
    files.push((STATE.to_owned(), serde_json::to_vec(state)?));
    Ok(files)
}

/// Warns once of each limit that the iteration's samples pass.
fn watch(rollout: &Rollout, task: &Task, step: usize, emitter: &Emitter, known: &mut Vec<Suspicion>) {
    let habits = Habits::of(rollout.rows.iter().map(|row| row.response.as_slice()));
    for (kind, message) in task.config.watch.suspicions(task.habits, habits, rollout.mean_kl()) {
        if known.iter().all(|suspicion| suspicion.kind != kind) {
            emitter.warn(format!("reward hacking suspected at iteration {}: {message}", step + 1));
            known.push(Suspicion { kind: kind.to_owned(), step: step + 1, message });
        }
    }
}

fn snapshot(policy: &Model, task: &Task, crew: &Crew) -> Vec<Vec<u32>> {
    let prompts: Vec<&[u32]> = task.validation.iter().map(Vec::as_slice).collect();
    let sampling = Sampling::plain(task.config.temperature.get(), task.max_response);
    let sampled = sample(policy, &prompts, task.special, sampling, task.seed, crew, &|_| ());
    sampled.into_iter().map(|sampled| sampled.ids).collect()
}

fn metrics(rollout: &Rollout, update: &Update, kl_coef: f64) -> [(&'static str, f64); 15] {
    let rows = rollout.rows.len() as f64;
    [
        ("reward", rollout.mean(|row| row.rewards.iter().sum())),
        ("kl_nats", rollout.mean_kl()),
        ("length", rollout.mean(|row| row.response.len() as f64)),
        ("tokens", rollout.rows.iter().map(|row| row.response.len() as f64).sum()),
        ("finished", rollout.finished as f64 / rows),
        ("kl_coef", kl_coef),
        ("return", rollout.mean(|row| row.returns.first().copied().unwrap_or(0.0))),
        ("policy_loss", update.policy_loss),
        ("value_loss", update.value_loss),
        ("clip_fraction", update.clip_fraction),
        ("value_clip_fraction", update.value_clip_fraction),
        ("policy_grad_norm", update.policy_grad_norm),
        ("value_grad_norm", update.value_grad_norm),
        ("padding", update.padding),
        ("read_padding", rollout.padding),
    ]
}
