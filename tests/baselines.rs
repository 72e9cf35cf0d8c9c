//! The baselines beside PPO: direct preference optimisation and best-of-n, learning what they must on tiny models, and as
//! variants of a recipe through the real binary.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "toy/runs.rs"]
mod runs;
#[allow(dead_code, reason = "other tests use the rest")]
mod tiny;
#[allow(dead_code, reason = "other tests use the rest")]
mod toy;

use std::fs;

use anyhow::Result;
use runner::compute::Crew;
use runner::dpo;
use runner::events::{Emitter, Memory};
use runner::labels::Label;
use runner::model::checkpoint::{Checkpoints, Nowhere};
use runner::model::generate::{Sampling, sample};
use runner::model::{Batch, Model, Pair};
use runner::reward;
use runner::reward::pairs::{Comparison, Side};
use runner::reward::score::best;
use runner::reward::train::Examples;
use runs::{Shelf, metric};
use serde_json::{Value, json};
use tiny::Lab;
use toy::{SPECIAL, language_model, table};

/// The token that nobody wants; it is in about every fifth response of the policy.
const BAD: u32 = 9;

fn policy() -> Model {
    language_model(1, 1.0)
}

fn samples(model: &Model, prompts: &[Vec<u32>], seed: u64) -> Vec<Vec<u32>> {
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampled = sample(model, &rows, SPECIAL, Sampling::plain(1.0, 6), seed, &Crew::new(1), &|_| ());
    sampled.into_iter().map(|response| response.ids).collect()
}

fn prompts(count: u32) -> Vec<Vec<u32>> {
    (0..count).map(|i| vec![2 + i % 5, 3 + i % 4]).collect()
}

fn bad(ids: &[u32]) -> usize {
    ids.iter().filter(|id| **id == BAD).count()
}

/// Two samples of the policy to each prompt; the one with fewer bad tokens is preferred.
fn preferences() -> Vec<Comparison> {
    let prompts = prompts(120);
    let sides = [1, 2].map(|seed| samples(&policy(), &prompts, seed));
    let side = |ids: &Vec<u32>| Side { ids: ids.clone(), labels: Vec::new() };
    let pair = |(i, prompt): (usize, &Vec<u32>)| {
        let mut pair = [&sides[0][i], &sides[1][i]];
        pair.sort_by_key(|ids| bad(ids));
        let differ = bad(pair[0]) < bad(pair[1]);
        differ.then(|| Comparison { prompt: prompt.clone(), chosen: side(pair[0]), rejected: side(pair[1]) })
    };
    prompts.iter().enumerate().filter_map(pair).collect()
}

/// Samples of the policy with bad tokens, and the same with these taken out.
fn edits() -> Vec<Comparison> {
    let prompts = prompts(120);
    let rejected = samples(&policy(), &prompts, 1);
    let pair = |(prompt, ids): (&Vec<u32>, Vec<u32>)| {
        let kept: Vec<u32> = ids.iter().copied().filter(|id| *id != BAD).collect();
        let labels = ids.iter().map(|id| if *id == BAD { Label::D } else { Label::U }).collect();
        let is_edit = !kept.is_empty() && kept.len() < ids.len();
        let chosen = Side { labels: vec![Label::U; kept.len()], ids: kept };
        is_edit.then(|| Comparison { prompt: prompt.clone(), chosen, rejected: Side { ids, labels } })
    };
    prompts.iter().zip(rejected).filter_map(pair).collect()
}

fn optimised(pairs: &[Comparison], beta: f64, checkpoints: &dyn Checkpoints, memory: &Memory) -> Result<Model> {
    let config: dpo::Config = table(json!({
        "data": "preferences", "beta": beta, "epochs": 12, "batch_size": 16, "optimizer": { "learning_rate": 3e-3 },
    }));
    let reference = policy();
    let task =
        dpo::Task { config: &config, beta, reference: &reference, pairs, pad: SPECIAL.pad, seed: 5, shards: 2.into() };
    dpo::train(reference.clone(), &task, &Crew::new(1), &Emitter::new("dpo", memory), checkpoints)
}

/// Bad tokens in a fresh response.
fn rate(model: &Model) -> f64 {
    let responses = samples(model, &prompts(300), 3);
    responses.iter().map(|ids| bad(ids) as f64).sum::<f64>() / 300.0
}

#[test]
fn dpo_learns_from_preferences_and_from_edits() {
    let before = rate(&policy());
    for (data, pairs) in [("preferences", preferences()), ("edits", edits())] {
        let memory = Memory::default();
        let model = optimised(&pairs, 0.5, &Nowhere, &memory).unwrap();
        let (loss, accuracy) = (metric(&memory, "loss"), metric(&memory, "train_accuracy"));
        // At the reference both log-ratios are zero.
        assert!((loss[0] - 2_f64.ln()).abs() < 1e-5, "{data}: {}", loss[0]);
        let (last, right) = (loss[loss.len() - 1], accuracy[accuracy.len() - 1]);
        assert!(last < 0.5 * loss[0] && right > 0.85, "{data}: loss {last}, accuracy {right} on {} pairs", pairs.len());
        let after = rate(&model);
        assert!(after < 0.4 * before, "{data}: from {before} bad tokens a response to {after}");
    }
}

/// KL to the reference in nats a response, by k1 on fresh samples.
fn kl(model: &Model) -> f64 {
    let prompts = prompts(300);
    let responses = samples(model, &prompts, 3);
    let rows: Vec<Pair> = prompts.iter().zip(&responses).map(|(prompt, response)| Pair { prompt, response }).collect();
    let batch = Batch::new(&rows, SPECIAL.pad, &model.device());
    let ratios = (model.log_probs(&batch, 1.0) - policy().log_probs(&batch, 1.0)) * batch.response_mask;
    f64::from(ratios.sum().into_scalar::<f32>()) / 300.0
}

#[test]
fn a_larger_beta_stays_nearer_to_the_reference() {
    let pairs = preferences();
    let [near, far] = [5.0, 0.05].map(|beta| kl(&optimised(&pairs, beta, &Nowhere, &Memory::default()).unwrap()));
    assert!(near > 0.05 && near < 0.5 * far, "{near} nats with a beta of 5, {far} with one of 0.05");
}

#[test]
fn dpo_is_learned_the_same_after_a_kill() {
    let (pairs, shelf) = (preferences(), Shelf::every(8));
    let expected = optimised(&pairs, 0.1, &shelf, &Memory::default()).unwrap().to_bytes();
    let shelves = shelf.each();
    assert!(shelves.len() >= 2, "{} checkpoints", shelves.len());
    for shelf in shelves {
        assert_eq!(optimised(&pairs, 0.1, &shelf, &Memory::default()).unwrap().to_bytes(), expected);
    }
}

/// Share of 200 prompts to which the best of n samples, by a reward model of `kind` that learned from `pairs`, has a bad token.
fn best_of(kind: Value, pairs: &[Comparison]) -> [f64; 3] {
    let config: reward::Config =
        table(json!({ "epochs": 16, "batch_size": 16, "optimizer": { "learning_rate": 1e-2 } }));
    let (kind, crew): (reward::Kind, _) = (table(kind), Crew::new(1));
    let task = reward::train::Task {
        config: &config,
        kind: &kind,
        examples: Examples::Pairs(pairs),
        pad: SPECIAL.pad,
        seed: 5,
        shards: 2.into(),
    };
    let memory = Memory::default();
    let model = reward::train::train(&policy(), &task, &crew, &Emitter::new("reward", &memory), &Nowhere).unwrap();
    [1, 4, 16].map(|n| {
        let prompts: Vec<Vec<u32>> =
            prompts(200).into_iter().flat_map(|prompt| std::iter::repeat_n(prompt, n)).collect();
        let samples = samples(&policy(), &prompts, 7);
        let rows: Vec<Pair> =
            prompts.iter().zip(&samples).map(|(prompt, response)| Pair { prompt, response }).collect();
        let scores = model.scores(&rows, SPECIAL.pad, &crew);
        let chosen = samples.chunks(n).zip(scores.chunks(n)).map(|(samples, scores)| &samples[best(scores).unwrap()]);
        chosen.filter(|ids| bad(ids) > 0).count() as f64 / 200.0
    })
}

#[test]
fn the_best_of_more_samples_is_better_by_every_kind_of_reward_model() {
    let (preferences, edits) = (preferences(), edits());
    let token = |loss: &str| json!({ "token": { "loss": loss } });
    let sequence = |data: &str| json!({ "sequence": { "data": data } });
    let kinds = [
        (sequence("preferences"), &preferences),
        (sequence("edits"), &edits),
        (token("pairwise_mean"), &edits),
        (token("pairwise_sum"), &edits),
        (token("pairwise_edited_only"), &edits),
        (token("pairwise_edited_anchored"), &edits),
        (token("tlcr"), &edits),
    ];
    for (kind, pairs) in kinds {
        let [one, four, sixteen] = best_of(kind.clone(), pairs);
        let said = format!("{kind}: {one} with a bad token of one, {four} of four, {sixteen} of sixteen");
        assert!(one > 0.15 && four < 0.5 * one && sixteen < 0.25 * one, "{said}");
    }
}

/// The tiny recipe with all four beside PPO.
fn lab() -> Lab {
    let lab = Lab::new();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let more = r#"
[[variants]]
name = "best_sequence"
reward = { sequence = { data = "preferences" } }
best_of_n = { n = 4 }

[[variants]]
name = "best_token"
reward = { token = { loss = "pairwise_edited_anchored" } }
best_of_n = { n = 4 }

[[variants]]
name = "dpo"
dpo = { data = "preferences", beta = [0.1, 0.5], epochs = 2, batch_size = 4, optimizer = { learning_rate = 1e-3 } }

[[variants]]
name = "dpo_edits"
dpo = { data = "edits", beta = 0.1, epochs = 2, batch_size = 4, optimizer = { learning_rate = 1e-3 } }
"#;
    lab.write("tiny.toml", &format!("{recipe}{more}"));
    lab
}

#[test]
fn baselines_are_variants_in_the_comparison_table() {
    let lab = lab();
    let plan = lab.said(&["plan", "tiny.toml"]).fine().out;
    let stages = |kind: &str| plan.lines().filter(|line| line.starts_with(&format!("{kind}/"))).count();
    // Reward models are shared with PPO's variants; of DPO one policy for each beta.
    assert_eq!((stages("reward"), stages("ppo"), stages("dpo"), stages("best_of_n")), (2, 2, 3, 2), "{plan}");
    let said = lab.said(&["run", "tiny.toml"]).fine();
    let report: Value =
        serde_json::from_str(&fs::read_to_string(lab.path("reports/tiny/report.json")).unwrap()).unwrap();
    let variants = report["variants"].as_array().unwrap();
    let names: Vec<&str> = variants.iter().map(|variant| variant["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sequence", "token", "best_sequence", "best_token", "dpo", "dpo_edits"]);
    assert!(names.iter().all(|name| said.out.contains(name)), "{}", said.out);
    assert_eq!(report["comparisons"].as_array().unwrap().len(), 15);
    let (best, dpo) = (&variants[2], &variants[4]);
    let bound = 4_f64.ln() - 0.75;
    assert!((best["kl_nats"].as_f64().unwrap() - bound).abs() < 1e-12, "{best}");
    assert_eq!((&best["kl_coef"], &best["kl"], &best["mean_reward"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!([0.1, 0.5].contains(&dpo["kl_coef"].as_f64().unwrap()) && dpo["kl"]["sequence_k1"].is_number(), "{dpo}");
    let again = lab.said(&["run", "tiny.toml"]).fine();
    assert!(again.err.contains("nothing to do") || again.out.contains("nothing to do"), "{}{}", again.out, again.err);
}

#[test]
fn a_variant_says_in_one_way_how_it_comes_by_its_responses() {
    let lab = lab();
    let said = |change: &str| {
        let said = lab.said(&["check", "tiny.toml", "--set", change]);
        assert_eq!(said.code, Some(2), "{}", said.out);
        said.err
    };
    let both = "does not say in one way how it comes by its responses";
    assert!(said("variants.dpo.credit=per_token").contains(both));
    assert!(said("variants.token.best_of_n={n=4}").contains(both));
    assert!(said("variants.dpo.dpo.beta=0").contains("variant `dpo`: a beta of DPO is above 0"));
    assert!(said("variants.best_token.best_of_n.n=0").contains("at least 1"));
    assert!(said("variants.dpo.length_penalty=0.1").contains("only a reward that PPO is paid reads `length_penalty`"));
    assert!(said("variants.best_token.reward={tppo={}}").contains("a sequence or a token reward chooses the best"));
    assert!(
        said("variants.dpo.dpo.optimizer.beta2=1").contains("`beta2` in `[variants.4.dpo.optimizer]` must be below 1")
    );
}
