//! Numbers of a report, computed again from the results that they were made of.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "what compares whole stores is for other tests")]
mod tiny;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use burn::tensor::Device;
use runner::model::{Batch, Config, Model, Pair, weights};
use runner::text::Tokenizer;
use serde_json::{Value, from_value};
use tiny::{Lab, Said};

/// Two seeds of the tiny recipe, and a sweep that never ran.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new();
        lab.write("two.toml", "extends = \"tiny.toml\"\nseeds = [0, 1]\n");
        lab.write("sweep.toml", "extends = \"tiny.toml\"\n[sweep.product]\nppo.gae_lambda = [0.9, 1.0]\n");
        lab.said(&["run", "two.toml"]).fine();
        lab
    })
}

fn report() -> Value {
    serde_json::from_slice(&fs::read(lab().path("reports/two/report.json")).unwrap()).unwrap()
}

/// The folder of the result with that label.
fn result(label: &str) -> PathBuf {
    let plan: Value = serde_json::from_str(&lab().said(&["plan", "two.toml", "--json"]).fine().out).unwrap();
    let nodes = plan["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["label"] == label).unwrap();
    lab().path(&format!(".runner/results/{}/{}", node["stage"].as_str().unwrap(), node["key"].as_str().unwrap()))
}

fn json(label: &str, file: &str) -> Value {
    serde_json::from_slice(&fs::read(result(label).join(file)).unwrap()).unwrap()
}

fn rows(label: &str, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(result(label).join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn close(found: &Value, expected: f64, tolerance: f64) {
    assert!((number(found) - expected).abs() < tolerance, "expected {expected}, found {found}");
}

#[test]
fn kl_is_that_of_the_models_on_fresh_responses_to_test_prompts() {
    let mut sequence_k1 = 0.0;
    for seed in [0, 1] {
        let cell = format!("token/kl=0.1/budget=24/seed={seed}");
        let (responses, policy) = (format!("responses/{cell}"), format!("ppo/{cell}"));
        let setting = json(&responses, "manifest.json")["config"]["setting"].clone();
        let config: Config = from_value(setting["model"].clone()).unwrap();
        let load = |label: &str| {
            Model::from_bytes(&fs::read(result(label).join("model.safetensors")).unwrap(), &config, &Device::flex())
                .unwrap()
        };
        let (policy, reference) = (load(&policy), load(&format!("sft/seed={seed}")));
        let tokenizer = fs::read(result("tokenizer").join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_json(&tokenizer, &from_value(setting["tokenizer"].clone()).unwrap()).unwrap();
        let (mut k1, mut k3, mut tokens) = (0.0, 0.0, 0.0);
        let (prompts, answers) = (rows("data", "test.jsonl"), rows(&responses, "test.jsonl"));
        assert_eq!(prompts.len(), answers.len());
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let prompt = tokenizer.encode_prompt(prompt["text"].as_str().unwrap(), 10);
            let response: Vec<u32> = from_value(answer["ids"].clone()).unwrap();
            let batch = Batch::new(&[Pair { prompt: &prompt, response: &response }], tokenizer.pad(), &policy.device());
            let log_probs = |model: &Model| weights::host(&model.log_probs(&batch, 1.0));
            for (ours, theirs) in log_probs(&policy).into_iter().zip(log_probs(&reference)) {
                let logr = f64::from(ours) - f64::from(theirs);
                k1 += logr;
                k3 += (-logr).exp() - 1.0 + logr;
                tokens += 1.0;
            }
        }
        let found = json(&responses, "summary.json")["kl"].clone();
        let n = answers.len() as f64;
        for (key, expected) in
            [("sequence_k1", k1 / n), ("sequence_k3", k3 / n), ("token_k1", k1 / tokens), ("token_k3", k3 / tokens)]
        {
            close(&found[key], expected, 1e-5);
        }
        assert!(k3 > 0.0);
        sequence_k1 += k1 / n / 2.0;
    }
    let report = report();
    let variant = report["variants"].as_array().unwrap().iter().find(|v| v["name"] == "token").unwrap();
    close(&variant["kl"]["sequence_k1"], sequence_k1, 1e-5);
    assert_eq!(variant["kl"]["sequence_k1"], variant["kl_nats"]);
}

#[test]
fn prompts_and_seeds_are_compared_as_the_judgements_say() {
    let outcomes = |variant: &str, seed: usize| -> Vec<f64> {
        let judgements = json(&format!("judgements/{variant}/kl=0.1/budget=24/seed={seed}"), "judgements.json");
        let scores = |key: &str| -> Vec<f64> {
            judgements[key].as_array().unwrap().iter().map(|verdict| number(&verdict["score"])).collect()
        };
        let against =
            |(ours, theirs): (f64, f64)| 0.5 * f64::from(1 + i8::from(ours > theirs) - i8::from(ours < theirs));
        scores("test").into_iter().zip(scores("reference")).map(against).collect()
    };
    let [a, b] = ["token", "sequence"].map(|variant| [0, 1].map(|seed| outcomes(variant, seed)));
    let sums: Vec<f64> = (0..a[0].len()).map(|i| a[0][i] + a[1][i] - b[0][i] - b[1][i]).collect();
    let comparison = report()["comparisons"][0].clone();
    assert_eq!((&comparison["a"], &comparison["b"]), (&Value::from("token"), &Value::from("sequence")));
    assert_eq!(comparison["better_prompts"], sums.iter().filter(|sum| **sum > 0.0).count());
    assert_eq!(comparison["worse_prompts"], sums.iter().filter(|sum| **sum < 0.0).count());
    let rates = |side: &[Vec<f64>; 2]| side.clone().map(|row| row.iter().sum::<f64>());
    let (ours, theirs) = (rates(&a), rates(&b));
    let better =
        ours.iter().flat_map(|x| theirs.iter().map(move |y| if x > y { 1.0 } else { 0.5 * f64::from(x >= y) }));
    close(&comparison["probability_of_improvement"], better.sum::<f64>() / 4.0, 1e-12);
    // Of two seeds: the variance of single responses is half the mean square of the centred differences.
    let difference = |i: usize, seed: usize| 100.0 * (a[seed][i] - b[seed][i]);
    let gaps: Vec<f64> = (0..sums.len()).map(|i| difference(i, 0) - difference(i, 1)).collect();
    let middle = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let residual = gaps.iter().map(|gap| (gap - middle).powi(2)).sum::<f64>() / 2.0 / (gaps.len() - 1) as f64;
    close(&comparison["power"]["residual_variance"], residual, 1e-6);
}

#[test]
fn power_says_what_it_takes() {
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let said = lab().said(&[&["power", "two", "--json"], arguments].concat()).fine();
        serde_json::from_str(&said.out).unwrap()
    };
    let usual = rows(&[]);
    let sides: Vec<(&str, &str)> =
        usual.iter().map(|row| (row["a"].as_str().unwrap(), row["b"].as_str().unwrap())).collect();
    assert_eq!(sides, [("token", "sequence"), ("sequence", "the reference"), ("token", "the reference")]);
    for (at, row) in usual.iter().enumerate() {
        let square = |key: &str| number(&row[key]).powi(2);
        let (seeds, prompts) = (number(&row["seeds"]), number(&row["prompts"]));
        let variance =
            square("sd_seeds") / seeds + square("sd_prompts") / prompts + square("sd_responses") / (seeds * prompts);
        // The 97.5 % and the 80 % quantile.
        let expected = (1.959_964 + 0.841_621) * variance.sqrt();
        close(&row["detectable"], expected, 1e-4);
        // What the run can see takes no more prompts than it has, and a little less takes more or cannot be had.
        let needed = |points: f64| rows(&["--difference", &points.to_string()])[at]["prompts_needed"].clone();
        assert!(number(&needed(number(&row["detectable"]) * 1.001)) <= prompts);
        let more = needed(number(&row["detectable"]) * 0.98);
        assert!(more.is_null() || number(&more) > prompts, "{more}");
        let surer = rows(&["--power", "0.9"])[at]["detectable"].clone();
        close(&surer, expected * (1.959_964 + 1.281_552) / (1.959_964 + 0.841_621), 1e-4);
    }
    let table = lab().said(&["power", "two", "--difference", "7.5"]).fine();
    assert_eq!(table.err, "to see 7.5 points 80 % of the time by a 95 % interval; SD in points\n");
    assert!(table.out.starts_with("a         b              budget  difference"), "{}", table.out);
}

#[test]
fn power_refuses_what_it_cannot_plan() {
    let refused = |arguments: &[&str]| -> String {
        let Said { code, out, err } = lab().said(&[&["power"], arguments].concat());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        err
    };
    for (arguments, message) in [
        (&["two", "--difference", "0"][..], "expected a number of points above 0"),
        (&["two", "--difference", "-3"], "expected a number of points above 0"),
        (&["two", "--power", "1"], "expected a number between 0 and 1"),
        (&["tow"], "no run has the id, tag or recipe `tow`"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(message), "{error}");
    }
    lab().said(&["run", "sweep.toml", "--jobs", "1"]).fine();
    assert!(refused(&["sweep"]).contains("`sweep` is a sweep; expected the run of one recipe"));
}

#[test]
fn reward_models_are_asked_for_every_token_and_for_the_best_of_many() {
    let report = report();
    let models = report["reward_models"].as_array().unwrap();
    assert_eq!(models.len(), 4);
    for model in models {
        let (variant, seed) = (model["variant"].as_str().unwrap(), &model["seed"]);
        let curve = model["best_of_n"].as_array().unwrap();
        assert!(curve.iter().map(|point| point["n"].as_u64().unwrap()).eq(1..=64));
        let proxies: Vec<f64> = curve.iter().map(|point| number(&point["proxy"])).collect();
        assert!(proxies.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9) && proxies[63] > proxies[0], "{proxies:?}");
        close(&curve[0]["kl_nats"], 0.0, 1e-12);
        for (share, interval) in [("preference_accuracy", "preference_ci"), ("edit_accuracy", "edit_ci")] {
            let [low, high] = [0, 1].map(|end| number(&model[interval][end]));
            let share = number(&model[share]);
            // A score interval is not centred, and never as narrow as the pairs of this recipe are few.
            assert!(low <= share && share <= high && high - low > 0.1, "{share} in {low} to {high}");
        }
        close(&curve[3]["kl_nats"], 4.0_f64.ln() - 0.75, 1e-12);
        if variant == "sequence" {
            assert!(model["edited_tokens"].is_null() && model["token_auc"].is_null());
            continue;
        }
        let edits = rows(&format!("labels/budget=24/seed={seed}"), "held_out.jsonl");
        let labels: String = edits.iter().map(|edit| edit["original_labels"].as_str().unwrap()).collect();
        let found = &model["edited_tokens"];
        assert_eq!(found["tokens"], labels.len());
        let wrong = labels.chars().filter(|label| *label != 'U').count() as f64 / labels.len() as f64;
        close(&found["wrong"], wrong, 1e-12);
        assert_eq!(found["auc"], model["token_auc"]);
        let bins = found["reliability"].as_array().unwrap();
        let sum = |key: &str| bins.iter().map(|bin| number(&bin["count"]) * number(&bin[key])).sum::<f64>();
        close(&found["wrong"], sum("observed") / labels.len() as f64, 1e-12);
        assert!((0.0..=1.0).contains(&number(&found["average_precision"])) && sum("predicted") > 0.0);
        assert!(model["error_spans"].is_null(), "nobody marked anything in a simulated world");
    }
}
