//! Against the real `transformers` and `peft`: tiny checkpoints of many families and configurations, and what is written for
//! them to load.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod checkpoint;
mod peers;
#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::{Device, Tensor};
use checkpoint::{POLICY, exported, recipe_on};
use peers::python;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use runner::compute::{Crew, DeviceName};
use runner::model::generate::{Sampling, Stops, sample_until};
use runner::model::pretrained::{Purpose, describe, load, lora, read_config, save, save_adapter};
use runner::model::weights::host;
use runner::model::{Batch, Model, Pair, adapter};
use serde::Deserialize;
use serde_json::{Value, json};
use tiny::Lab;

const TOLERANCE: f64 = 2e-5;

fn device() -> Device {
    let name = std::env::var("RUNNER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    name.parse::<DeviceName>().unwrap().open().unwrap()
}

fn script(python: &Path, command: &str, path: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/checkpoints.py");
    let output = Command::new(python).arg(script).arg(command).arg(path).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `transformers` computes for each request: rows of outputs for each list of ids.
fn read(python: &Path, requests: &[Value], scratch: &Path) -> Vec<Vec<Value>> {
    let lines: Vec<String> = requests.iter().map(Value::to_string).collect();
    let path = scratch.join("requests.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    let text = script(python, "read", &path);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), requests.len());
    lines.iter().map(|line| get(&line["outputs"])).collect()
}

fn get<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

fn flat(rows: &Value) -> Vec<f64> {
    match rows {
        Value::Array(rows) => rows.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "{what}[{i}]: expected {b}, found {a}");
    }
}

/// Outputs at the real positions of `rows`, padded on the left or on the right.
fn outputs(model: &Model, rows: &[Vec<u32>], left: bool) -> Vec<Vec<f64>> {
    let split = |row: &Vec<u32>| if left { row.len() } else { 1 };
    let pairs: Vec<Pair> =
        rows.iter().map(|row| Pair { prompt: &row[..split(row)], response: &row[split(row)..] }).collect();
    let batch = Batch::new(&pairs, 0, &device());
    let found = model.project(model.hidden(&batch));
    let [_, t, width] = found.dims();
    let values = host(&found);
    let real: Vec<(&[f32], &bool)> = values.chunks_exact(width).zip(&batch.real).collect();
    let row = |row: &[(&[f32], &bool)]| {
        row.iter().filter(|(_, real)| **real).flat_map(|(x, _)| x.iter().map(|&x| f64::from(x))).collect()
    };
    real.chunks_exact(t).map(row).collect()
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

/// A model with adapters on every linear layer whose products are not zero.
fn with_adapters(model: &Model, config: &adapter::Config, dir: &Path) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let lora = lora(config, &describe(&read_config(dir).unwrap()).unwrap()).unwrap();
    let mut adapted = model.adapt(&lora, 1);
    for weight in &mut adapted.weights {
        let values: Vec<f32> = (0..weight.dims().iter().product()).map(|_| rng.random_range(-0.3_f32..0.3)).collect();
        *weight = Tensor::from_data(burn::tensor::TensorData::new(values, weight.dims()), &device());
    }
    adapted
}

#[test]
fn families_and_configurations_give_the_numbers_of_transformers() {
    let Some(python) = python("torch, transformers, peft") else { return };
    let root = tempfile::tempdir().unwrap();
    script(&python, "make", root.path());
    let folders = folders(root.path());
    assert!(folders.len() >= 64, "{folders:?}");
    let config: adapter::Config =
        serde_json::from_value(json!({ "rank": 3, "alpha": 6.0, "target_modules": ["all-linear"] })).unwrap();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for dir in &folders {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let reference: Value = serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap()).unwrap();
        let description = describe(&read_config(dir).unwrap()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let model = load(dir, &description, &device()).unwrap();
        let sequences: Vec<Value> = get(&reference["sequences"]);
        let ids: Vec<Vec<u32>> = sequences.iter().map(|sequence| get(&sequence["ids"])).collect();
        for (row, sequence) in ids.iter().zip(&sequences) {
            close(&outputs(&model, std::slice::from_ref(row), true)[0], &flat(&sequence["outputs"]), name);
        }
        for left in [true, false] {
            for (found, sequence) in outputs(&model, &ids, left).iter().zip(&sequences) {
                close(found, &flat(&sequence["outputs"]), &format!("{name}, padded, left {left}"));
            }
        }
        let kind = reference["kind"].as_str().unwrap();
        // Written out and read by transformers, as it is and with adapters.
        let copy = root.path().join(format!("copies/{name}"));
        save(&model, &read_config(dir).unwrap(), &copy).unwrap();
        requests.push(json!({ "model": copy, "kind": kind, "ids": ids }));
        expected.push(outputs(&model, &ids, true));
        if description.purpose != Purpose::Language {
            continue;
        }
        // In one batch, and so padded.
        let greedy: Vec<Value> = get(&reference["greedy"]);
        let prompts: Vec<Vec<u32>> = greedy.iter().map(|case| get(&case["prompt_ids"])).collect();
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let (stops, sampling) = (Stops { pad: 0, ends: &[2] }, Sampling::plain(0.0, 16));
        let found = sample_until(&model, &rows, stops, sampling, 0, &Crew::new(1), &|_| ());
        for (found, case) in found.iter().zip(&greedy) {
            assert_eq!(found.ids, get::<Vec<u32>>(&case["ids"]), "{name}");
        }
        let adapted = with_adapters(&model, &config, dir);
        let folder = root.path().join(format!("adapters/{name}"));
        save_adapter(&adapted, &config, &read_config(dir).unwrap(), None, &folder).unwrap();
        requests.push(json!({ "model": dir, "kind": kind, "ids": ids, "adapter": folder }));
        expected.push(outputs(&adapted, &ids, true));
        let merged = outputs(&adapted.merged(), &ids, true);
        for (merged, alone) in merged.iter().zip(expected.last().unwrap()) {
            close(merged, alone, &format!("{name}, merged"));
        }
    }
    for ((request, found), expected) in requests.iter().zip(read(&python, &requests, root.path())).zip(&expected) {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            // Of a sequence classifier only the last token's numbers are told.
            let found = flat(found);
            close(&expected[expected.len() - found.len()..], &found, &format!("{request}, sequence {i}"));
        }
    }
}

/// `runner score --json` of one row of ids.
fn score(lab: &Lab, arguments: &[&str], prompt: &[u32], response: &[u32]) -> Value {
    lab.write("row.jsonl", &json!({ "prompt_ids": prompt, "response_ids": response }).to_string());
    let said = lab.said(&[&["score", "--input", "row.jsonl", "--json"][..], arguments].concat()).fine();
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn what_stages_trained_is_loaded_by_transformers_and_peft() {
    let Some(python) = python("torch, transformers, peft") else { return };
    let lab = Lab::new();
    exported(&lab);
    recipe_on(&lab, POLICY);
    lab.said(&["run", "lora.toml"]).fine();
    let (prompt, response) = ([1_u32, 9, 12, 15], [20_u32, 31, 8, 40, 2]);
    let whole: Vec<u32> = prompt.iter().chain(&response).copied().collect();
    let at = "kl=0.1/budget=24/seed=0";
    let cases = [
        ("language", "sft/seed=0".to_owned(), "model"),
        ("language", format!("ppo/token/{at}"), "model"),
        ("language", format!("ppo/token/{at}"), "adapter"),
        ("sequence", "reward/sequence/budget=24/seed=0".to_owned(), "model"),
        ("sequence", "reward/sequence/budget=24/seed=0".to_owned(), "adapter"),
        ("token", "reward/token/budget=24/seed=0".to_owned(), "model"),
        ("token", "reward/token/budget=24/seed=0".to_owned(), "adapter"),
        ("token", format!("ppo/token/{at}"), "value"),
    ];
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (i, (kind, label, part)) in cases.iter().enumerate() {
        let out = format!("out{i}");
        lab.said(&["export", "--model", label, "--part", part, "--out", &out]).fine();
        let dir = lab.path(&out);
        let mut request = json!({ "model": dir, "kind": kind, "ids": [whole] });
        if *part == "adapter" {
            request["model"] = json!(lab.path("out0"));
            request["adapter"] = json!(dir);
            request["more"] = if *kind == "language" { json!({}) } else { json!({ "num_labels": 1 }) };
        }
        requests.push(request);
        let model = if *part == "value" { &out } else { label };
        expected.push(score(&lab, &["--model", model], &prompt, &response));
        if *part == "model" {
            let folder = score(&lab, &["--model", &out], &prompt, &response);
            for key in ["logprobs", "rewards"] {
                let numbers = |value: &Value| value.get(key).map_or(Vec::new(), flat);
                close(&numbers(&folder), &numbers(expected.last().unwrap()), label);
            }
        }
    }
    let found = read(&python, &requests, &lab.path(""));
    for (((kind, label, part), found), expected) in cases.iter().zip(&found).zip(&expected) {
        let what = format!("{part} of {label}");
        match *kind {
            "language" => {
                let logits: Vec<Vec<f64>> = get(&found[0]);
                let log_prob = |i: usize| {
                    let row = &logits[prompt.len() + i - 1];
                    row[response[i] as usize] - row.iter().map(|x| x.exp()).sum::<f64>().ln()
                };
                let found: Vec<f64> = (0..response.len()).map(log_prob).collect();
                close(&found, &flat(&expected["logprobs"]), &what);
            }
            "sequence" => close(&flat(&found[0]), &flat(&expected["score"]), &what),
            _ => close(&flat(&found[0])[prompt.len()..], &flat(&expected["rewards"]), &what),
        }
    }
}
