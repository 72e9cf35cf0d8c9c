//! Chat templates: those of well-known families, written down from what is said of them, and one with all of the dialect in it,
//! against texts by hand and, where it is installed, against `transformers`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod peers;

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

/// Conversations as JSON, whose objects have their keys in an order of their own: templates write them down.
fn conversations() -> Vec<String> {
    let long = [
        said("system", "Be brief."),
        said("user", "  What is 1 < 2 & \"3\"?  "),
        said("assistant", "<think>\nEasy: naïve 😀.\n</think>\n\nYes.\n"),
        said("user", "Sure?"),
        said("assistant", "Sure."),
    ];
    let [system, question] = [&long[0], &long[1]];
    let tool = r#"{ "type": "function", "function": { "name": "weather", "description": "Says <it>.", "parameters": {
        "type": "object", "required": ["city"], "properties": { "zone": { "type": "string" },
        "city": { "type": "string", "description": "Où?" } } } } }"#;
    let call = r#"{ "type": "function", "function": { "name": "weather", "arguments": { "zone": 1.5, "city": "Orléans", "days": 2 } } }"#;
    vec![
        json!([said("user", "Hi!")]).to_string(),
        json!(&long[1..4]).to_string(),
        json!(long).to_string(),
        json!([said("user", "Hi!"), said("user", "Twice.")]).to_string(),
        format!(r#"{{ "messages": [{system}, {question}], "tools": [{tool}], "date_string": "26 Jul 2024" }}"#),
        format!(
            r#"{{ "messages": [{question}, {{ "role": "assistant", "content": "", "tool_calls": [{call}] }},
            {}, {}], "date_string": "26 Jul 2024" }}"#,
            said("tool", "mild"),
            said("tool", "wet")
        ),
        format!(r#"{{ "messages": [{system}, {question}], "enable_thinking": false, "date_string": "1 May 2025" }}"#),
    ]
}

/// What we make of a request, in the form of the reference.
fn ours(source: &str, conversation: &str, prompt: bool) -> Result<Value, String> {
    let conversation: minijinja::Value = serde_json::from_str(conversation).unwrap();
    let rendered = ChatTemplate::new(source.to_owned(), tokens()).render(&conversation, prompt);
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
                if name == "llama-3.1" && !conversation.contains("date_string") {
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
    let Some(python) = peers::python("transformers, jinja2") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("requests.jsonl");
    let lines: Vec<String> = requests
        .iter()
        .map(|(_, template, conversation, prompt)| {
            let (template, tokens) = (json!(template), json!(tokens()));
            let rest = format!(r#""conversation": {conversation}, "prompt": {prompt}"#).replace('\n', " ");
            format!(r#"{{ "template": {template}, "tokens": {tokens}, {rest} }}"#)
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
    for (name, expected) in
        [("chatml-generation", ["c d<|im_end|>", "f<|im_end|>"]), ("chatml", ["c d<|im_end|>\n", "f<|im_end|>\n"])]
    {
        let whole = template(name).whole(&talk).unwrap();
        let characters: Vec<char> = whole.text.chars().collect();
        let spans = whole.generated.iter().map(|&(first, last)| characters[first..last].iter().collect::<String>());
        assert_eq!(spans.collect::<Vec<_>>(), expected, "{name}");
        let tokenizer =
            Tokenizer::train(&Config::WordLevel(WordLevel {}), whole.text.split_inclusive(' ').map(str::to_owned));
        let tokenizer = tokenizer.unwrap();
        let (ids, inside) = tokenizer.within(&whole.text, &whole.generated);
        assert_eq!(ids, tokenizer.encode(&whole.text), "{name}");
        assert!(ids.len() == inside.len() && inside.contains(&true) && inside.contains(&false), "{name}: {inside:?}");
    }
    let error = template("llama-2").render(&json!([said("user", "a"), said("user", "b")]), true).unwrap_err();
    assert!(format!("{error:#}").contains("must alternate"), "{error:#}");
}
