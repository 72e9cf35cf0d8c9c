//! What PPO must achieve with a hand-made reward, and must not do: credit goes to the right action, a killed run goes
//! on as if nothing had happened, and a loss that is no number stops the run.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

#[path = "toy/runs.rs"]
mod runs;
mod toy;

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use runner::compute::Crew;
use runner::events::{Emitter, Memory};
use runner::model::Pair;
use runner::model::checkpoint::{Checkpoints, Nowhere};
use runner::ppo::shaping::{Calibration, Part, Reward};
use runner::ppo::train::{Task, Trained, train};
use runner::ppo::watch::Habits;
use runner::ppo::{self, Credit};
use runner::reward::score::RewardModel;
use runs::{Shelf, metric, named_step};
use serde_json::{Value, json};
use toy::{SPECIAL, VOCAB, architecture, device, language_model, table};

/// What the hand-made reward pays for.
const GOOD: u32 = 7;

/// Pays one for `paid` and nothing for any other token: the embedding says which it is, attention and MLPs are
/// silent, and the head reads the embedding.
fn reward_model(kind: Value, paid: u32) -> RewardModel {
    let mut model = language_model(1, 1.0).with_head(1, 0.0, 0);
    let h = architecture().hidden_size.get();
    let mut embedding = vec![0_f32; VOCAB * h];
    for id in 0..VOCAB {
        embedding[id * h + usize::from(id != paid as usize)] = 1.0;
    }
    let tensor = |data: Vec<f32>, shape: [usize; 2]| Tensor::from_data(TensorData::new(data, shape), &device());
    model.weights[0] = tensor(embedding, [VOCAB, h]);
    for (name, weight) in model.names().iter().zip(model.weights.iter_mut()) {
        if name.ends_with("o_proj") || name.ends_with("down_proj") {
            *weight = weight.zeros_like();
        }
    }
    // The final norm makes the one in the embedding the root of the width.
    let mut head = vec![0.0; h];
    head[0] = (h as f32).sqrt().recip();
    *model.weights.last_mut().unwrap() = tensor(head, [h, 1]);
    RewardModel::new(table(kind), model)
}

fn per_token() -> Value {
    json!({ "token": { "loss": "pairwise_sum" } })
}

struct Setting {
    config: Value,
    kl_coef: f64,
    credit: Credit,
    reward: RewardModel,
}

fn setting() -> Setting {
    Setting {
        config: json!({
            "steps": 16, "batch_size": 32, "epochs": 2, "minibatches": 2, "kl_coef": 0.1, "eval_every": 8,
            "policy_optimizer": { "learning_rate": 5e-3 },
            "value_optimizer": { "learning_rate": 5e-3 },
        }),
        kl_coef: 0.0,
        credit: Credit::PerToken,
        reward: reward_model(per_token(), GOOD),
    }
}

impl Setting {
    fn with(mut self, changes: &Value) -> Self {
        for (key, value) in changes.as_object().unwrap() {
            self.config[key] = value.clone();
        }
        self
    }

    fn train(&self, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<Trained> {
        let config: ppo::Config = table(self.config.clone());
        let prompts: Vec<Vec<u32>> = (0..40).map(|i| (0..=i % 4).map(|j| 2 + (i + j) % 10).collect()).collect();
        let calibration = Calibration { center: 0.0, scale: 1.0 };
        let part = Part { model: self.reward.clone(), credit: self.credit, calibration, weight: 1.0 };
        let reward = Reward::new(part, Vec::new());
        let task = Task {
            config: &config,
            start: None,
            kl_coef: self.kl_coef,
            reward: &reward,
            habits: Habits { length: 6.0, repeats: 0.0 },
            prompts: &prompts,
            validation: &prompts,
            special: SPECIAL,
            max_response: 8,
            seed: 3,
            shards: 2.into(),
        };
        train(&language_model(1, 0.5), &task, &Crew::new(1), &Emitter::new("ppo", memory), checkpoints)
    }

    fn run(&self) -> (Trained, Memory) {
        let memory = Memory::default();
        (self.train(&Nowhere, &memory).unwrap(), memory)
    }
}

/// Share of `id` among the tokens of the last snapshot.
fn rate(trained: &Trained, id: u32) -> f64 {
    let tokens = trained.snapshots.last().unwrap().responses.concat();
    tokens.iter().filter(|&&token| token == id).count() as f64 / tokens.len() as f64
}

fn last(memory: &Memory, name: &str) -> f64 {
    *metric(memory, name).last().unwrap()
}

#[test]
fn ppo_raises_the_rate_of_a_rewarded_token_and_the_kl_penalty_holds_it_back() {
    let (free, memory) = setting().run();
    assert!(rate(&free, GOOD) > 0.5, "the token's share is {}", rate(&free, GOOD));
    let (held, held_memory) = Setting { kl_coef: 1.0, ..setting() }.run();
    assert!(rate(&held, GOOD) < 0.7 * rate(&free, GOOD), "{} and {}", rate(&held, GOOD), rate(&free, GOOD));
    let (kl, held_kl) = (last(&memory, "kl_nats"), last(&held_memory, "kl_nats"));
    assert!(held_kl < 0.5 * kl, "KL {held_kl} with the penalty, {kl} without");
}

#[test]
fn a_mixture_pays_each_reward_its_weight_where_its_credit_says() {
    let raw = Calibration { center: 0.0, scale: 1.0 };
    let part = |model, credit, weight| Part { model, credit, calibration: raw, weight };
    let tokens = part(reward_model(per_token(), GOOD), Credit::PerToken, 0.75);
    // The sequence's score is its last token's: one where that is 5.
    let sequence = json!({ "sequence": { "data": "preferences" } });
    let last = Part {
        calibration: Calibration { center: 1.0, scale: 2.0 },
        ..part(reward_model(sequence, 5), Credit::EndOfSequence, 0.25)
    };
    let mixture = Reward::new(tokens, vec![last]);
    let rows = [Pair { prompt: &[3, 4], response: &[GOOD, 5, GOOD] }, Pair { prompt: &[3], response: &[GOOD, 5] }];
    let found = mixture.rewards(&rows, SPECIAL.pad, &Crew::new(1));
    let expected = [vec![0.75, 0.0, 0.75 + 0.25 * (0.0 - 1.0) / 2.0], vec![0.75, 0.0]];
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} and {expected:?}");
    }
    let sums: Vec<f64> = found.iter().map(|row| row.iter().sum()).collect();
    assert_eq!(mixture.returns(&rows, SPECIAL.pad, &Crew::new(1)), sums);
}

#[test]
fn the_reward_scale_multiplies_what_is_paid() {
    let first = |scale: f64| {
        let (_, memory) = setting().with(&json!({ "reward_scale": scale, "steps": 1, "eval_every": 1 })).run();
        metric(&memory, "reward")[0]
    };
    assert!((first(3.0) / first(1.0) - 3.0).abs() < 1e-6, "{} and {}", first(3.0), first(1.0));
}

#[test]
fn a_tokens_reward_is_credited_to_the_action_that_emits_it() {
    // Without a look ahead an action is paid for its own token alone: were rewards shifted by one, the rewarded
    // token would be no better than any other.
    let (trained, _) = setting().with(&json!({ "gamma": 0.0, "gae_lambda": 0.0 })).run();
    assert!(rate(&trained, GOOD) > 0.5, "the token's share is {}", rate(&trained, GOOD));
}

#[test]
fn a_response_is_scored_at_its_last_token_and_not_after_it() {
    let reward = reward_model(json!({ "sequence": { "data": "preferences" } }), SPECIAL.eos);
    let setting = Setting { credit: Credit::EndOfSequence, reward, ..setting() };
    let (_, memory) = setting.with(&json!({ "gamma": 0.0, "gae_lambda": 0.0 })).run();
    let (reward, finished) = (metric(&memory, "reward"), metric(&memory, "finished"));
    for (step, (reward, finished)) in reward.iter().zip(&finished).enumerate() {
        assert!((reward - finished).abs() < 1e-3, "step {step}: reward {reward}, finished {finished}");
    }
    assert!(finished[0] < 0.8 && finished[15] > 0.95, "finished: {finished:?}");
}

#[test]
fn a_response_without_an_end_pays_for_it() {
    let mut setting = setting().with(&json!({ "missing_eos_penalty": 2.5, "steps": 2 }));
    setting.reward.model = setting.reward.model.with_head(1, 0.0, 0);
    let (_, memory) = setting.run();
    let (reward, finished) = (metric(&memory, "reward"), metric(&memory, "finished"));
    for (reward, finished) in reward.iter().zip(&finished) {
        assert!(*finished < 1.0 && (reward + 2.5 * (1.0 - finished)).abs() < 1e-9, "{reward}, {finished}");
    }
}

#[test]
fn training_starts_at_the_reference_whatever_the_temperature() {
    for temperature in [1.0, 0.7] {
        let once = json!({ "temperature": temperature, "epochs": 1, "minibatches": 1, "steps": 1 });
        let (_, memory) = setting().with(&once).run();
        assert!(last(&memory, "kl_nats").abs() < 1e-6, "KL at the start");
        assert!(last(&memory, "clip_fraction").abs() < 1e-9, "every ratio is one in the first update");
        // Ratios of one make the loss minus the mean of whitened advantages, which is zero.
        assert!(last(&memory, "policy_loss").abs() < 1e-5, "policy loss at the start");
        assert!(last(&memory, "policy_grad_norm") > 1e-3, "and yet there is something to learn");
    }
}

#[test]
fn the_value_model_trains_alone_during_its_warm_up() {
    let setting = setting().with(&json!({ "value_warmup_steps": 3, "steps": 3 }));
    let (trained, memory) = setting.run();
    assert_eq!(trained.policy.to_bytes(), language_model(1, 0.5).to_bytes());
    assert!(last(&memory, "value_grad_norm") > 0.0);
}

#[test]
fn a_policy_is_learned_the_same_after_a_kill() {
    let adaptive = json!({
        "steps": 5, "eval_every": 2, "kl_control": { "adaptive": { "target": 0.5, "horizon": 100 } },
    });
    let setting = Setting { kl_coef: 0.05, ..setting() }.with(&adaptive);
    let (shelf, memory) = (Shelf::every(2), Memory::default());
    let expected = setting.train(&shelf, &memory).unwrap();
    let coefficients = metric(&memory, "kl_coef");
    assert_ne!(coefficients[0].to_bits(), coefficients[4].to_bits(), "the coefficient is part of the state");
    let shelves = shelf.each();
    assert_eq!(shelves.len(), 2);
    for shelf in shelves {
        let step = shelf.from.as_ref().unwrap().0;
        let memory = Memory::default();
        let resumed = setting.train(&shelf, &memory).unwrap();
        assert_eq!(resumed.policy.to_bytes(), expected.policy.to_bytes(), "weights from step {step}");
        assert_eq!(resumed.snapshots, expected.snapshots);
        assert_eq!(resumed.suspicions, expected.suspicions);
        assert_eq!(metric(&memory, "kl_coef"), coefficients[step..]);
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let absurd = json!({ "value_optimizer": { "learning_rate": 1e30 } });
    let shelf = Shelf::every(1);
    let step = named_step(setting().with(&absurd).train(&shelf, &Memory::default()), "iteration");
    assert!(shelf.steps().iter().all(|&saved| saved < step));
}
