//! Checkpoints of `transformers`: every folder of the fixtures against the numbers that come with it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor};
use runner::compute::{Crew, DeviceName};
use runner::model::generate::{Sampling, Special, sample};
use runner::model::gradient::{Share, gradients};
use runner::model::pretrained::{Purpose, describe, load, read_config};
use runner::model::weights::host;
use runner::model::{Batch, Model, Pair};
use runner::text::{Fallback, Folder};
use serde::Deserialize;
use serde_json::{Value, json};

const TOLERANCE: f64 = 2e-5;

/// The device that the numbers are to be computed on: `flex`, or what `RUNNER_TEST_DEVICE` says.
fn device() -> Device {
    let name = std::env::var("RUNNER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    name.parse::<DeviceName>().unwrap().open().unwrap()
}

/// A folder of the fixtures.
struct Fixture {
    name: String,
    dir: PathBuf,
    expected: Value,
    purpose: Purpose,
    model: Model,
}

fn fixtures() -> Vec<Fixture> {
    let root = std::env::var_os("RUNNER_FIXTURES").map_or_else(|| PathBuf::from("../shared/fixtures"), PathBuf::from);
    let Ok(folders) = std::fs::read_dir(root.join("hf")) else {
        eprintln!("skipped: no checkpoints in `{}`", root.join("hf").display());
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    assert!(dirs.len() >= 11, "expected the eleven folders, found {dirs:?}");
    dirs.into_iter().map(fixture).collect()
}

fn fixture(dir: PathBuf) -> Fixture {
    let expected = read_json(&dir.join("expected.json"));
    let description = describe(&read_config(&dir).unwrap()).unwrap();
    let model = load(&dir, &description, &device()).unwrap();
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    Fixture { name, dir, expected, purpose: description.purpose, model }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn get<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (i, (&a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - b).abs() <= TOLERANCE, "{what}[{i}]: expected {b}, found {a}");
    }
}

impl Fixture {
    /// Outputs at every position of `rows`, padded on the left or on the right, without those at padding.
    fn outputs(&self, rows: &[Vec<u32>], left: bool) -> Vec<Vec<f32>> {
        let pairs: Vec<Pair> = rows
            .iter()
            .map(|row| {
                let (prompt, response) = row.split_at(if left { row.len() } else { 1 });
                Pair { prompt, response }
            })
            .collect();
        let batch = Batch::new(&pairs, get(&self.expected["pad_id_used"]), &device());
        let outputs = self.model.project(self.model.hidden(&batch));
        let [_, t, width] = outputs.dims();
        let values = host(&outputs);
        let real = values.chunks_exact(width).zip(&batch.real).collect::<Vec<_>>();
        let row =
            |row: &[(&[f32], &bool)]| row.iter().filter(|(_, real)| **real).flat_map(|(x, _)| x.to_vec()).collect();
        real.chunks_exact(t).map(row).collect()
    }

    fn sequences(&self) -> Vec<(Vec<u32>, Vec<f64>)> {
        let key = if self.purpose == Purpose::Language { "logits" } else { "token_scores" };
        let sequences: Vec<Value> = get(&self.expected["sequences"]);
        let flat = |rows: Vec<Vec<f64>>| rows.concat();
        sequences.iter().map(|sequence| (get(&sequence["ids"]), flat(get(&sequence[key])))).collect()
    }
}

#[test]
fn outputs_agree_alone_and_in_padded_batches() {
    for fixture in fixtures() {
        let (ids, expected): (Vec<_>, Vec<_>) = fixture.sequences().into_iter().unzip();
        for (row, expected) in ids.iter().zip(&expected) {
            close(&fixture.outputs(std::slice::from_ref(row), true)[0], expected, &fixture.name);
        }
        for left in [true, false] {
            for (found, expected) in fixture.outputs(&ids, left).iter().zip(&expected) {
                close(found, expected, &format!("{}, padded, left {left}", fixture.name));
            }
        }
        let hidden = &fixture.expected["last_hidden"];
        if fixture.purpose == Purpose::Language {
            let batch = |ids: &[u32]| Batch::new(&[Pair { prompt: ids, response: &[] }], 0, &device());
            let found = fixture.model.hidden(&batch(&ids[get::<usize>(&hidden["sequence"])]));
            close(&host(&found), &get::<Vec<Vec<f64>>>(&hidden["values"]).concat(), "hidden");
            let long: Vec<u32> = get(&fixture.expected["long"]["ids"]);
            let found = fixture.model.hidden(&batch(&long)).narrow(1, long.len() - 1, 1);
            close(
                &host(&fixture.model.project(found)),
                &get::<Vec<f64>>(&fixture.expected["long"]["last_logits"]),
                "long",
            );
        }
    }
}

#[test]
fn log_probabilities_agree_at_both_temperatures() {
    for fixture in fixtures().iter().filter(|fixture| fixture.purpose == Purpose::Language) {
        for row in fixture.expected["logprobs"].as_array().unwrap() {
            let (prompt, response): (Vec<u32>, Vec<u32>) = (get(&row["prompt_ids"]), get(&row["response_ids"]));
            let batch = Batch::new(&[Pair { prompt: &prompt, response: &response }], 0, &device());
            for (temperature, key) in [(1.0, "logprobs"), (0.7, "logprobs_t0.7")] {
                let found = host(&fixture.model.log_probs(&batch, temperature));
                close(&found, &get::<Vec<f64>>(&row[key]), &format!("{} {key}", fixture.name));
            }
        }
    }
}

#[test]
fn greedy_continuations_agree_with_and_without_a_stop() {
    let crew = Crew::new(1);
    for fixture in fixtures().iter().filter(|fixture| fixture.purpose == Purpose::Language) {
        let sampling = Sampling::plain(0.0, 16);
        for greedy in fixture.expected["greedy"].as_array().unwrap() {
            let prompt: Vec<u32> = get(&greedy["prompt_ids"]);
            let special = Special { pad: 0, eos: u32::MAX };
            let found = sample(&fixture.model, &[&prompt], special, sampling, 0, &crew, &|_| ());
            assert_eq!(found[0].ids, get::<Vec<u32>>(&greedy["new_ids"]), "{}", fixture.name);
        }
        let stop = &fixture.expected["greedy_stop"];
        let special = Special { pad: get(&stop["pad_id"]), eos: get(&stop["stop_id"]) };
        let masks: Vec<Vec<u32>> = get(&stop["attention_mask"]);
        let prompts: Vec<Vec<u32>> = get::<Vec<Vec<u32>>>(&stop["input_ids"])
            .into_iter()
            .zip(masks)
            .map(|(ids, mask)| ids.into_iter().zip(mask).filter(|(_, real)| *real == 1).map(|(id, _)| id).collect())
            .collect();
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let found = sample(&fixture.model, &rows, special, sampling, 0, &crew, &|_| ());
        for (found, expected) in found.iter().zip(get::<Vec<Vec<u32>>>(&stop["new_ids"])) {
            let end = expected.iter().position(|&id| id == special.eos).map_or(expected.len(), |end| end + 1);
            assert_eq!(found.ids, expected[..end], "{}", fixture.name);
        }
    }
}

/// Norms of gradients by the names of a checkpoint's tensors.
fn norms(fixture: &Fixture, gradients: &[Tensor<2>]) -> BTreeMap<String, f64> {
    let folder = tempfile::tempdir().unwrap();
    let gradients = Model { weights: gradients.to_vec(), ..fixture.model.clone() };
    runner::model::pretrained::save(&gradients, &read_config(&fixture.dir).unwrap(), folder.path()).unwrap();
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let norm = |data: &[u8]| -> f64 {
        data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b)).powi(2)).sum::<f64>().sqrt()
    };
    file.tensors().into_iter().map(|(name, view)| (name, norm(view.data()))).collect()
}

fn norms_agree(fixture: &Fixture, found: &BTreeMap<String, f64>, expected: &Value) {
    let expected: BTreeMap<String, f64> = get(&expected["grad_l2_norm"]);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", fixture.name);
    for (name, expected) in &expected {
        let found = found[name];
        assert!(
            (found - expected).abs() <= 1e-4 * expected + 1e-7,
            "{} {name}: expected {expected}, found {found}",
            fixture.name
        );
    }
}

#[test]
fn gradients_of_fine_tuning_agree() {
    let has = |fixture: &&Fixture| fixture.expected.get("sft_gradient").is_some();
    for fixture in fixtures().iter().filter(has) {
        let expected = &fixture.expected["sft_gradient"];
        let sequences = fixture.sequences();
        let chosen: Vec<usize> = get(&expected["sequences"]);
        let starts: Vec<usize> = get(&expected["response_start"]);
        let rows: Vec<(&[u32], &[u32])> =
            chosen.iter().zip(starts).map(|(&i, start)| sequences[i].0.split_at(start)).collect();
        let tokens: usize = rows.iter().map(|(_, response)| response.len()).sum();
        let outcome = gradients(&fixture.model, &[rows], &Crew::new(1), |model, rows| {
            let pairs: Vec<Pair> = rows.iter().map(|&(prompt, response)| Pair { prompt, response }).collect();
            let batch = Batch::new(&pairs, 0, &device());
            let loss = (model.log_probs(&batch, 1.0) * batch.response_mask.autodiff()).sum() / (-(tokens as f64));
            Share { loss, sums: [] }
        });
        assert!((outcome.loss - get::<f64>(&expected["loss"])).abs() <= TOLERANCE, "{}", fixture.name);
        norms_agree(fixture, &norms(fixture, &outcome.gradients), expected);
    }
}

#[test]
fn gradients_of_preferences_agree() {
    for fixture in fixtures().iter().filter(|fixture| fixture.purpose != Purpose::Language) {
        let expected = &fixture.expected["bt_gradient"];
        let sequences = fixture.sequences();
        let start: usize = get(&expected["response_start"]);
        let sides = ["chosen", "rejected"].map(|side| sequences[get::<usize>(&expected[side])].0.split_at(start));
        let outcome = gradients(&fixture.model, &[sides], &Crew::new(1), |model, sides| {
            let mean = |(prompt, response): (&[u32], &[u32])| {
                model.at_response(&Batch::new(&[Pair { prompt, response }], 0, &device())).mean()
            };
            let [chosen, rejected] = sides.map(mean);
            Share { loss: softplus(rejected - chosen, 1.0), sums: [] }
        });
        assert!((outcome.loss - get::<f64>(&expected["loss"])).abs() <= TOLERANCE, "{}", fixture.name);
        norms_agree(fixture, &norms(fixture, &outcome.gradients), expected);
    }
}

fn folder(fixture: &Fixture) -> Folder {
    Folder::open(&fixture.dir, Fallback::default()).unwrap()
}

#[test]
fn ids_and_texts_agree_with_and_without_special_tokens() {
    for fixture in fixtures() {
        let tokenizer = folder(&fixture).tokenizer;
        for case in fixture.expected["tokenizer"].as_array().unwrap() {
            let text: String = get(&case["text"]);
            let special: bool = get(&case["add_special_tokens"]);
            let ids = if special { tokenizer.encode_whole(&text) } else { tokenizer.encode(&text) };
            assert_eq!(ids, get::<Vec<u32>>(&case["ids"]), "{}: {text:?}", fixture.name);
            assert_eq!(tokenizer.pieces(&ids).concat(), get::<String>(&case["decoded"]), "{}", fixture.name);
        }
    }
}

#[test]
fn conversations_agree_as_text_and_as_ids() {
    for fixture in fixtures() {
        let Folder { tokenizer, chat } = folder(&fixture);
        for case in fixture.expected["chat"].as_array().unwrap() {
            let rendered = chat.as_ref().unwrap().render(&case["messages"], get(&case["add_generation_prompt"]));
            if let Some(error) = case.get("error").and_then(Value::as_str) {
                let found = format!("{:#}", rendered.unwrap_err());
                assert!(found.contains(error), "{}: expected `{error}`, found `{found}`", fixture.name);
                continue;
            }
            let text = rendered.unwrap().text;
            assert_eq!(text, get::<String>(&case["text"]), "{} {}", fixture.name, case["conversation"]);
            assert_eq!(tokenizer.encode(&text), get::<Vec<u32>>(&case["ids"]), "{}", fixture.name);
        }
    }
}

/// The real binary's lines.
fn runner(args: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_runner")).args(args).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn numbers(value: &Value) -> Vec<f32> {
    get::<Vec<f64>>(value).into_iter().map(|x| x as f32).collect()
}

#[test]
fn commands_work_on_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("texts.jsonl");
    for fixture in fixtures() {
        let dir = fixture.dir.to_str().unwrap();
        let score = |lines: &[Value]| {
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            std::fs::write(&input, lines.join("\n")).unwrap();
            runner(&["score", "--model", dir, "--input", input.to_str().unwrap(), "--json"]).unwrap()
        };
        if fixture.purpose == Purpose::Language {
            let rows: Vec<Value> = get(&fixture.expected["logprobs"]);
            for (found, row) in score(&rows).iter().zip(&rows) {
                close(&numbers(&found["logprobs"]), &get::<Vec<f64>>(&row["logprobs"]), &fixture.name);
            }
            let greedy = &fixture.expected["greedy"][0];
            std::fs::write(&input, json!({ "prompt_ids": greedy["prompt_ids"] }).to_string()).unwrap();
            let args = ["generate", "--model", dir, "--input", input.to_str().unwrap(), "--greedy", "--max-new", "16"];
            let found = runner(&[args.as_slice(), &["--json"]].concat()).unwrap();
            let (ids, expected): (Vec<u32>, Vec<u32>) = (get(&found[0]["response_ids"]), get(&greedy["new_ids"]));
            assert!(
                expected.starts_with(&ids) && (ids.len() == 16 || found[0]["finished"] == true),
                "{}",
                fixture.name
            );
            let case = &fixture.expected["chat"][1];
            let messages = folder.path().join("messages.json");
            std::fs::write(&messages, case["messages"].to_string()).unwrap();
            let chat = ["generate", "--model", dir, "--chat", messages.to_str().unwrap(), "--greedy", "--max-new", "2"];
            let found = runner(&[chat.as_slice(), &["--json"]].concat()).unwrap();
            assert_eq!(found[0]["prompt_ids"], case["ids"], "{}", fixture.name);
        } else {
            let sequences = fixture.sequences();
            let lines: Vec<Value> = sequences
                .iter()
                .filter(|(ids, _)| ids.len() > 1)
                .map(|(ids, _)| json!({ "prompt_ids": ids[..1], "response_ids": ids[1..] }))
                .collect();
            let expected = sequences.iter().filter(|(ids, _)| ids.len() > 1);
            for (found, (_, scores)) in score(&lines).iter().zip(expected) {
                close(&numbers(&found["rewards"]), &scores[1..], &fixture.name);
                let score = match fixture.purpose {
                    Purpose::Sequence => scores[scores.len() - 1],
                    _ => scores[1..].iter().sum::<f64>() / (scores.len() - 1) as f64,
                };
                close(&[get::<f64>(&found["score"]) as f32], &[score], &fixture.name);
            }
            let error = runner(&["generate", "--model", dir, "--prompt", "x"]).unwrap_err();
            assert!(error.contains("expected a language model"), "{error}");
        }
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let Some(fixture) = fixtures().into_iter().find(|fixture| fixture.name == "llama") else { return };
    let config = read_config(&fixture.dir).unwrap();
    let refused = |key: &str, value: Value, expected: &[&str]| {
        let mut config = config.clone();
        config[key] = value;
        let error = format!("{:#}", describe(&config).unwrap_err());
        assert!(expected.iter().all(|part| error.contains(part)), "{key}: {error}");
    };
    refused("architectures", json!(["FalconForCausalLM"]), &["`FalconForCausalLM`", "`LlamaForCausalLM`"]);
    refused("no_such_key", json!(3), &["`no_such_key` = 3"]);
    refused("quantization_config", json!({ "bits": 4 }), &["`quantization_config`"]);
    refused("hidden_act", json!("laplace"), &["`hidden_act`", "`laplace`", "`silu`"]);
    refused("rope_scaling", json!({ "rope_type": "spiral", "factor": 4.0 }), &["`rope_scaling.rope_type`", "`spiral`"]);
    refused("rope_scaling", json!({ "rope_type": "linear", "factor": 4.0, "beta": 1 }), &["`rope_scaling.beta` = 1"]);
    refused("rope_scaling", json!({ "rope_type": "linear" }), &["`rope_scaling.factor`"]);
    refused("hidden_size", Value::Null, &["`hidden_size`"]);
    refused("hidden_size", json!("many"), &["`hidden_size`", "\"many\""]);
    refused("num_key_value_heads", json!(3), &["`num_key_value_heads` must divide"]);
    let broken = |change: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture.dir.join(file), copy.path().join(file)).unwrap();
        }
        change(copy.path());
        let error = load(copy.path(), &describe(&read_config(copy.path()).unwrap()).unwrap(), &device()).unwrap_err();
        format!("{error:#}")
    };
    let with = |key: &str, value: Value| {
        let mut config = config.clone();
        config[key] = value;
        move |dir: &Path| std::fs::write(dir.join("config.json"), config.to_string()).unwrap()
    };
    let error = broken(&with("num_hidden_layers", json!(3)));
    assert!(error.contains("missing tensors: `model.layers.2.input_layernorm.weight`"), "{error}");
    let error = broken(&with("num_hidden_layers", json!(1)));
    assert!(error.contains("unexpected tensors: ") && error.contains("`model.layers.1.mlp.up_proj.weight`"), "{error}");
    let error = broken(&with("intermediate_size", json!(99)));
    assert!(error.contains("`model.layers.0.mlp.up_proj.weight`: expected [99, 64], found [176, 64]"), "{error}");
    let error = broken(&with("tie_word_embeddings", json!(true)));
    assert!(error.contains("ties the head"), "{error}");
    let error = broken(&|dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(error.contains("not a whole safetensors file"), "{error}");
    let error = broken(&|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap());
    assert!(error.contains("expected `model.safetensors` or `model.safetensors.index.json`"), "{error}");
}
