//! Memory: what loading a checkpoint takes beside the model itself, and that all that is made of one base shares it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use polars::prelude::{Column, DataFrame, NamedFrom, ParquetCompression, ParquetWriter, Series};
use runner::compute::{Crew, DeviceName, MemoryWatch};
use runner::data::prompt::Shown;
use runner::data::{Config, records};
use runner::model::gradient::{Share, gradients};
use runner::model::pretrained::{describe, load, lora, read_config};
use runner::model::{Batch, Pair};
use safetensors::{Dtype, View};
use serde_json::json;
use tiny::Lab;

const VOCAB: usize = 12_000;

/// What is measured is the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A tensor of one number.
struct Even(Dtype, Vec<usize>);

impl View for Even {
    fn dtype(&self) -> Dtype {
        self.0
    }
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let number = if self.0 == Dtype::F32 { &0.01_f32.to_le_bytes()[..] } else { &[0x24, 0x3c] };
        Cow::Owned(number.repeat(self.1.iter().product()))
    }
    fn data_len(&self) -> usize {
        self.1.iter().product::<usize>() * if self.0 == Dtype::F32 { 4 } else { 2 }
    }
}

/// A Llama in `dir` with its tensors in `files` files; its size in `f32`.
fn checkpoint(dir: &Path, hidden: usize, layers: usize, dtype: Dtype, files: usize) -> u64 {
    fs::create_dir_all(dir).unwrap();
    let inner = 11 * hidden / 4;
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        ("lm_head.weight".to_owned(), vec![VOCAB, hidden]),
    ];
    for i in 0..layers {
        let mut add =
            |name: &str, shape: &[usize]| tensors.push((format!("model.layers.{i}.{name}.weight"), shape.into()));
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{part}"), &[hidden, hidden]);
        }
        add("mlp.gate_proj", &[inner, hidden]);
        add("mlp.up_proj", &[inner, hidden]);
        add("mlp.down_proj", &[hidden, inner]);
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
    }
    let size = tensors.iter().map(|(_, shape)| 4 * shape.iter().product::<usize>() as u64).sum();
    let mut places = serde_json::Map::new();
    for (i, part) in tensors.chunks(tensors.len().div_ceil(files)).enumerate() {
        let name = if files == 1 { "model.safetensors".to_owned() } else { format!("model-{i}.safetensors") };
        let views = part.iter().map(|(tensor, shape)| (tensor, Even(dtype, shape.clone())));
        safetensors::serialize_to_file(views, None, &dir.join(&name)).unwrap();
        places.extend(part.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    let write = |name: &str, value: serde_json::Value| fs::write(dir.join(name), value.to_string()).unwrap();
    if files > 1 {
        write("model.safetensors.index.json", json!({ "weight_map": places }));
    }
    write(
        "config.json",
        json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "vocab_size": VOCAB,
            "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": hidden / 32 }),
    );
    write(
        "tokenizer.json",
        json!({ "version": "1.0", "added_tokens": [], "pre_tokenizer": { "type": "WhitespaceSplit" },
            "model": { "type": "WordLevel", "vocab": { "</s>": 0, "<unk>": 1, "a": 2 }, "unk_token": "<unk>" } }),
    );
    write("tokenizer_config.json", json!({ "eos_token": "</s>" }));
    size
}

/// A file of rows whose prompts are `width` characters long, `parts` row groups or `parts * 1000` lines; its size.
fn rows(path: &Path, parts: usize, width: usize) -> u64 {
    let prompt = |i: usize| format!("{i:0width$}");
    if path.extension().is_some_and(|ending| ending == "jsonl") {
        let mut out = BufWriter::new(File::create(path).unwrap());
        for i in 0..parts * 1000 {
            writeln!(out, "{}", json!({ "prompt": prompt(i), "chosen": "good", "rejected": "bad" })).unwrap();
        }
    } else {
        let column = |name: &str, texts: Vec<String>| Column::from(Series::new(name.into(), texts));
        let frame = |part: usize| {
            let prompts = (0..1000).map(|i| prompt(part * 1000 + i)).collect();
            let [chosen, rejected] = ["good", "bad"].map(|text| vec![text.to_owned(); 1000]);
            DataFrame::new(
                1000,
                vec![column("prompt", prompts), column("chosen", chosen), column("rejected", rejected)],
            )
        };
        let first = frame(0).unwrap();
        let writer = ParquetWriter::new(File::create(path).unwrap()).with_compression(ParquetCompression::Uncompressed);
        let mut writer = writer.batched(first.schema()).unwrap();
        for part in 0..parts {
            writer.write_batch(&frame(part).unwrap()).unwrap();
        }
        writer.finish().unwrap();
    }
    fs::metadata(path).unwrap().len()
}

#[test]
fn of_a_dataset_no_more_is_held_than_is_used() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    for name in ["rows.jsonl", "rows.parquet"] {
        let size = rows(&lab.path(name), 40, 6000);
        assert!(size > 200 << 20, "{size}");
        for max_rows in [None, Some(300)] {
            let config = json!({ "path": lab.path(name), "format": "records", "demonstrations": 50, "train_prompts": 50,
                "validation_prompts": 20, "test_prompts": 20, "max_prompt_tokens": 9, "max_response_tokens": 9,
                "records": { "max_rows": max_rows } });
            let config: Config = serde_json::from_value(config).unwrap();
            let watch = MemoryWatch::start();
            let before = watch.peak_bytes().unwrap();
            let data = records::read(&config, &Shown::default()).unwrap();
            let more = watch.peak_bytes().unwrap() - before;
            assert_eq!([data.train.len(), data.test.len(), data.demonstrations.len()], [50, 20, 50]);
            println!("{name}, {max_rows:?}: {} MiB of {}", more >> 20, size >> 20);
            assert!(more < size / 3, "{name}, {max_rows:?}: {more} bytes of a file of {size}");
        }
    }
}

/// The most memory that the binary held while it scored two tokens by the model in `dir`.
fn peak(lab: &Lab, dir: &str) -> u64 {
    lab.write("row.jsonl", &json!({ "prompt_ids": [2], "response_ids": [2, 0] }).to_string());
    let mut command = lab.runner(&["score", "--model", dir, "--input", "row.jsonl"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(mark.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn loading_takes_little_more_than_the_model() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    checkpoint(&lab.path("least"), 32, 1, Dtype::F32, 1);
    let program = peak(&lab, "least");
    for (name, dtype, files) in [("f32", Dtype::F32, 1), ("bf16", Dtype::BF16, 1), ("sharded", Dtype::BF16, 4)] {
        let size = checkpoint(&lab.path(name), 512, 8, dtype, files);
        let needed = peak(&lab, name).saturating_sub(program);
        let times = needed as f64 / size as f64;
        println!("{name}: {} MiB of weights in f32, {} MiB beside the program: {times:.3}", size >> 20, needed >> 20);
        assert!(size > 140 << 20 && needed > size / 2, "a measurement: {size}, {needed}");
        assert!(times < 1.2, "{name}: {needed} bytes for a model of {size}");
        fs::remove_dir_all(lab.path(name)).unwrap();
    }
}

#[test]
fn policy_reference_value_and_reward_models_share_one_base() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let dir = lab.path("base");
    let size = checkpoint(&dir, 512, 8, Dtype::F32, 1);
    let device = "flex".parse::<DeviceName>().unwrap().open().unwrap();
    let description = describe(&read_config(&dir).unwrap()).unwrap();
    let config = json!({ "rank": 4, "alpha": 8.0, "target_modules": ["all-linear"] });
    let lora = lora(&serde_json::from_value(config).unwrap(), &description).unwrap();
    let reference = load(&dir, &description, &device).unwrap();
    let watch = MemoryWatch::start();
    let before = watch.peak_bytes().unwrap();
    assert!(before > size, "{before}");
    let policy = reference.adapt(&lora, 1);
    let reward = reference.adapt(&lora, 2).with_head(1, 0.02, 3);
    let value = reward.with_head(1, 0.0, 4);
    for model in [&policy, &reward, &value] {
        let [shared, own] = model.bytes();
        assert!(shared > size / 2 && shared <= size && own < size / 20, "{shared} shared, {own} its own");
    }
    let rows = [Pair { prompt: &[2, 2], response: &[2, 0] }];
    for model in [&policy, &reward, &value] {
        let outcome = gradients(model, &[rows], &Crew::new(1), |model, rows| {
            let outputs = model.before_response(&Batch::new(rows, 0, &device));
            Share { loss: outputs.sum(), sums: [] }
        });
        assert_eq!(outcome.gradients.len(), model.weights.len());
    }
    let more = watch.peak_bytes().unwrap() - before;
    println!("a base of {} MiB; with three adapted models and their gradients {} MiB more", size >> 20, more >> 20);
    assert!(more < size / 3, "{more} bytes beside a base of {size}: something was copied");
}

/// Peak memory of supervised training in bytes, and its loss at every step, when the recipe `tiny.toml` has a larger network
/// and `changes`.
fn fine_tuned(lab: &Lab, store: &str, changes: &[&str]) -> (f64, Vec<f64>) {
    let larger = ["model.hidden_size=64", "model.intermediate_size=192", "model.num_hidden_layers=6", "shards=1"];
    let work = ["sft.batch_size=96", "sft.steps=6", "replicas=1"];
    let mut arguments = vec!["run", "tiny.toml", "--jobs", "1", "--store", store];
    arguments.extend(larger.iter().chain(&work).chain(changes).flat_map(|change| ["--set", change]));
    lab.said(&arguments).fine();
    let results = lab.path(store).join("results");
    let read = |name: &str| {
        let files = tiny::files(&results);
        let path = files.iter().find(|path| path.starts_with("sft") && path.ends_with(name)).unwrap();
        fs::read_to_string(results.join(path)).unwrap()
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let peak = json(&read("manifest.json"))["provenance"]["peak_memory_bytes"].as_f64().unwrap();
    let losses = read("metrics.jsonl").lines().map(|line| json(line)["values"]["loss"].as_f64().unwrap()).collect();
    (peak, losses)
}

#[test]
fn a_budget_for_shards_lowers_the_peak_and_not_the_result() {
    let lab = Lab::new();
    let (peak, losses) = fine_tuned(&lab, "whole", &[]);
    let (lower, same) = fine_tuned(&lab, "cut", &["shard_memory='2M'"]);
    println!("{} MiB, with a budget of 2 MiB a shard {}", peak / 1_048_576.0, lower / 1_048_576.0);
    assert!(lower < 0.7 * peak, "{lower} bytes instead of {peak}");
    assert_eq!((losses.len(), same.len()), (6, 6));
    for (loss, same) in losses.iter().zip(&same) {
        assert!((loss - same).abs() < 1e-4 * loss, "{losses:?} and {same:?}");
    }
    assert!(losses[5] < losses[0], "something is learned: {losses:?}");
}
