//! A small checkpoint, made by this program itself, and recipes that start from it.

use std::fs;

use super::tiny::Lab;

/// `[policy]` with adapters.
#[allow(dead_code, reason = "not every test has adapters")]
pub const POLICY: &str = r#"
[policy]
path = "base"

[policy.lora]
rank = 2
alpha = 8.0
dropout = 0.1
target_modules = ["q_proj", "v_proj", "down_proj"]
"#;

/// Trains the model of `tiny.toml` and exports it to the folder `base`.
pub fn exported(lab: &Lab) {
    let short = ["run", "tiny.toml", "--set", "ppo.steps=2", "--store", "first", "--out", "first-report"];
    lab.said(&short).fine();
    lab.said(&["export", "--model", "sft/seed=0", "--store", "first", "--out", "base"]).fine();
}

/// Writes `lora.toml`: `tiny.toml` with `policy` in place of its model.
pub fn recipe_on(lab: &Lab, policy: &str) {
    let text = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let (before, rest) = text.split_once("[tokenizer.word_level]").unwrap();
    let (_, after) = rest.split_once("[sft]").unwrap();
    lab.write("lora.toml", &format!("{before}[tokenizer.policy]\n{policy}\n[sft]{after}"));
}
