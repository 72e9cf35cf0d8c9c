//! Adapters in place of whole models, through the real binary: what is trained, stored, resumed, merged and refused.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod checkpoint;
mod tiny;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use checkpoint::{POLICY, exported, recipe_on};
use serde_json::{Value, json};
use tiny::{Lab, assert_same, files, results};

/// The results of a stage in a store.
fn of_stage<'a>(store: &Path, stage: &str, file: &'a str) -> Vec<(std::path::PathBuf, &'a str)> {
    let root = store.join("results").join(stage);
    files(&root).into_iter().filter(|path| path.ends_with(file)).map(|path| (root.join(path), file)).collect()
}

#[test]
fn a_run_trains_adapters_of_one_base() {
    let lab = Lab::new();
    exported(&lab);
    recipe_on(&lab, POLICY);
    lab.said(&["run", "lora.toml", "--store", "whole", "--out", "whole-report"]).fine();
    let store = lab.path("whole");
    let size = |stage: &str, file: &str| fs::metadata(&of_stage(&store, stage, file)[0].0).unwrap().len();
    let whole = size("sft", "model.safetensors");
    for (stage, file) in [
        ("sft", "adapter.safetensors"),
        ("ppo", "model.safetensors"),
        ("ppo", "value.safetensors"),
        ("reward", "model.safetensors"),
    ] {
        assert!(3 * size(stage, file) < whole, "{file} of {stage}: {} of {whole} bytes", size(stage, file));
    }
    // A fresh policy is the reference: its adapters' products are zero.
    for (metrics, _) in of_stage(&store, "ppo", "metrics.jsonl") {
        let text = fs::read_to_string(metrics).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(first["values"]["kl_nats"].as_f64().unwrap().abs() < 1e-4, "{first}");
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(last["values"]["kl_nats"].as_f64().unwrap().abs() > 1e-6, "{last}");
    }
    // PPO says what is shared and what each of policy, reward and value model has of its own.
    let events = fs::read_to_string(lab.path("whole-report/events.jsonl")).unwrap();
    let told: Value = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|event: &Value| event["values"]["base_bytes"].is_number())
        .unwrap();
    let [base, own] = ["base_bytes", "adapter_bytes"].map(|name| told["values"][name].as_f64().unwrap());
    let expected = size("ppo", "model.safetensors") + size("ppo", "value.safetensors") * 2;
    assert!(base > 0.9 * whole as f64 && own > 0.3 * expected as f64 && own < expected as f64, "{told} {whole}");
    // Killed again and again, it ends with the same bytes.
    let mut kills = 0;
    for patience in [40, 90, 150, 230, 120, 60, 180] {
        let mut command = lab.runner(&["run", "lora.toml", "--store", "killed", "--out", "killed-report"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(patience));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0);
    lab.said(&["run", "lora.toml", "--store", "killed", "--out", "killed-report"]).fine();
    assert_same(&results(&store), &results(&lab.path("killed")));
    // Merged, it says the same.
    let label = "ppo/token/kl=0.1/budget=24/seed=0";
    lab.said(&["export", "--model", label, "--store", "whole", "--out", "merged"]).fine();
    lab.write("rows.jsonl", &json!({ "prompt_ids": [1, 9, 12], "response_ids": [20, 8, 2] }).to_string());
    let logprobs = |model: &[&str]| -> Vec<f64> {
        let said = lab.said(&[&["score", "--input", "rows.jsonl", "--json"][..], model].concat()).fine();
        let line: Value = serde_json::from_str(&said.out).unwrap();
        serde_json::from_value(line["logprobs"].clone()).unwrap()
    };
    let (apart, merged) = (logprobs(&["--model", label, "--store", "whole"]), logprobs(&["--model", "merged"]));
    for (a, b) in apart.iter().zip(&merged) {
        assert!((a - b).abs() < 2e-5, "{apart:?} {merged:?}");
    }
}

#[test]
fn what_cannot_be_adapted_is_said() {
    let lab = Lab::new();
    exported(&lab);
    let refused = |policy: &str, parts: &[&str]| {
        recipe_on(&lab, policy);
        let said = lab.said(&["check", "lora.toml"]);
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(parts.iter().all(|part| said.err.contains(part)), "{}", said.err);
    };
    refused(&POLICY.replace("q_proj", "c_attn"), &["`c_attn`", "`q_proj`", "`all-linear`"]);
    refused(&POLICY.replace("dropout = 0.1", "load_in_4bit = true"), &["`load_in_4bit`", "QLoRA", "out of scope"]);
    refused(&POLICY.replace("rank = 2", "rank = 0"), &["rank"]);
    let said = lab.said(&["export", "--model", "sft/seed=0", "--store", "first", "--part", "adapter", "--out", "none"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("`[policy.lora]`"), "{}", said.err);
}
