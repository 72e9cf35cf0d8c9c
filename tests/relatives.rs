//! The relatives of the token reward model: word scores (TPPO) and error spans by category (Fine-Grained RLHF). Formulas
//! against numpy, learning on tiny tasks, and whole runs with both, in several rounds of annotation.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is a message")]

#[allow(dead_code, reason = "every test uses a part")]
#[path = "toy/runs.rs"]
mod runs;
#[allow(dead_code, reason = "every test uses a part")]
mod tiny;
mod toy;
#[allow(dead_code, reason = "every test uses a part")]
mod vectors;

use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use runner::compute::Crew;
use runner::events::{Emitter, Memory};
use runner::labels::spans::{Segments, Span};
use runner::model::Pair;
use runner::model::checkpoint::Nowhere;
use runner::ppo::Credit;
use runner::ppo::shaping::{Calibration, LengthPenalty, Member, Part, Reward, weighted};
use runner::reward::loss::span_cross_entropy;
use runner::reward::score::{RewardModel, rewards};
use runner::reward::spans::Marked;
use runner::reward::train::{Examples, Task, train};
use runner::reward::words::{Scored, Targets};
use runner::reward::{self, Kind, Tppo};
use runs::metric;
use serde_json::{Value, from_value, json};
use tiny::Lab;
use toy::{SPECIAL, VOCAB, architecture, device, language_model, table};
use vectors::{DOUBLE, SINGLE, close, grid, host, list, number, rows, tracked};

/// The cases that `tests/references/relatives.py` wrote.
fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/relatives.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases: Vec<Value> = from_value(all[name].clone()).unwrap();
    assert!(!cases.is_empty(), "no cases of `{name}`");
    cases
}

/// A cube of numbers, flat, with its shape.
fn cube(value: &Value) -> (Vec<f64>, [usize; 3]) {
    let cube: Vec<Vec<Vec<f64>>> = from_value(value.clone()).unwrap();
    let shape = [cube.len(), cube[0].len(), cube[0][0].len()];
    (cube.concat().concat(), shape)
}

#[test]
fn word_scores_cost_what_numpy_says() {
    for case in cases("tppo") {
        eprintln!("{}", case["name"]);
        let mut tppo = json!({ "lambda_local": case["lambda_local"], "lambda_global": case["lambda_global"] });
        if !case["class_weights"].is_null() {
            tppo["class_weights"] = case["class_weights"].clone();
        }
        let kind: Kind = table(json!({ "tppo": tppo.clone() }));
        let tppo: Tppo = table(tppo);
        let scores: Vec<Vec<i64>> = from_value(case["scores"].clone()).unwrap();
        let sentences: Vec<u8> = from_value(case["sentences"].clone()).unwrap();
        let examples = scores.iter().zip(sentences).map(|(scores, sentence)| Scored {
            prompt: vec![2],
            ids: vec![3; scores.len()],
            scores: scores.iter().map(|&score| u8::try_from(score).ok()).collect(),
            sentence,
        });
        let examples: Vec<Scored> = examples.collect();
        let batch: Vec<&Scored> = examples.iter().collect();
        let (values, shape) = cube(&case["logits"]);
        let logits = tracked(&values, shape);
        let totals = tppo.totals(&examples, &batch);
        let loss = tppo.loss(logits.clone(), Targets::of(&batch, &totals, shape[1], &device()));
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        let gradient = logits.grad(&loss.backward()).unwrap();
        close(&host(&gradient), &cube(&case["gradient"]).0, SINGLE, "gradient");

        let found = host(&rewards(&kind, logits.inner()));
        let expected = rows(&case["rewards"]);
        for (i, expected) in expected.iter().enumerate() {
            let row = &found[i * shape[1]..][..expected.len()];
            close(row, expected, SINGLE, "rewards");
            close(&[kind.score(row)], &[list(&case["score"])[i]], SINGLE, "score");
        }
    }
}

#[test]
fn spans_cost_and_pay_what_numpy_says() {
    for case in cases("spans") {
        eprintln!("{}", case["name"]);
        let kind: Kind = table(json!({ "spans": { "clean": case["clean"] } }));
        let values = rows(&case["logits"]);
        let shape = [values.len(), values[0].len()];
        let (ends, errors): (Vec<Vec<usize>>, Vec<Vec<bool>>) =
            (from_value(case["ends"].clone()).unwrap(), from_value(case["errors"].clone()).unwrap());
        let mut signs = vec![0.0; shape[0] * shape[1]];
        for (i, (ends, errors)) in ends.iter().zip(&errors).enumerate() {
            for (&end, &error) in ends.iter().zip(errors) {
                signs[i * shape[1] + end] = if error { 1.0 } else { -1.0 };
            }
        }
        let logits = tracked(&values.concat(), shape);
        let loss = span_cross_entropy(logits.clone(), grid(&signs, shape), ends.concat().len());
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        let gradient = logits.grad(&loss.backward()).unwrap();
        close(&host(&gradient), &rows(&case["gradient"]).concat(), SINGLE, "gradient");

        let found = host(&rewards(&kind, logits.inner().reshape([shape[0], shape[1], 1])));
        for (i, (expected, ends)) in rows(&case["rewards"]).iter().zip(&ends).enumerate() {
            let at_ends: Vec<f64> = ends.iter().map(|&end| found[i * shape[1] + end]).collect();
            let expected: Vec<f64> = ends.iter().map(|&end| expected[end]).collect();
            close(&at_ends, &expected, SINGLE, "rewards");
        }
    }
}

/// A model that says of each token what `values` says of its id: embeddings on a circle, attention and MLPs silent.
fn lookup(values: &[f64]) -> RewardModel {
    let mut model = language_model(1, 1.0).with_head(1, 0.0, 0);
    let h = architecture().hidden_size.get();
    let mut embedding = vec![0_f32; VOCAB * h];
    for (id, &value) in values.iter().enumerate() {
        embedding[id * h] = value as f32;
        embedding[id * h + 1] = (1.0 - value * value).sqrt() as f32;
    }
    let tensor = |data: Vec<f32>, shape: [usize; 2]| Tensor::from_data(TensorData::new(data, shape), &device());
    model.weights[0] = tensor(embedding, [VOCAB, h]);
    for (name, weight) in model.names().iter().zip(model.weights.iter_mut()) {
        if name.ends_with("o_proj") || name.ends_with("down_proj") {
            *weight = weight.zeros_like();
        }
    }
    // The final norm makes one the root of the width.
    let mut head = vec![0.0; h];
    head[0] = (h as f32).sqrt().recip();
    *model.weights.last_mut().unwrap() = tensor(head, [h, 1]);
    RewardModel::new(table(json!({ "token": { "loss": "pairwise_sum" } })), model)
}

#[test]
fn a_weighted_sum_is_calibrated_as_one_and_late_tokens_cost() {
    for case in cases("summed") {
        eprintln!("{}", case["name"]);
        let weights = list(&case["weights"]);
        let members: Vec<Member> = rows(&case["tables"])
            .iter()
            .zip(&weights)
            .map(|(values, &weight)| Member { model: lookup(values), weight })
            .collect();
        let (samples, response): (Vec<Vec<u32>>, Vec<u32>) =
            (from_value(case["samples"].clone()).unwrap(), from_value(case["response"].clone()).unwrap());
        let pair = |response| Pair { prompt: &[2], response };
        let crew = Crew::new(1);
        let raw = weighted(&members, &samples.iter().map(|ids| pair(ids)).collect::<Vec<_>>(), SPECIAL.pad, &crew);
        let calibration = Calibration::measure(&members[0].model.kind, Credit::PerToken, &raw);
        // The norm's epsilon moves the fifth digit.
        close(&[calibration.scale], &[number(&case["scale"])], 1e-4, "scale");
        let penalty = LengthPenalty::beyond_median(samples.iter().map(Vec::len), number(&case["penalty"]));
        assert_eq!(json!(penalty.free_tokens), case["free_tokens"]);
        let part = |Member { model, weight }| Part { model, credit: Credit::PerToken, calibration, weight };
        let mut parts = members.into_iter().map(part);
        let reward = Reward::new(parts.next().unwrap(), parts.collect()).with_length_penalty(Some(penalty));
        let found = reward.rewards(&[pair(&response)], SPECIAL.pad, &crew);
        close(&found[0], &list(&case["rewards"]), 1e-4, "rewards");
        let total: f64 = found[0].iter().sum();
        close(&reward.returns(&[pair(&response)], SPECIAL.pad, &crew), &[total], DOUBLE, "return");
    }
}

/// What is bad.
const BAD: u32 = 9;
/// What is good.
const GOOD: u32 = 7;
/// What ends a span.
const STOP: u32 = 6;

fn response(i: u32, salt: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(salt);
    rng.set_stream(i.into());
    let token = |_| [2, 3, 4, 5, 8, BAD, GOOD, STOP][rng.random_range(0..8)];
    (0..6 + i % 4).map(token).chain([SPECIAL.eos]).collect()
}

fn learn(kind: &Kind, examples: Examples) -> (RewardModel, Vec<f64>) {
    let config: reward::Config = table(json!({
        "epochs": 20, "batch_size": 32, "optimizer": { "learning_rate": 1e-2, "final_learning_rate": 0.1 },
    }));
    let task = Task { config: &config, kind, examples, pad: SPECIAL.pad, seed: 5, shards: 2.into() };
    let memory = Memory::default();
    let emitter = Emitter::new("reward", &memory);
    let model = train(&language_model(1, 1.0), &task, &Crew::new(1), &emitter, &Nowhere).unwrap();
    (model, metric(&memory, "train_accuracy"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[test]
fn word_scores_teach_which_tokens_are_good_and_bad() {
    let scored = |i: u32, salt: u64| {
        let ids = response(i, salt);
        let score = |&id: &u32| match id {
            BAD => Some(0),
            GOOD => Some(2),
            // Some tokens go without a score.
            STOP => None,
            _ => Some(1),
        };
        let scores: Vec<Option<u8>> = ids.iter().map(score).collect();
        let bad = ids.iter().filter(|&&id| id == BAD).count();
        let good = ids.iter().filter(|&&id| id == GOOD).count();
        let sentence = if bad > good { 0 } else { 1 + u8::from(good > bad) };
        Scored { prompt: vec![2, 2 + i % 7], ids, scores, sentence }
    };
    let examples: Vec<Scored> = (0..256).map(|i| scored(i, 0)).collect();
    let (model, accuracy) = learn(&table(json!({ "tppo": { "lambda_global": 0.1 } })), Examples::Scored(&examples));
    let last = accuracy[accuracy.len() - 1];
    assert!(last > 0.95, "of scored tokens {last} are told right");
    let held_out: Vec<Scored> = (0..40).map(|i| scored(i, 3)).collect();
    let pairs: Vec<Pair> = held_out.iter().map(|row| Pair { prompt: &row.prompt, response: &row.ids }).collect();
    let mut by_class = [const { Vec::new() }; 3];
    for (row, rewards) in held_out.iter().zip(model.token_rewards(&pairs, SPECIAL.pad, &Crew::new(1))) {
        for (score, reward) in row.scores.iter().zip(rewards) {
            assert!((-1.0..=1.0).contains(&reward), "{reward}");
            if let Some(score) = score {
                by_class[usize::from(*score)].push(reward);
            }
        }
    }
    let [bad, neither, good] = by_class.map(|rewards| mean(&rewards));
    assert!(bad < -0.6 && neither.abs() < 0.3 && good > 0.6, "{bad} {neither} {good}");
}

#[test]
fn error_spans_teach_which_spans_have_an_error() {
    let segments: Segments = from_value(json!({ "closes": [STOP], "opens": (0..VOCAB).collect::<Vec<_>>() })).unwrap();
    let marked = |i: u32, salt: u64| {
        let ids = response(i, salt);
        let (mut spans, mut first) = (Vec::new(), 0);
        for (last, _) in segments.ends(&ids).iter().enumerate().filter(|(_, ends)| **ends) {
            spans.push(Span { last, error: ids[first..=last].contains(&BAD) });
            first = last + 1;
        }
        Marked { prompt: vec![2, 2 + i % 7], ids, spans }
    };
    let examples: Vec<Marked> = (0..256).map(|i| marked(i, 0)).collect();
    let (mut model, accuracy) = learn(&table(json!({ "spans": { "clean": 0.0 } })), Examples::Marked(&examples));
    let last = accuracy[accuracy.len() - 1];
    assert!(last > 0.9, "of spans {last} are told right");
    model.segments = segments.clone();
    let held_out: Vec<Marked> = (0..40).map(|i| marked(i, 3)).collect();
    let pairs: Vec<Pair> = held_out.iter().map(|row| Pair { prompt: &row.prompt, response: &row.ids }).collect();
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for (row, rewards) in held_out.iter().zip(model.token_rewards(&pairs, SPECIAL.pad, &Crew::new(1))) {
        for span in &row.spans {
            if span.error { wrong.push(rewards[span.last]) } else { right.push(rewards[span.last]) }
        }
        let elsewhere = rewards.iter().zip(segments.ends(&row.ids)).filter(|(_, ends)| !ends);
        assert!(elsewhere.map(|(reward, _)| reward.abs()).sum::<f64>() < 1e-12, "only ends of spans are paid");
    }
    let (wrong, right) = (mean(&wrong), mean(&right));
    assert!(wrong < right - 0.5, "spans with an error {wrong}, without {right}");
    let examples = Examples::Marked(&examples);
    let config: reward::Config = table(json!({ "epochs": 1, "batch_size": 1, "optimizer": { "learning_rate": 1e-2 } }));
    let kind = table(json!({ "tppo": {} }));
    let task = Task { config: &config, kind: &kind, examples, pad: SPECIAL.pad, seed: 5, shards: 2.into() };
    let memory = Memory::default();
    let emitter = Emitter::new("reward", &memory);
    let error = train(&language_model(1, 1.0), &task, &Crew::new(1), &emitter, &Nowhere).unwrap_err();
    assert!(error.to_string().contains("learns from responses with word scores"), "{error}");
}

/// `tiny.toml` with the relatives as variants, in two rounds.
const RECIPE: &str = r#"
extends = "tiny.toml"
rounds.n = 2

[[labels.spans.categories]]
name = "content"
errors = ["unsupported", "repeated", "wrong_value", "off_topic"]
weight = 0.5

[[labels.spans.categories]]
name = "missing"
errors = ["omitted", "unfinished"]
segment = "response"

[[variants]]
name = "tlcr"
reward = { token = { loss = "tlcr" } }
credit = "per_token"

[[variants]]
name = "tppo"
reward = { tppo = {} }
credit = "per_token"
length_penalty = 0.1

[[variants]]
name = "spans"
reward = { spans = { clean = 0.0 } }
credit = "span_end"
"#;

#[test]
fn variants_of_words_and_spans_run_in_rounds_and_end_in_one_table() {
    let lab = Lab::new();
    lab.write("relatives.toml", RECIPE);
    lab.said(&["run", "relatives.toml"]).fine();
    let report: Value =
        serde_json::from_str(&fs::read_to_string(lab.path("reports/relatives/report.json")).unwrap()).unwrap();
    let names = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    let variants = ["tlcr", "tppo", "spans", "tlcr-2rounds", "tppo-2rounds", "spans-2rounds"];
    assert_eq!(names(&report["variants"], "name"), variants);
    assert_eq!(report["comparisons"].as_array().unwrap().len(), 15);
    let models = names(&report["reward_models"], "variant");
    for model in ["tppo", "spans/content", "spans/missing", "spans-2rounds/content"] {
        assert!(models.contains(&model.to_owned()), "{models:?}");
    }
    let find = |rounds: u64, round: u64| {
        let rows = report["rounds"].as_array().unwrap();
        let mine = |row: &&Value| row["variant"] == "spans" && row["rounds"] == rounds && row["round"] == round;
        rows.iter().find(mine).unwrap().clone()
    };
    assert_eq!(find(1, 1)["annotations"], 24);
    assert_eq!((&find(2, 1)["annotations"], &find(2, 1)["added"]), (&json!(12), &Value::Null));
    let last = find(2, 2);
    assert_eq!(last["annotations"], 24);
    let points = |a: &Value, b: &Value| 100.0 * (number(&a["win_rate"]) - number(&b["win_rate"]));
    close(&[number(&last["added"]["points"])], &[points(&last, &find(2, 1))], DOUBLE, "added");
    close(&[number(&last["against_one_round"]["points"])], &[points(&last, &find(1, 1))], DOUBLE, "gained");

    let again = lab.said(&["run", "relatives.toml"]).fine();
    assert!(again.err.contains("nothing to do: all "), "{}", again.err);
    let plan = lab.said(&["plan", "relatives.toml"]).fine().out;
    for label in [
        "words/budget=24/seed=0",
        "spans/missing/budget=24/seed=0",
        "edits/tlcr-2rounds/after=1/kl=0.1/budget=24/seed=0",
    ] {
        assert!(plan.contains(label), "{label}: {plan}");
    }
    // A weight is the sum's matter: no model is trained again for it.
    let changed = lab.said(&["plan", "relatives.toml", "--set", "labels.spans.categories.0.weight=2.0"]).fine().out;
    let runs = |prefix: &str| {
        changed
            .lines()
            .filter(|line| line.starts_with(prefix) && line.contains("run"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(runs("ppo/spans/").len() == 1 && runs("ppo/tppo").is_empty(), "{changed}");
    assert!(runs("reward/spans/").is_empty() && runs("spans/content/budget").is_empty(), "{changed}");
}
