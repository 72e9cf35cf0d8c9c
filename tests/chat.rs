//! Chat templates: those of well-known families, written down from what is said of them, and one with all of the dialect in it,
//! against texts by hand and, where it is installed, against `transformers`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use runner::text::{ChatTemplate, Config, Tokenizer, WordLevel};
use serde_json::{Map, Value, json};

fn templates() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    assert!(found.len() >= 12, "{found:?}");
    found
}

fn tokens() -> Map<String, Value> {
    let tokens = json!({ "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>" });
    tokens.as_object().unwrap().clone()
}

fn template(name: &str) -> ChatTemplate {
    let (_, source) = templates().into_iter().find(|(known, _)| known == name).unwrap();
    ChatTemplate::new(source, tokens())
}

fn said(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn conversations() -> Vec<Value> {
    let long = [
        said("system", "Be brief."),
        said("user", "  What is 1 < 2 & \"3\"?  "),
        said("assistant", "<think>\nEasy: naïve 😀.\n</think>\n\nYes.\n"),
        said("user", "Sure?"),
        said("assistant", "Sure."),
    ];
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string", "description": "Où?" } } });
    let tool = json!({ "type": "function", "function": { "name": "weather", "description": "Says <it>.", "parameters": parameters } });
    let call =
        json!({ "type": "function", "function": { "name": "weather", "arguments": { "city": "Orléans", "days": 2 } } });
    vec![
        json!([said("user", "Hi!")]),
        json!(&long[1..4]),
        json!(long),
        json!([said("user", "Hi!"), said("user", "Twice.")]),
        json!({ "messages": &long[..2], "tools": [tool], "date_string": "26 Jul 2024" }),
        json!({ "messages": [said("user", "Weather?"), { "role": "assistant", "content": "", "tool_calls": [call] },
            said("tool", "mild"), said("tool", "wet")], "date_string": "26 Jul 2024" }),
        json!({ "messages": &long[..2], "enable_thinking": false, "date_string": "1 May 2025" }),
    ]
}

/// What we make of a request, in the form of the reference.
fn ours(source: &str, conversation: &Value, prompt: bool) -> Result<Value, String> {
    let rendered = ChatTemplate::new(source.to_owned(), tokens()).render(conversation, prompt);
    let rendered = rendered.map_err(|error| format!("{error:#}"))?;
    Ok(json!({ "text": rendered.text, "generated": rendered.generated }))
}

#[test]
fn templates_of_well_known_families_render_as_in_transformers() {
    let mut requests = Vec::new();
    for (name, source) in templates() {
        for conversation in conversations() {
            for prompt in [true, false] {
                // Today's date is another one by the time that the reference is asked.
                if name == "llama-3.1" && conversation.get("date_string").is_none() {
                    continue;
                }
                requests.push((name.clone(), source.clone(), conversation.clone(), prompt));
            }
        }
    }
    let found: Vec<_> = requests.iter().map(|(_, source, talk, prompt)| ours(source, talk, *prompt)).collect();
    for ((name, _, conversation, _), found) in requests.iter().zip(&found) {
        if let Err(error) = found {
            assert!(error.contains("refuses these messages"), "{name} on {conversation}: {error}");
        }
    }
    let python = Path::new(&std::env::var("RUNNER_PYTHON_ENV").unwrap_or_default()).join("bin/python");
    let installed = Command::new(&python).args(["-c", "import transformers, jinja2"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no `transformers` in the Python of `RUNNER_PYTHON_ENV` to compare with");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("requests.jsonl");
    let lines: Vec<String> = requests
        .iter()
        .map(|(_, template, conversation, prompt)| {
            json!({ "template": template, "tokens": tokens(), "conversation": conversation, "prompt": prompt })
                .to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/chat.py");
    let output = Command::new(&python).arg(script).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), requests.len());
    let mut different = Vec::new();
    for ((line, (name, _, conversation, prompt)), found) in text.lines().zip(&requests).zip(&found) {
        let expected: Value = serde_json::from_str(line).unwrap();
        let same = match found {
            Ok(found) => *found == expected,
            Err(_) => expected.get("error").is_some(),
        };
        if !same {
            different
                .push(format!("{name}, prompt {prompt}, {conversation}\n  expected {expected}\n  found    {found:?}"));
        }
    }
    assert!(different.is_empty(), "{} of {} differ:\n{}", different.len(), requests.len(), different.join("\n"));
}

#[test]
fn conversations_look_as_their_families_say() {
    let talk = json!([said("user", "Hi!"), said("assistant", "Hello."), said("user", "Bye.")]);
    for (name, expected) in [
        (
            "chatml",
            "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("llama-2", "<s>[INST] Hi! [/INST] Hello. </s><s>[INST] Bye. [/INST]"),
        (
            "llama-3",
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral", "<s>[INST] Hi![/INST] Hello.</s>[INST] Bye.[/INST]"),
        (
            "qwen2.5",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "gemma",
            "<s><start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\nBye.<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("phi-3", "<|user|>\nHi!<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nBye.<|end|>\n<|assistant|>\n"),
        ("zephyr", "<|user|>\nHi!</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye.</s>\n<|assistant|>\n"),
    ] {
        assert_eq!(template(name).render(&talk, true).unwrap().text, expected, "{name}");
    }
}

#[test]
fn what_the_assistant_said_is_known_by_blocks_and_by_differences() {
    let talk = json!([said("user", "a b"), said("assistant", "c d"), said("user", "e"), said("assistant", "f")]);
    for (name, separator) in [("chatml-generation", ""), ("chatml", "\n")] {
        let template = template(name);
        let whole = template.render(&talk, false).unwrap().text;
        let tokenizer =
            Tokenizer::train(&Config::WordLevel(WordLevel {}), whole.split_inclusive(' ').map(str::to_owned)).unwrap();
        let (ids, mask) = template.mask(&talk, &tokenizer).unwrap();
        assert_eq!(ids, tokenizer.encode(&whole), "{name}");
        assert_eq!(ids.len(), mask.len(), "{name}");
        let learned: Vec<String> = tokenizer
            .pieces(&ids)
            .into_iter()
            .zip(&mask)
            .filter(|(_, learned)| **learned)
            .map(|(piece, _)| piece)
            .collect();
        assert!(!learned.is_empty() && learned.len() < ids.len(), "{name}{separator}: {learned:?}");
    }
    let error = template("llama-2").render(&json!([said("user", "a"), said("user", "b")]), true).unwrap_err();
    assert!(format!("{error:#}").contains("must alternate"), "{error:#}");
}
