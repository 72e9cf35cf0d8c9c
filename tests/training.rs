//! What the trainers must achieve, and must not do: tiny models learn tiny tasks, killed runs go on as if nothing had
//! happened, and a loss that is no number stops the run.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

mod toy;

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use runner::compute::Crew;
use runner::events::{Emitter, Event, Memory};
use runner::labels::Label;
use runner::model::checkpoint::{Checkpoints, Nowhere};
use runner::model::generate::{Sampling, sample};
use runner::model::{Model, Pair};
use runner::ppo::shaping::Calibration;
use runner::ppo::train::Trained;
use runner::ppo::watch::Habits;
use runner::ppo::{self, Credit};
use runner::reward::score::RewardModel;
use runner::reward::train::{Comparison, Side};
use runner::reward::{self, Kind};
use runner::sft;
use serde_json::{Value, json};
use toy::{SPECIAL, VOCAB, architecture, device, language_model, table};

type Files = Vec<(String, Vec<u8>)>;

/// Keeps every checkpoint; hands out the one of step `from`.
#[derive(Default)]
struct Shelf {
    from: Option<(usize, Files)>,
    saved: Mutex<BTreeMap<usize, Files>>,
}

impl Shelf {
    /// A shelf that hands out what was saved at each step of `self`.
    fn each(self) -> Vec<Self> {
        let saved = self.saved.into_inner().unwrap();
        saved.into_iter().map(|state| Self { from: Some(state), ..Self::default() }).collect()
    }

    fn steps(&self) -> Vec<usize> {
        self.saved.lock().unwrap().keys().copied().collect()
    }
}

impl Checkpoints for Shelf {
    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()> {
        self.saved.lock().unwrap().insert(step, files.to_vec());
        Ok(())
    }

    fn latest(&self) -> Result<Option<(usize, Files)>> {
        Ok(self.from.clone())
    }
}

/// A metric's values in order of step.
fn metric(memory: &Memory, name: &str) -> Vec<f64> {
    let events = memory.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::Metrics { values, .. } => Some(values[name]),
            _ => None,
        })
        .collect()
}

/// The same bytes with every weight NaN.
fn poison(files: &mut Files, name: &str) {
    let model = language_model(1, 1.0);
    let nan = |w: &Tensor<2>| Tensor::full(w.dims(), f32::NAN, &device());
    let sick = Model { weights: model.weights.iter().map(nan).collect(), ..model };
    let file = files.iter_mut().find(|(file, _)| file == name).unwrap();
    file.1 = sick.to_bytes();
}

/// Asserts that an error names a step, and returns it.
fn named_step<T>(result: Result<T>, word: &str) -> usize {
    let error = result.err().expect("a loss that is no number stops the run").to_string();
    let (before, after) = error.split_once(&format!("at {word} ")).expect("the error names the step");
    assert!(before.contains("NaN") || before.contains("inf"), "{error}");
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

mod demonstrations {
    use super::*;

    fn examples() -> Vec<(Vec<u32>, Vec<u32>)> {
        vec![
            (vec![2, 3], vec![7, 8, 9, 1]),
            (vec![3, 2], vec![9, 8, 7, 6, 1]),
            (vec![4], vec![10, 10, 1]),
            (vec![5, 5, 5], vec![11, 1]),
        ]
    }

    fn train(rate: f64, steps: usize, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<Model> {
        let config: sft::Config = table(json!({
            "steps": steps, "batch_size": 3, "checkpoint_every": 4, "optimizer": { "learning_rate": rate, "warmup_steps": 3 },
        }));
        let task = sft::Task { config: &config, examples: &examples(), pad: SPECIAL.pad, seed: 5, shards: 2 };
        sft::train(language_model(1, 1.0), &task, &Crew::new(1), &Emitter::new("sft", memory), checkpoints)
    }

    #[test]
    fn are_memorised() {
        let memory = Memory::default();
        let model = train(1e-2, 80, &Nowhere, &memory).unwrap();
        let loss = metric(&memory, "loss");
        assert!(loss[79] < 0.05 * loss[0], "from {} to {}", loss[0], loss[79]);
        let examples = examples();
        let prompts: Vec<&[u32]> = examples.iter().map(|(prompt, _)| prompt.as_slice()).collect();
        let greedy = sample(&model, &prompts, SPECIAL, Sampling::plain(0.0, 8), 0, &Crew::new(1), &|_| ());
        assert_eq!(greedy, examples.iter().map(|(_, response)| response.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn are_learned_the_same_after_a_kill() {
        let shelf = Shelf::default();
        let expected = train(1e-2, 13, &shelf, &Memory::default()).unwrap().to_bytes();
        let shelves = shelf.each();
        assert_eq!(shelves.len(), 3);
        for shelf in shelves {
            assert_eq!(train(1e-2, 13, &shelf, &Memory::default()).unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn stop_the_run_when_the_loss_is_no_number() {
        let shelf = Shelf::default();
        let step = named_step(train(1e30, 40, &shelf, &Memory::default()), "step");
        assert!(step > 1 && shelf.steps().iter().all(|&saved| saved < step));

        let shelf = Shelf::default();
        train(1e-2, 13, &shelf, &Memory::default()).unwrap();
        let mut sick = shelf.each().swap_remove(1);
        poison(&mut sick.from.as_mut().unwrap().1, "model.safetensors");
        assert_eq!(named_step(train(1e-2, 13, &sick, &Memory::default()), "step"), 9);
        assert_eq!(sick.steps(), [0; 0], "the checkpoint is not replaced");
    }
}

mod rewards {
    use super::*;

    /// What the edits take out.
    const BAD: u32 = 9;

    /// Pairs of a response with `BAD` added or put in some token's place and the same response without.
    fn comparisons(count: u32, salt: u32) -> Vec<Comparison> {
        let comparison = |i: u32| {
            let noise = |j: u32| 2 + (i * 31 + j * 17 + i * j * 5 + salt) % 7;
            let chosen: Vec<u32> = (0..3 + i % 3).map(noise).chain([SPECIAL.eos]).collect();
            let at = (i / 2) as usize % (chosen.len() - 1);
            let (mut rejected, mut kept) = (chosen.clone(), vec![Label::U; chosen.len()]);
            // Deletions alone could be explained by one low reward for everything.
            let deletes = i % 2 == 0;
            if deletes {
                rejected.insert(at, BAD);
            } else {
                rejected[at] = BAD;
                kept[at] = Label::S;
            }
            let mut labels = vec![Label::U; rejected.len()];
            labels[at] = if deletes { Label::D } else { Label::S };
            Comparison {
                prompt: vec![noise(9), noise(10)],
                chosen: Side { ids: chosen, labels: kept },
                rejected: Side { ids: rejected, labels },
            }
        };
        (0..count).map(comparison).collect()
    }

    fn train(kind: &Kind, rate: f64, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<RewardModel> {
        let config: reward::Config = table(json!({
            "epochs": 12, "batch_size": 16, "checkpoint_every": 15, "optimizer": { "learning_rate": rate },
        }));
        let pairs = comparisons(64, 0);
        let task = reward::train::Task { config: &config, kind, pairs: &pairs, pad: SPECIAL.pad, seed: 5, shards: 2 };
        let trunk = language_model(1, 1.0);
        reward::train::train(&trunk, &task, &Crew::new(1), &Emitter::new("reward", memory), checkpoints)
    }

    fn token(loss: &str) -> Kind {
        table(json!({ "token": { "loss": loss } }))
    }

    fn held_out(side: impl Fn(&Comparison) -> &Side, model: &RewardModel) -> (Vec<f64>, Vec<Vec<f64>>) {
        let pairs = comparisons(40, 3);
        let rows: Vec<Pair> =
            pairs.iter().map(|pair| Pair { prompt: &pair.prompt, response: &side(pair).ids }).collect();
        let crew = Crew::new(1);
        (model.scores(&rows, SPECIAL.pad, &crew), model.token_rewards(&rows, SPECIAL.pad, &crew))
    }

    /// Share of held-out pairs that are scored the right way round.
    fn accuracy(model: &RewardModel) -> f64 {
        let (better, worse) = (held_out(|pair| &pair.chosen, model).0, held_out(|pair| &pair.rejected, model).0);
        better.iter().zip(&worse).filter(|(a, b)| a > b).count() as f64 / better.len() as f64
    }

    #[test]
    fn of_whole_responses_tell_good_from_bad() {
        let memory = Memory::default();
        let model = train(&table(json!({ "sequence": { "data": "preferences" } })), 1e-2, &Nowhere, &memory).unwrap();
        let loss = metric(&memory, "loss");
        assert!(loss[47] < 0.2 * loss[0], "from {} to {}", loss[0], loss[47]);
        assert!(accuracy(&model) > 0.9, "held-out accuracy {}", accuracy(&model));
    }

    #[test]
    fn of_tokens_are_lower_where_the_edit_takes_out() {
        let losses = ["pairwise_mean", "pairwise_sum", "pairwise_edited_only", "pairwise_edited_anchored", "tlcr"];
        for loss in losses {
            let memory = Memory::default();
            let model = train(&token(loss), 1e-2, &Nowhere, &memory).unwrap();
            let curve = metric(&memory, "loss");
            assert!(curve[47] < curve[0], "{loss}: from {} to {}", curve[0], curve[47]);
            let (mut deleted, mut elsewhere) = (Vec::new(), Vec::new());
            let (_, rewards) = held_out(|pair| &pair.rejected, &model);
            for (pair, rewards) in comparisons(40, 3).iter().zip(rewards) {
                assert_eq!(rewards.len(), pair.rejected.ids.len(), "one reward a token, none for padding");
                for (&label, reward) in pair.rejected.labels.iter().zip(rewards) {
                    if label != Label::U { deleted.push(reward) } else { elsewhere.push(reward) }
                }
            }
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
            let (deleted, elsewhere) = (mean(&deleted), mean(&elsewhere));
            assert!(deleted < elsewhere - 0.5, "{loss}: {deleted} where taken out, {elsewhere} elsewhere");
            if loss == "pairwise_edited_anchored" {
                assert!(deleted < -1.0 && elsewhere.abs() < 0.3, "{deleted} where taken out, {elsewhere} elsewhere");
            }
            if loss == "tlcr" {
                assert!(deleted < -0.8, "2p - 1 reaches towards -1: {deleted}");
            }
        }
    }

    #[test]
    fn are_learned_the_same_after_a_kill() {
        let shelf = Shelf::default();
        let kind = token("pairwise_edited_anchored");
        let expected = train(&kind, 1e-2, &shelf, &Memory::default()).unwrap().model.to_bytes();
        let shelves = shelf.each();
        assert_eq!(shelves.len(), 3);
        for shelf in shelves {
            assert_eq!(train(&kind, 1e-2, &shelf, &Memory::default()).unwrap().model.to_bytes(), expected);
        }
    }

    #[test]
    fn stop_the_run_when_the_loss_is_no_number() {
        let step = named_step(train(&token("pairwise_sum"), 1e30, &Nowhere, &Memory::default()), "step");
        assert!(step > 1);
    }
}

mod policies {
    use super::*;

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
        RewardModel { kind: table(kind), model }
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
                "checkpoint_every": 2, "policy_optimizer": { "learning_rate": 5e-3 },
                "value_optimizer": { "learning_rate": 5e-3 },
            }),
            kl_coef: 0.0,
            credit: Credit::PerToken,
            reward: reward_model(per_token(), GOOD),
        }
    }

    impl Setting {
        fn with(mut self, changes: Value) -> Self {
            for (key, value) in changes.as_object().unwrap() {
                self.config[key] = value.clone();
            }
            self
        }

        fn train(&self, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<Trained> {
            let config: ppo::Config = table(self.config.clone());
            let prompts: Vec<Vec<u32>> = (0..40).map(|i| (0..=i % 4).map(|j| 2 + (i + j) % 10).collect()).collect();
            let task = ppo::train::Task {
                config: &config,
                kl_coef: self.kl_coef,
                credit: self.credit,
                reward: &self.reward,
                calibration: Calibration { center: 0.0, scale: 1.0 },
                habits: Habits { length: 6.0, repeats: 0.0 },
                prompts: &prompts,
                validation: &prompts,
                special: SPECIAL,
                max_response: 8,
                seed: 3,
                shards: 2,
            };
            ppo::train::train(&language_model(1, 0.5), &task, &Crew::new(1), &Emitter::new("ppo", memory), checkpoints)
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
    fn raise_the_rate_of_a_rewarded_token_and_the_kl_penalty_holds_them_back() {
        let (free, memory) = setting().run();
        assert!(rate(&free, GOOD) > 0.5, "the token's share is {}", rate(&free, GOOD));
        let (held, held_memory) = Setting { kl_coef: 1.0, ..setting() }.run();
        assert!(rate(&held, GOOD) < 0.7 * rate(&free, GOOD), "{} and {}", rate(&held, GOOD), rate(&free, GOOD));
        let (kl, held_kl) = (last(&memory, "kl_nats"), last(&held_memory, "kl_nats"));
        assert!(held_kl < 0.5 * kl, "KL {held_kl} with the penalty, {kl} without");
    }

    #[test]
    fn credit_a_tokens_reward_to_the_action_that_emits_it() {
        // Without a look ahead an action is paid for its own token alone: were rewards shifted by one, the rewarded
        // token would be no better than any other.
        let (trained, _) = setting().with(json!({ "gamma": 0.0, "gae_lambda": 0.0 })).run();
        assert!(rate(&trained, GOOD) > 0.5, "the token's share is {}", rate(&trained, GOOD));
    }

    #[test]
    fn are_scored_at_the_last_token_and_not_after_it() {
        let reward = reward_model(json!({ "sequence": { "data": "preferences" } }), SPECIAL.eos);
        let setting = Setting { credit: Credit::EndOfSequence, reward, ..setting() };
        let (_, memory) = setting.with(json!({ "gamma": 0.0, "gae_lambda": 0.0 })).run();
        let (reward, finished) = (metric(&memory, "reward"), metric(&memory, "finished"));
        for (step, (reward, finished)) in reward.iter().zip(&finished).enumerate() {
            assert!((reward - finished).abs() < 1e-3, "step {step}: reward {reward}, finished {finished}");
        }
        assert!(finished[0] < 0.8 && finished[15] > 0.95, "finished: {finished:?}");
    }

    #[test]
    fn pay_for_responses_without_an_end() {
        let mut setting = setting().with(json!({ "missing_eos_penalty": 2.5, "steps": 2 }));
        setting.reward.model = setting.reward.model.with_head(1, 0.0, 0);
        let (_, memory) = setting.run();
        let (reward, finished) = (metric(&memory, "reward"), metric(&memory, "finished"));
        for (reward, finished) in reward.iter().zip(&finished) {
            assert!(*finished < 1.0 && (reward + 2.5 * (1.0 - finished)).abs() < 1e-9, "{reward}, {finished}");
        }
    }

    #[test]
    fn start_at_the_reference_whatever_the_temperature() {
        for temperature in [1.0, 0.7] {
            let once = json!({ "temperature": temperature, "epochs": 1, "minibatches": 1, "steps": 1 });
            let (_, memory) = setting().with(once).run();
            assert!(last(&memory, "kl_nats").abs() < 1e-6, "KL at the start");
            assert!(last(&memory, "clip_fraction").abs() < 1e-9, "every ratio is one in the first update");
            // Ratios of one make the loss minus the mean of whitened advantages, which is zero.
            assert!(last(&memory, "policy_loss").abs() < 1e-5, "policy loss at the start");
            assert!(last(&memory, "policy_grad_norm") > 1e-3, "and yet there is something to learn");
        }
    }

    #[test]
    fn train_the_value_model_alone_during_its_warm_up() {
        let setting = setting().with(json!({ "value_warmup_steps": 3, "steps": 3 }));
        let (trained, memory) = setting.run();
        assert_eq!(trained.policy.to_bytes(), language_model(1, 0.5).to_bytes());
        assert!(last(&memory, "value_grad_norm") > 0.0);
    }

    #[test]
    fn are_learned_the_same_after_a_kill() {
        let adaptive = json!({
            "steps": 5, "eval_every": 2, "kl_control": { "adaptive": { "target": 0.5, "horizon": 100 } },
        });
        let setting = Setting { kl_coef: 0.05, ..setting() }.with(adaptive);
        let (shelf, memory) = (Shelf::default(), Memory::default());
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
    fn stop_the_run_when_a_loss_is_no_number() {
        let absurd = json!({ "value_optimizer": { "learning_rate": 1e30 }, "checkpoint_every": 1 });
        let shelf = Shelf::default();
        let step = named_step(setting().with(absurd).train(&shelf, &Memory::default()), "iteration");
        assert!(shelf.steps().iter().all(|&saved| saved < step));
    }
}
