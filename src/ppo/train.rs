//! The PPO loop: roll out, score, shape, estimate advantages, update, watch.

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::gae::{ADVANTAGES, gae, whiten};
use super::loss::{Clip, policy_loss, value_loss, weights};
use super::shaping::Calibration;
use super::watch::Habits;
use super::{Config, Credit};
use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::{Checkpoints, Learner};
use crate::model::generate::{Sampling, Special, sample};
use crate::model::gradient::{Share, gradients, split};
use crate::model::{Batch, Model, Pair};
use crate::reward::score::{RewardModel, ragged};

/// What PPO optimises and with what.
pub struct Task<'a> {
    /// The recipe's `[ppo]` table.
    pub config: &'a Config,
    /// The KL coefficient at the start.
    pub kl_coef: f64,
    /// How rewards reach the policy.
    pub credit: Credit,
    /// The reward model.
    pub reward: &'a RewardModel,
    /// Scale and centre of its rewards.
    pub calibration: Calibration,
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
    pub shards: usize,
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

/// Files of a checkpoint.
const STATE: &str = "state.json";

/// Trains a policy that starts from `reference` against `task.reward`.
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
    let mut policy = Learner::new(reference.clone(), &config.policy_optimizer);
    // The value model starts as the reward model, which has seen what is good, under a head that says zero.
    let mut value = Learner::new(task.reward.model.with_head(1, 0.0, 0), &config.value_optimizer);
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
        if (step + 1) % config.checkpoint_every.get() == 0 && step + 1 < steps {
            let mut files = [policy.files("policy"), value.files("value")].concat();
            files.push((STATE.to_owned(), serde_json::to_vec(&state)?));
            checkpoints.save(step + 1, &files)?;
        }
    }
    Ok(Trained { policy: policy.model, snapshots: state.snapshots, suspicions: state.suspicions })
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
    sample(policy, &prompts, task.special, sampling, task.seed, crew, &|_| ())
}

/// One sampled response with everything that the update needs; all numbers one a response token.
struct Row<'a> {
    prompt: &'a [u32],
    response: Vec<u32>,
    log_probs: Vec<f64>,
    reference: Vec<f64>,
    values: Vec<f64>,
    rewards: Vec<f64>,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

impl Row<'_> {
    fn pair(&self) -> Pair<'_> {
        Pair { prompt: self.prompt, response: &self.response }
    }
}

/// An iteration's responses.
struct Rollout<'a> {
    rows: Vec<Row<'a>>,
    finished: usize,
}

/// Rows of one pass without gradients.
const ROWS: usize = 32;

impl<'a> Rollout<'a> {
    fn new(
        policy: &Model,
        value: &Model,
        reference: &Model,
        task: &Task<'a>,
        kl_coef: f64,
        step: usize,
        crew: &Crew,
    ) -> Self {
        let config = task.config;
        let mut rng = ChaCha8Rng::seed_from_u64(task.seed);
        rng.set_stream(step as u64);
        let count = config.batch_size.get();
        let prompts: Vec<&[u32]> = if count <= task.prompts.len() {
            index::sample(&mut rng, task.prompts.len(), count).into_iter().map(|i| task.prompts[i].as_slice()).collect()
        } else {
            (0..count).map(|i| task.prompts[i % task.prompts.len()].as_slice()).collect()
        };
        let temperature = config.temperature.get();
        let sampling = Sampling::plain(temperature, task.max_response);
        let seed = rand::Rng::random(&mut rng);
        let responses = sample(policy, &prompts, task.special, sampling, seed, crew, &|_| ());
        let pairs: Vec<Pair> =
            prompts.iter().zip(&responses).map(|(prompt, response)| Pair { prompt, response }).collect();
        let chunks: Vec<&[Pair]> = pairs.chunks(ROWS).collect();
        let passes = crew.map(&chunks, |pairs| {
            let batch = Batch::new(pairs, task.special.pad, &policy.device());
            let lengths = &batch.lengths;
            let log_probs = ragged(&policy.log_probs(&batch, temperature), lengths);
            let frozen = ragged(&reference.log_probs(&batch, temperature), lengths);
            let values = ragged(&column(value.before_response(&batch)), lengths);
            log_probs.into_iter().zip(frozen).zip(values).collect::<Vec<_>>()
        });
        let raw = task.reward.token_rewards(&pairs, task.special.pad, crew);
        let passes = passes.into_iter().flatten().zip(raw);
        let mut finished = 0;
        let mut rows: Vec<Row> = Vec::with_capacity(pairs.len());
        for (((prompt, response), _), (((log_probs, frozen), values), raw)) in
            prompts.iter().zip(responses.clone()).zip(&pairs).zip(passes)
        {
            let done = response.last() == Some(&task.special.eos);
            finished += usize::from(done);
            let mut rewards = task.credit.rewards(&task.reward.kind, &raw, task.calibration);
            if let (false, Some(last)) = (done, rewards.last_mut()) {
                *last -= config.missing_eos_penalty.get();
            }
            let shaped = config.kl_estimator.penalise(&rewards, &log_probs, &frozen, kl_coef);
            let (advantages, returns) = gae(&shaped, &values, config.gamma.get(), config.gae_lambda.get());
            rows.push(Row { prompt, response, log_probs, reference: frozen, values, rewards, advantages, returns });
        }
        if config.whiten_advantages {
            let mut advantages: Vec<Vec<f64>> =
                rows.iter_mut().map(|row| std::mem::take(&mut row.advantages)).collect();
            whiten(&mut advantages, ADVANTAGES);
            for (row, advantages) in rows.iter_mut().zip(advantages) {
                row.advantages = advantages;
            }
        }
        Self { rows, finished }
    }

    /// Mean over responses of the sequence KL (the sum of k1), in nats.
    fn mean_kl(&self) -> f64 {
        self.mean(|row| row.log_probs.iter().zip(&row.reference).map(|(new, old)| new - old).sum())
    }

    fn mean(&self, f: impl Fn(&Row) -> f64) -> f64 {
        self.rows.iter().map(f).sum::<f64>() / self.rows.len().max(1) as f64
    }
}

/// `[B, R, 1]` to `[B, R]`.
fn column(outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    outputs.reshape([b, r])
}

/// Means over an iteration's minibatch updates.
#[derive(Default)]
struct Update {
    policy_loss: f64,
    value_loss: f64,
    clip_fraction: f64,
    value_clip_fraction: f64,
    policy_grad_norm: f64,
    value_grad_norm: f64,
}

fn update(
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
            "the policy loss is {} and the value loss {} at iteration {}; the last checkpoint is kept",
            part.policy_loss,
            part.value_loss,
            step + 1
        );
        mean.policy_loss += part.policy_loss / updates as f64;
        mean.value_loss += part.value_loss / updates as f64;
        mean.clip_fraction += part.clip_fraction / updates as f64;
        mean.value_clip_fraction += part.value_clip_fraction / updates as f64;
        let rate = config.value_optimizer.rate(step, steps);
        mean.value_grad_norm += value.update(part.value_gradients, rate) / updates as f64;
        if let Some(gradients) = part.policy_gradients {
            let rate = config.policy_optimizer.rate(step, steps);
            mean.policy_grad_norm += policy.update(gradients, rate) / updates as f64;
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
    policy_gradients: Option<Vec<Tensor<2>>>,
    value_gradients: Vec<Tensor<2>>,
}

fn minibatch_losses(policy: &Learner, value: &Learner, rows: &[&Row], task: &Task, step: usize, crew: &Crew) -> Losses {
    let config = task.config;
    let device = policy.model.device();
    let tokens: usize = rows.iter().map(|row| row.response.len()).sum();
    let shards = split(rows, task.shards);
    let clip = Clip {
        low: config.clip_range.get(),
        high: config.clip_range_high.unwrap_or(config.clip_range).get(),
        dual: config.dual_clip.map(|c| c.get()),
    };
    let weight = |row: &Row| weights(config.aggregation, row.response.len(), tokens, rows.len());
    let critic = gradients(&value.model, &shards, crew, |model, rows| {
        let batch = Minibatch::new(rows, task.special.pad, &weight, &device);
        let values = column(model.before_response(&batch.tokens));
        let old = batch.grid(rows, &device, |row| &row.values);
        let returns = batch.grid(rows, &device, |row| &row.returns);
        let clip = config.value_clip_range.map(|c| c.get());
        let (loss, clipped) = value_loss(values, old, returns, &batch.tokens.response_mask, batch.weights, clip);
        Share { loss, sums: [f64::from(clipped.sum().into_scalar::<f32>())] }
    });
    let actor = (step >= config.value_warmup_steps).then(|| {
        gradients(&policy.model, &shards, crew, |model, rows| {
            let batch = Minibatch::new(rows, task.special.pad, &weight, &device);
            let new = model.log_probs(&batch.tokens, config.temperature.get());
            let old = batch.grid(rows, &device, |row| &row.log_probs);
            let advantages = batch.grid(rows, &device, |row| &row.advantages);
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
        policy_gradients: actor.map(|actor| actor.gradients),
        value_gradients: critic.gradients,
    }
}

/// A shard's rows as rectangles.
struct Minibatch {
    tokens: Batch,
    weights: Tensor<2>,
}

impl Minibatch {
    fn new(rows: &[&Row], pad: u32, weight: &(dyn Fn(&Row) -> Vec<f32> + Sync), device: &Device) -> Self {
        let pairs: Vec<Pair> = rows.iter().map(|row| row.pair()).collect();
        let tokens = Batch::new(&pairs, pad, device);
        let weights = rectangle(rows.iter().map(|row| weight(row)), tokens.response_columns, device);
        Self { tokens, weights }
    }

    fn grid<'a>(&self, rows: &[&'a Row], device: &Device, numbers: impl Fn(&'a Row) -> &'a [f64]) -> Tensor<2> {
        rectangle(
            rows.iter().map(|row| numbers(row).iter().map(|&x| x as f32).collect()),
            self.tokens.response_columns,
            device,
        )
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

fn metrics(rollout: &Rollout, update: &Update, kl_coef: f64) -> [(&'static str, f64); 12] {
    let rows = rollout.rows.len() as f64;
    [
        ("reward", rollout.mean(|row| row.rewards.iter().sum())),
        ("kl_nats", rollout.mean_kl()),
        ("length", rollout.mean(|row| row.response.len() as f64)),
        ("finished", rollout.finished as f64 / rows),
        ("kl_coef", kl_coef),
        ("return", rollout.mean(|row| row.returns.first().copied().unwrap_or(0.0))),
        ("policy_loss", update.policy_loss),
        ("value_loss", update.value_loss),
        ("clip_fraction", update.clip_fraction),
        ("value_clip_fraction", update.value_clip_fraction),
        ("policy_grad_norm", update.policy_grad_norm),
        ("value_grad_norm", update.value_grad_norm),
    ]
}
