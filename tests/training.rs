//! What supervised and reward training must achieve, and must not do: tiny models learn tiny tasks, killed runs go on
//! as if nothing had happened, and a loss that is no number stops the run.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

#[path = "toy/runs.rs"]
mod runs;
mod toy;

use anyhow::Result;
use burn::tensor::Tensor;
use runner::compute::Crew;
use runner::events::{Emitter, Memory};
use runner::labels::Label;
use runner::model::checkpoint::{Checkpoints, Nowhere};
use runner::model::generate::{Sampling, sample};
use runner::model::{Model, Pair};
use runner::reward::pairs::{Comparison, Side};
use runner::reward::score::RewardModel;
use runner::reward::train::Examples;
use runner::reward::{self, Kind};
use runner::sft;
use runs::{Files, Shelf, metric, named_step};
use serde_json::json;
use toy::{SPECIAL, device, language_model, table};

/// The same bytes with every weight NaN.
fn poison(files: &mut Files, name: &str) {
    let model = language_model(1, 1.0);
    let nan = |w: &Tensor<2>| Tensor::full(w.dims(), f32::NAN, &device());
    let sick = Model { weights: model.weights.iter().map(nan).collect(), ..model };
    let file = files.iter_mut().find(|(file, _)| file == name).unwrap();
    file.1 = sick.to_bytes();
}

mod demonstrations {
    use super::*;

    fn examples() -> Vec<sft::Example> {
        [
            (vec![2, 3], vec![7, 8, 9, 1]),
            (vec![3, 2], vec![9, 8, 7, 6, 1]),
            (vec![4], vec![10, 10, 1]),
            (vec![5, 5, 5], vec![11, 1]),
        ]
        .map(|(prompt, response)| sft::Example::whole(prompt, response))
        .to_vec()
    }

    fn train(rate: f64, steps: usize, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<Model> {
        let config: sft::Config = table(json!({
            "steps": steps, "batch_size": 3,
            "optimizer": { "learning_rate": rate, "warmup_steps": 3 },
        }));
        let task = sft::Task { config: &config, examples: &examples(), pad: SPECIAL.pad, seed: 5, shards: 2.into() };
        sft::train(language_model(1, 1.0), &task, &Crew::new(1), &Emitter::new("sft", memory), checkpoints)
    }

    #[test]
    fn are_memorised() {
        let memory = Memory::default();
        let model = train(1e-2, 80, &Nowhere, &memory).unwrap();
        let loss = metric(&memory, "loss");
        assert!(loss[79] < 0.05 * loss[0], "from {} to {}", loss[0], loss[79]);
        let examples = examples();
        let prompts: Vec<&[u32]> = examples.iter().map(|example| example.prompt.as_slice()).collect();
        let greedy = sample(&model, &prompts, SPECIAL, Sampling::plain(0.0, 8), 0, &Crew::new(1), &|_| ());
        for (found, example) in greedy.iter().zip(&examples) {
            assert_eq!(found.ids, example.response);
        }
    }

    #[test]
    fn are_learned_the_same_after_a_kill() {
        let shelf = Shelf::every(4);
        let expected = train(1e-2, 13, &shelf, &Memory::default()).unwrap().to_bytes();
        let shelves = shelf.each();
        assert_eq!(shelves.len(), 3);
        for shelf in shelves {
            assert_eq!(train(1e-2, 13, &shelf, &Memory::default()).unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn stop_the_run_when_the_loss_is_no_number() {
        let shelf = Shelf::every(4);
        let step = named_step(train(1e30, 40, &shelf, &Memory::default()), "step");
        assert!(step > 1 && shelf.steps().iter().all(|&saved| saved < step));

        let shelf = Shelf::every(4);
        train(1e-2, 13, &shelf, &Memory::default()).unwrap();
        let mut shelves = shelf.each();
        let (mut last, mut sick) = (shelves.pop().unwrap(), shelves.pop().unwrap());
        poison(&mut sick.from.as_mut().unwrap().1, "model.safetensors");
        assert_eq!(named_step(train(1e-2, 13, &sick, &Memory::default()), "step"), 9);
        assert_eq!(sick.steps(), [0; 0], "the checkpoint is not replaced");

        // The last step has no loss after it that would tell.
        poison(&mut last.from.as_mut().unwrap().1, "model.safetensors");
        let error = train(1e-2, 12, &last, &Memory::default()).err().unwrap();
        assert!(format!("{error:#}").starts_with("after step 12: the norm of the weights `model` is NaN"), "{error:#}");
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
            let deletes = i.is_multiple_of(2);
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
            "epochs": 12, "batch_size": 16, "optimizer": { "learning_rate": rate },
        }));
        let pairs = comparisons(64, 0);
        let examples = Examples::Pairs(&pairs);
        let task = reward::train::Task { config: &config, kind, examples, pad: SPECIAL.pad, seed: 5, shards: 2.into() };
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
                    if label == Label::U { elsewhere.push(reward) } else { deleted.push(reward) }
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
        let shelf = Shelf::every(15);
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
