//! Whole runs of a tiny recipe through the binary: what is written, what is not done twice, what a kill leaves.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tiny::{Lab, Said, assert_same, files, results};

/// More of everything: two seeds, two budgets, four variants, a grid.
const WIDE: &str = r#"
extends = "tiny.toml"
seeds = [0, 1]
budgets = [16, 24]

[reward]
epochs = 1

[ppo]
steps = 2
kl_coef = [0.05, 0.2]

[[variants]]
name = "sequence"
reward = { sequence = { data = "preferences" } }
credit = "end_of_sequence"

[[variants]]
name = "sequence_edits"
reward = { sequence = { data = "edits" } }
credit = "end_of_sequence"

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"

[[variants]]
name = "tlcr"
reward = { token = { loss = "tlcr" } }
credit = "per_token"
"#;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The plan's nodes: (label, status, reason).
fn planned(lab: &Lab, arguments: &[&str]) -> Vec<(String, String, String)> {
    let said = lab.said(&[&["plan", "--json"][..], arguments].concat()).fine();
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let nodes = plan["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (text(node, "label"), text(node, "status"), text(node, "reason"))).collect()
}

/// The lines of a run's `events.jsonl`.
fn events(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many stages each run of an `events.jsonl` did itself.
fn ran(out: &Path) -> Vec<u64> {
    let finished = |event: &Value| event["event"] == "run_finished";
    events(&out.join("events.jsonl")).iter().filter(|e| finished(e)).map(|e| e["ran"].as_u64().unwrap()).collect()
}

/// The folder of the only result of `stage` that has a file `file`.
fn result(store: &Path, stage: &str, file: &str) -> PathBuf {
    let root = store.join("results").join(stage);
    let name = files(&root).into_iter().find(|name| name.ends_with(file)).unwrap();
    root.join(name)
}

#[test]
fn one_recipe_is_the_whole_experiment() {
    let lab = Lab::new();
    lab.write("wide.toml", WIDE);
    let first = lab.said(&["run", "wide.toml"]).fine();
    assert!(first.out.contains("tlcr") && first.err.contains("report: reports/wide/"), "{first:?}");
    let out = lab.path("reports/wide");
    for name in ["report.md", "index.html", "report.json", "events.jsonl"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 0, "{name}");
    }
    assert!(files(&out).iter().any(|name| name.extension().is_some_and(|extension| extension == "parquet")));
    report_is_complete(&json(&out.join("report.json")));

    let before = results(&lab.path(".runner"));
    let again = lab.said(&["run", "wide.toml"]).fine();
    let stages = planned(&lab, &["wide.toml"]).len();
    assert!(again.err.ends_with(&format!("nothing to do: all {stages} stages are cached\n")), "{}", again.err);
    assert_eq!(again.out, first.out);
    assert_eq!(ran(&out), [stages as u64, 0]);
    assert_same(&before, &results(&lab.path(".runner")));
    assert!(planned(&lab, &["wide.toml"]).iter().all(|(_, status, _)| status == "cached"));

    // A recipe that asks for a part of another one finds it done, whatever it is called.
    let part = planned(&lab, &["wide.toml", "--set", "seeds=[1]", "--set", "budgets=[24]"]);
    let run: Vec<_> = part.iter().filter(|(_, status, _)| status == "run").map(|(label, ..)| label.as_str()).collect();
    assert_eq!(run, ["report"]);
}

fn report_is_complete(report: &Value) {
    let variants = report["variants"].as_array().unwrap();
    let at: BTreeSet<_> =
        variants.iter().map(|v| (v["name"].as_str().unwrap(), v["budget"].as_u64().unwrap())).collect();
    assert_eq!((variants.len(), at.len()), (8, 8));
    for variant in variants {
        let (win_rate, ci) = (variant["win_rate"].as_f64().unwrap(), &variant["ci"]);
        assert!(ci[0].as_f64().unwrap() <= win_rate && win_rate <= ci[1].as_f64().unwrap(), "{variant}");
        assert_eq!(variant["seeds"], serde_json::json!([0, 1]));
        assert!([0.05, 0.2].contains(&variant["kl_coef"].as_f64().unwrap()));
        for number in ["kl_nats", "mean_length", "mean_reward", "faults"] {
            assert!(variant[number].is_f64(), "{number} of {variant}");
        }
    }
    let comparisons = report["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 2 * 6, "every pair of variants at every budget");
    for comparison in comparisons {
        let numbers = [&comparison["difference_points"], &comparison["p_value"], &comparison["ci"][0]];
        assert!(comparison["a"].is_string() && comparison["b"].is_string(), "{comparison}");
        assert!(numbers.iter().all(|number| number.is_f64()), "{comparison}");
    }
    assert_eq!(report["grid"].as_array().unwrap().len(), 16);
    assert_eq!(report["prompts"], 16);
    for list in ["curves", "reward_models", "examples", "stages", "verdict", "data"] {
        assert!(!report[list].as_array().unwrap().is_empty(), "{list}");
    }
    assert!(report["recipe_toml"].as_str().unwrap().contains("gae_lambda"));
}

#[test]
fn only_what_a_key_decides_runs_again() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    let later = |change: &str| {
        let plan = planned(&lab, &["tiny.toml", "--set", change]);
        plan.into_iter().filter(|(_, status, _)| status == "run").map(|(label, _, why)| format!("{label}: {why}"))
    };
    let mut runs: Vec<_> = later("ppo.gae_lambda=0.9").collect();
    let report = runs.pop().unwrap();
    let start = "report: `recipe.ppo.gae_lambda` changed: 0.95 -> 0.9; input `0.policy` runs; ";
    assert!(report.starts_with(start), "{report}");
    assert_eq!(
        runs,
        [
            "ppo/sequence/kl=0.1/budget=24/seed=0: `ppo.gae_lambda` changed: 0.95 -> 0.9",
            "responses/sequence/kl=0.1/budget=24/seed=0: input `policy` runs",
            "judgements/sequence/kl=0.1/budget=24/seed=0: input `policy` runs; input `responses` runs",
            "ppo/token/kl=0.1/budget=24/seed=0: `ppo.gae_lambda` changed: 0.95 -> 0.9",
            "responses/token/kl=0.1/budget=24/seed=0: input `policy` runs",
            "judgements/token/kl=0.1/budget=24/seed=0: input `policy` runs; input `responses` runs",
        ]
    );
    assert_eq!(later("evaluation.confidence=0.9").count(), 1, "the report only");
    assert_eq!(later("reward.epochs=3").next().unwrap().split('/').next(), Some("reward"));
    assert_eq!(later("sft.steps=21").next().unwrap(), "sft/seed=0: `sft.steps` changed: 20 -> 21");
    assert_eq!(later("device=flex").count(), 1, "the same backend by another name: the report quotes it");
}

#[test]
fn neither_jobs_nor_threads_nor_cores_change_a_byte() {
    let lab = Lab::new();
    let arguments = |store, jobs| ["run", "tiny.toml", "--store", store, "--out", store, "--jobs", jobs];
    lab.said(&arguments("one", "1")).fine();
    let expected = results(&lab.path("one"));
    let many = lab.runner(&arguments("many", "4")).env("RAYON_NUM_THREADS", "3").output().unwrap();
    Said::of(&many).fine();
    assert_same(&expected, &results(&lab.path("many")));
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_runner")]).args(arguments("single", "2"));
    lab.prepare(&mut command);
    let Ok(single) = command.env("RAYON_NUM_THREADS", "1").output() else {
        eprintln!("skipped: no `taskset` with which to take cores away");
        return;
    };
    Said::of(&single).fine();
    assert_same(&expected, &results(&lab.path("single")));
}

#[test]
fn what_is_deleted_or_damaged_is_made_again() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    let store = lab.path(".runner");
    let whole = results(&store);

    // The report is gone, so everything that it needs must be there, and one input is not.
    fs::remove_dir_all(store.join("results/report")).unwrap();
    fs::remove_dir_all(result(&store, "judgements", "judgements.json").parent().unwrap()).unwrap();
    lab.said(&["run", "tiny.toml"]).fine();
    assert_eq!(ran(&lab.path("reports/tiny")).last(), Some(&2));
    assert_same(&whole, &results(&store));

    let weights = result(&store, "sft", "model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    fs::remove_dir_all(store.join("results/report")).unwrap();
    let said = lab.said(&["run", "tiny.toml"]).fine();
    assert!(said.err.contains("`model.safetensors` of stage `sft` is damaged: expected blake3 `"), "{}", said.err);
    assert_eq!(ran(&lab.path("reports/tiny")).last(), Some(&2));
    assert_same(&whole, &results(&store));
}

#[test]
fn real_edits_go_through_the_same_pipeline() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = root.join("../shared/data/qa-feedback/dev_feedback_first400.json");
    if !data.exists() {
        eprintln!("skipped: no `{}`", data.display());
        return;
    }
    let lab = Lab::new();
    let path = format!("dataset.path={}", data.canonicalize().unwrap().display());
    let recipe = root.join("recipes/qa_feedback.toml");
    let mut arguments = vec!["run", recipe.to_str().unwrap(), "--set", &path, "--out", "out"];
    for change in [
        "budgets=[12]",
        "dataset.max_prompt_tokens=16",
        "dataset.max_response_tokens=24",
        "dataset.train_prompts=24",
        "dataset.validation_prompts=4",
        "dataset.test_prompts=6",
        "tokenizer.byte_level_bpe.vocab_size=300",
        "model.hidden_size=16",
        "model.num_hidden_layers=1",
        "model.intermediate_size=32",
        "sft.steps=4",
        "sft.optimizer.warmup_steps=1",
        "reward.epochs=1",
        "ppo.steps=2",
        "ppo.value_warmup_steps=1",
        "ppo.eval_every=2",
        "ppo.policy_optimizer.warmup_steps=1",
        "ppo.value_optimizer.warmup_steps=1",
    ] {
        arguments.extend(["--set", change]);
    }
    lab.said(&arguments).fine();
    let report = json(&lab.path("out/report.json"));
    let agreement = &report["label_agreement"];
    let near = |found: &Value, expected: f64| (found.as_f64().unwrap() - expected).abs() < 5e-7;
    assert!(near(&agreement["precision"], 0.862_266) && near(&agreement["recall"], 0.914_462), "{agreement}");
    assert_eq!(agreement["records"], 400);
    let models = report["reward_models"].as_array().unwrap();
    assert_eq!(models.len(), 3);
    assert!(models.iter().all(|model| model["preference_accuracy"].is_f64() && model["edit_accuracy"].is_f64()));
    let judge = report["judge"].as_str().unwrap();
    assert!(judge.starts_with("reward model"), "{judge}");
    let verdict = report["verdict"].to_string();
    assert!(verdict.contains("chance is 50") && verdict.contains("not whether people would prefer"), "{verdict}");
}
