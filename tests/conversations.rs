//! Conversations through the real binary: of several turns all that the assistant said is learned, and nothing else.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod checkpoint;
#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use std::fs;

use checkpoint::{exported, recipe_on};
use serde_json::{Value, json};
use tiny::{Lab, files};

/// A turn of the assistant is its words and the end-of-sequence token, between marks or not.
const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ 'the ' + m.content + ' ' }}{% else %}\
    {{ 'is ' }}BEGIN{{ m.content + ' ' + eos_token + ' ' }}END{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ 'is ' }}{% endif %}";

const MARKS: [&str; 2] = ["{% generation %}", "{% endgeneration %}"];

const CONVERSATIONS: usize = 24;

fn said(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// A checkpoint with a chat template; words of its vocabulary, which are all different.
fn checkpoint(lab: &Lab, marks: [&str; 2]) -> Vec<String> {
    exported(lab);
    let template = TEMPLATE.replace("BEGIN", marks[0]).replace("END", marks[1]);
    fs::write(lab.path("base/chat_template.jinja"), template).unwrap();
    let text = fs::read_to_string(lab.path("base/tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&text).unwrap();
    let words = tokenizer["model"]["vocab"].as_object().unwrap().keys();
    words.filter(|word| word.chars().all(|c| c.is_ascii_lowercase())).cloned().collect()
}

/// `lora.toml` on conversations and pairs, each with a first word of its own.
fn recipe(lab: &Lab, words: &[String]) {
    let mut rows = Vec::new();
    let [first, second] = [&words[0], &words[1]];
    let (talks, pairs) = words[2..].split_at(CONVERSATIONS);
    for word in talks {
        // One word, then three.
        let messages = [
            said("user", word),
            said("assistant", first),
            said("user", "and"),
            said("assistant", &format!("{second} {second} {first}")),
        ];
        rows.push(json!({ "messages": messages }).to_string());
    }
    for word in &pairs[..30] {
        let side = |text: &str| json!([said("user", word), said("assistant", text)]);
        rows.push(json!({ "chosen": side(first), "rejected": side(&format!("{second} {second}")) }).to_string());
    }
    lab.write("rows.jsonl", &rows.join("\n"));
    recipe_on(lab, "[policy]\npath = \"base\"\n\n[prompt]\nchat = true\n");
    let text = fs::read_to_string(lab.path("lora.toml")).unwrap();
    let (before, rest) = text.split_once("[dataset]").unwrap();
    let (_, rest) = rest.split_once("[tokenizer.policy]").unwrap();
    let (middle, rest) = rest.split_once("[preferences.simulated]").unwrap();
    let (_, rest) = rest.split_once("[edits.simulated]").unwrap();
    let dataset = "[dataset]\npath = \"rows.jsonl\"\nformat = \"records\"\ndemonstrations = 1000\ntrain_prompts = 40\n\
        validation_prompts = 4\ntest_prompts = 4\nmax_prompt_tokens = 16\nmax_response_tokens = 8\n";
    let rest = rest.replace("[judge.oracle]", "[judge.reward_model]");
    lab.write(
        "talk.toml",
        &format!(
            "{}{dataset}\n[tokenizer.policy]{middle}[preferences.dataset]\n[edits.chosen]\nmax_share = 1.0\n{rest}",
            before.replace("budgets = [24]", "budgets = [12]")
        ),
    );
}

/// What the stages `sft` wrote down of every step.
fn steps(lab: &Lab, store: &str) -> Vec<Value> {
    let root = lab.path(store).join("results/sft");
    let file = files(&root).into_iter().find(|file| file.ends_with("metrics.jsonl")).unwrap();
    let text = fs::read_to_string(root.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["values"].clone()).collect()
}

#[test]
fn every_turn_of_the_assistant_is_learned_and_nothing_else() {
    for marks in [MARKS, ["", ""]] {
        let lab = Lab::new();
        let words = checkpoint(&lab, marks);
        recipe(&lab, &words);
        let tuned = ["--set", "sft.steps=160", "--set", "sft.batch_size=16", "--set", "ppo.steps=2"];
        lab.said(&[&["run", "talk.toml"][..], &tuned].concat()).fine();
        // What was learned of: of conversations 1 + 1 and 3 + 1 tokens, of chosen responses 1 + 1.
        let root = lab.path(".runner/results/data");
        let shown = files(&root).into_iter().find(|file| file.ends_with("demonstrations.jsonl")).unwrap();
        let shown = fs::read_to_string(root.join(shown)).unwrap();
        let talks = shown.lines().filter(|line| line.contains("\"said\"")).count();
        let all = shown.lines().count();
        assert!(talks >= CONVERSATIONS - 8 && all > talks + 16, "{talks} of {all}");
        // A step may span two epochs; so many steps are whole epochs.
        let learned = |step: &Value| step["tokens"].as_f64().unwrap();
        let found = steps(&lab, ".runner");
        let batches = all / greatest_common_divisor(all, 16);
        let expected = batches * 16 / all * (6 * talks + 2 * (all - talks));
        let sum: f64 = found[..batches].iter().map(learned).sum();
        assert!((sum - expected as f64).abs() < 1e-9, "{sum} of {expected} tokens ({talks} of {all})");
        // The first turn was learned: after its question comes its answer, not that of the last turn.
        let prompt = format!("the {} is", words[3]);
        let arguments = ["generate", "--model", "sft/seed=0", "--greedy", "--max-new", "4", "--prompt"];
        let answer = lab.said(&[&arguments[..], &[&prompt]].concat()).fine().out;
        assert_eq!(answer.trim(), words[0], "after `{prompt}`");
        let prompt = format!("the {} is {} <eos> the and is", words[3], words[0]);
        let answer = lab.said(&[&arguments[..], &[&prompt]].concat()).fine().out;
        assert_eq!(answer.trim(), format!("{0} {0} {1}", words[1], words[0]), "after `{prompt}`");
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[test]
fn conversations_that_cannot_be_imitated_are_bad_rows() {
    let lab = Lab::new();
    let words = checkpoint(&lab, MARKS);
    recipe(&lab, &words);
    let mut rows = fs::read_to_string(lab.path("rows.jsonl")).unwrap();
    for messages in [
        json!([said("user", "and"), said("assistant", "the"), said("user", "is")]),
        json!([said("user", "and"), json!({ "role": "assistant" })]),
        json!("and"),
        json!([]),
    ] {
        rows = format!("{rows}\n{}", json!({ "messages": messages }));
    }
    lab.write("rows.jsonl", &rows);
    let refused = lab.said(&["run", "talk.toml"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    for part in ["4 of 58 rows cannot be used (4 wrong type)", "the last message in `messages`, found `user`'s"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
}
