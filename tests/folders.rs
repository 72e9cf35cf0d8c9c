//! Checkpoint folders with something wrong in them, through the real binary: what and where is said, and the code is 2.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "not all of it is needed here")]
mod checkpoint;
#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use std::fs;
use std::path::Path;

use checkpoint::exported;
use serde_json::{Value, json};
use tiny::{Lab, files};

/// Changes the object in the file at `path`.
fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A fault's name, what makes it in a folder, and words of the message.
type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let lab = Lab::new();
    exported(&lab);
    let base = lab.path("base");
    let cases: [Case; 11] = [
        (
            "pickled",
            &|dir| fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap(),
            &["found `pytorch_model.bin`, a format that is not read", "save_pretrained"],
        ),
        (
            "adapter",
            &|dir| fs::rename(dir.join("model.safetensors"), dir.join("adapter_model.safetensors")).unwrap(),
            &["an adapter alone", "merge_and_unload"],
        ),
        ("weightless", &|dir| fs::remove_file(dir.join("model.safetensors")).unwrap(), &["found neither"]),
        (
            "cut",
            &|dir| {
                let bytes = fs::read(dir.join("model.safetensors")).unwrap();
                fs::write(dir.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            },
            &["model.safetensors` is not a whole safetensors file"],
        ),
        ("configless", &|dir| fs::write(dir.join("config.json"), "{").unwrap(), &["config.json`: EOF while parsing"]),
        (
            "unknown",
            &|dir| edit(&dir.join("config.json"), |config| config["quantization_config"] = json!({ "bits": 4 })),
            &["config.json`", "not to be ignored: `quantization_config` = {\"bits\":4}"],
        ),
        (
            "another",
            &|dir| edit(&dir.join("config.json"), |config| config["architectures"] = json!(["MixtralForCausalLM"])),
            &["unsupported architecture `MixtralForCausalLM`; supported are `LlamaForCausalLM`"],
        ),
        (
            "deeper",
            &|dir| edit(&dir.join("config.json"), |config| config["num_hidden_layers"] = json!(2)),
            &["missing tensors: `model.layers.1.input_layernorm.weight`, `model.layers.1.self_attn.q_proj.weight`"],
        ),
        (
            "biased",
            &|dir| edit(&dir.join("config.json"), |config| config["tie_word_embeddings"] = json!(true)),
            &["ties the head to the embedding, but the file has another matrix"],
        ),
        (
            "sentencepiece",
            &|dir| fs::rename(dir.join("tokenizer.json"), dir.join("tokenizer.model")).unwrap(),
            &["expected `tokenizer.json`, found `tokenizer.model` alone", "AutoTokenizer"],
        ),
        ("mute", &|dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap(), &["a Hugging Face `tokenizer.json`"]),
    ];
    lab.write("row.jsonl", &json!({ "prompt": "the", "response": "is" }).to_string());
    for (name, spoil, parts) in cases {
        let dir = lab.path(name);
        fs::create_dir(&dir).unwrap();
        for file in files(&base) {
            fs::copy(base.join(&file), dir.join(&file)).unwrap();
        }
        spoil(&dir);
        for arguments in [
            &["generate", "--model", name, "--prompt", "the"][..],
            &["score", "--model", name, "--input", "row.jsonl"],
            &["export", "--model", name, "--out", "out"],
        ] {
            let said = lab.said(arguments);
            assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.err);
            for part in parts.iter().chain([&name]) {
                assert!(said.err.contains(part), "{arguments:?}, {part}: {}", said.err);
            }
        }
        assert!(!lab.path("out").exists(), "{name}");
    }
}

/// What a model is shown of a text is what the tokenizer's own post-processor makes of it; flags beside it change nothing.
#[test]
fn what_begins_a_text_is_the_post_processors_matter() {
    let lab = Lab::new();
    exported(&lab);
    let ids = || -> Vec<u32> {
        let said = lab.said(&["generate", "--model", "base", "--prompt", "the", "--max-new", "1", "--json"]).fine();
        serde_json::from_value(serde_json::from_str::<Value>(&said.out).unwrap()["prompt_ids"].clone()).unwrap()
    };
    let begun = ids();
    assert_eq!(begun.len(), 2, "{begun:?}");
    let config = lab.path("base/tokenizer_config.json");
    for flag in [true, false] {
        edit(&config, |config| config["add_bos_token"] = json!(flag));
        assert_eq!(ids(), begun, "{flag}");
    }
    edit(&lab.path("base/tokenizer.json"), |tokenizer| tokenizer["post_processor"] = Value::Null);
    for flag in [true, false] {
        edit(&config, |config| config["add_bos_token"] = json!(flag));
        assert_eq!(ids(), begun[1..], "{flag}");
    }
}
