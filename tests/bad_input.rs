//! What a person gets to read when the input is wrong: the whole message, and the exit code.
//!
//! Faults of a recipe itself have their own snapshots in `recipes.rs`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;

use burn::tensor::Device;
use runner::model::{self, Model};
use runner::stage::Policy;
use runner::text::{self, Tokenizer};
use serde_json::{Value, json};
use tiny::{Lab, assert_same, files, results};

/// Exit code and stderr, as a reviewer reads them; nothing goes to stdout when nothing was made.
fn message(lab: &Lab, arguments: &[&str]) -> String {
    let said = lab.said(arguments);
    assert_eq!(said.out, "");
    let folder = lab.path("").display().to_string();
    let lines: Vec<&str> = said.err.lines().filter(|line| !talk(line)).collect();
    format!("exit code {}\n{}", said.code.unwrap(), lines.join("\n")).replace(&folder, "")
}

/// Lines that say how a run goes, which its speed decides.
fn talk(line: &str) -> bool {
    let ends = [": starts", " to run", " left"];
    line.starts_with('✓')
        || line.starts_with("done in ")
        || line.contains(": resumes at ")
        || ends.iter().any(|end| line.ends_with(end))
}

/// The message of a run with `text` as its dataset.
fn with_dataset(format: &str, name: &str, text: &str) -> String {
    let lab = Lab::new();
    lab.write(name, text);
    if format == "qa_feedback" {
        let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
        let simulated = "[preferences.simulated]\nnotice_rate = 0.9\nlabel_noise = 0.0\n\n[edits.simulated]";
        let recipe = recipe.replace(simulated, "[preferences.dataset]\n[edits.dataset]");
        lab.write("tiny.toml", &recipe.replace("[judge.oracle]", "[judge.reward_model]"));
    }
    let (path, format) = (format!("dataset.path={name}"), format!("dataset.format={format}"));
    message(&lab, &["run", "tiny.toml", "--set", &path, "--set", &format])
}

fn record() -> Value {
    json!({
        "question": "how many?", "gold": "Two.", "passages": [["Numbers", "One.", "Two."]],
        "prediction 1": "a b", "prediction 2": "c", "prediction 3": "d", "prediction 4": "e",
        "preference": [1, 0, 2, 1, 1, 2],
        "feedback": { "errors": [], "missing-info": [], "corrected-prediction": "a" },
    })
}

#[test]
fn a_dataset_that_is_not_there() {
    insta::assert_snapshot!(
        "missing_dataset",
        message(&Lab::new(), &["run", "tiny.toml", "--set", "dataset.path=nowhere.toml"])
    );
}

#[test]
fn a_dataset_with_nothing_in_it() {
    insta::assert_snapshot!("empty_world", with_dataset("world", "empty.toml", ""));
    insta::assert_snapshot!("empty_records", with_dataset("qa_feedback", "empty.json", "\n"));
    insta::assert_snapshot!("no_records", with_dataset("qa_feedback", "none.json", "[]"));
}

#[test]
fn a_malformed_world() {
    insta::assert_snapshot!("malformed_world", with_dataset("world", "world.toml", "prompt_end = \"=>\"\n[[slots]\n"));
    insta::assert_snapshot!("mistyped_world", with_dataset("world", "world.toml", "prompt_end = 7\n"));
}

#[test]
fn malformed_records() {
    let broken = format!("[\n{},\n{{\"question\": ]", record());
    insta::assert_snapshot!("malformed_records", with_dataset("qa_feedback", "data.json", &broken));
    let mut short = record();
    short.as_object_mut().unwrap().remove("gold");
    insta::assert_snapshot!(
        "record_without_gold",
        with_dataset("qa_feedback", "data.json", &format!("[\n{},\n{short}]", record()))
    );
    insta::assert_snapshot!("too_few_records", with_dataset("qa_feedback", "data.json", &format!("[{}]", record())));
}

/// The vocabulary of a few words.
fn tokenizer(words: &str) -> Tokenizer {
    Tokenizer::train(&text::Config::WordLevel(text::WordLevel {}), std::iter::once(words.to_owned())).unwrap()
}

/// A lab whose recipe reads `tokenizer.json`, with `pad` and `eos` for those tokens.
fn with_tokenizer(json: &str, pad: &str, eos: &str) -> String {
    let lab = Lab::new();
    lab.write("tokenizer.json", json);
    let table = format!(
        "[tokenizer.file]\npath = \"tokenizer.json\"\npad_token = \"{pad}\"\nbos_token = \"<bos>\"\neos_token = \"{eos}\""
    );
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    lab.write("tiny.toml", &recipe.replace("[tokenizer.word_level]", &table));
    message(&lab, &["run", "tiny.toml"])
}

#[test]
fn a_tokenizer_without_its_marks() {
    let json = tokenizer("a b c").to_json().unwrap();
    insta::assert_snapshot!("tokenizer_without_pad", with_tokenizer(&json, "<blank>", "<eos>"));
    insta::assert_snapshot!("tokenizer_without_eos", with_tokenizer(&json, "<pad>", "</s>"));
    insta::assert_snapshot!("no_tokenizer", with_tokenizer("{}", "<pad>", "<eos>"));
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_has_rows() {
    let config: model::Config = serde_json::from_value(json!({
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 8,
    }))
    .unwrap();
    let policy = |rows, words| {
        let model = Model::init(&config, rows, rows, 0, &Device::flex());
        Policy::new(model, tokenizer(words), 8, 8).map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(tokenizer("a b c").vocab_size(), 7, "three words, four marks");
    assert_eq!(policy(7, "a b c"), Ok(()));
    insta::assert_snapshot!("tokenizer_beyond_model", policy(7, "a b c d").unwrap_err());
}

#[test]
fn a_loss_that_is_no_number_stops_its_stage() {
    let lab = Lab::new();
    let too_fast = ["run", "tiny.toml", "--set", "sft.optimizer.learning_rate=1e30"];
    insta::assert_snapshot!("loss_at_once", message(&lab, &too_fast));

    // Weights that grow ten-thousandfold a step: some steps are fine, and their checkpoint stays.
    let grows = ["--set", "sft.optimizer.weight_decay=1e6", "--set", "sft.optimizer.warmup_steps=0"];
    let grows = [&["run", "tiny.toml"][..], &grows].concat();
    let first = message(&lab, &grows);
    insta::assert_snapshot!("loss_later", first);
    let kept: Vec<_> = files(&lab.path(".runner/partial"))
        .into_iter()
        .filter_map(|name| Some(name.components().nth(3)?.as_os_str().to_str()?.to_owned()))
        .filter(|folder| folder.starts_with("step-"))
        .collect();
    assert_eq!(kept.first().map(String::as_str), Some("step-00000002"), "{kept:?}");
    assert_eq!(message(&lab, &grows), first, "from the checkpoint as from the start");
    assert!(fs::read_to_string(lab.path("reports/tiny/events.jsonl")).unwrap().contains("\"resumed_from\":2"));

    lab.said(&["run", "tiny.toml"]).fine();
}

#[test]
fn a_store_that_cannot_be_written() {
    let lab = Lab::new();
    insta::assert_snapshot!("store_is_a_file", message(&lab, &["run", "tiny.toml", "--store", "tiny.toml"]));
    insta::assert_snapshot!("store_in_a_file", message(&lab, &["run", "tiny.toml", "--store", "tiny.toml/store"]));
    insta::assert_snapshot!("out_in_a_file", message(&lab, &["run", "tiny.toml", "--out", "tiny.toml/out"]));
}

#[test]
fn a_manifest_that_is_none() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    let store = lab.path(".runner");
    let whole = results(&store);
    for (stage, manifest) in [("report", "{\"stage\":"), ("tokenizer", "")] {
        let root = store.join("results").join(stage);
        let name = files(&root).into_iter().find(|name| name.ends_with("manifest.json")).unwrap();
        fs::write(root.join(name), manifest).unwrap();
    }
    fs::remove_dir_all(store.join("results/sft")).unwrap();
    let plan: Value = serde_json::from_str(&lab.said(&["plan", "tiny.toml", "--json"]).fine().out).unwrap();
    let runs = plan["nodes"].as_array().unwrap().iter().filter(|node| node["status"] == "run");
    let reasons: Vec<_> = runs.map(|node| format!("{}: {}", node["label"], node["reason"])).collect();
    insta::assert_snapshot!("corrupt_manifests", reasons.join("\n"));
    lab.said(&["run", "tiny.toml"]).fine();
    assert_same(&whole, &results(&store));
}

#[test]
fn overrides_that_make_no_sense() {
    let lab = Lab::new();
    for change in ["ppo.clip_rang=0.2", "ppo.gamma=1.5", "ppo.steps", "sft.optimizer=7"] {
        let found = message(&lab, &["run", "tiny.toml", "--set", change]);
        assert!(found.starts_with("exit code 2\nerror: ") && found.contains(change), "{found}");
    }
    insta::assert_snapshot!("unknown_override", message(&lab, &["run", "tiny.toml", "--set", "ppo.clip_rang=0.2"]));
    assert!(!lab.path(".runner").exists(), "a wrong recipe leaves no trace");
}

#[test]
fn exit_codes_tell_the_kinds_apart() {
    let lab = Lab::new();
    let code = |arguments: &[&str]| lab.said(arguments).code;
    assert_eq!(code(&["check", "tiny.toml"]), Some(0));
    lab.write("empty.toml", "");
    assert_eq!(code(&["run", "tiny.toml", "--set", "dataset.path=empty.toml"]), Some(1));
    assert_eq!(code(&["run", "nowhere.toml"]), Some(2));
    assert_eq!(code(&["ruin", "tiny.toml"]), Some(2));
    assert_eq!(code(&["report", "tiny.toml"]), Some(2));
}
