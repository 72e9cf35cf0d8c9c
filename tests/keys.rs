//! Every key of a recipe is read by something: changing it changes the key of a stage that computes, or the recipe key is
//! on the one visible list of those that change nothing but the report.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::collections::BTreeSet;
use std::path::Path;

use runner::recipe::{Recipe, load};
use runner::stage::node::Stage;
use runner::stage::plan_recipe;
use serde_json::{Value, json};

/// What can change no result: names, prose, and what the report alone computes.
const REPORT_ONLY: [&str; 6] = [
    "description",
    "evaluation.bootstrap_samples",
    "evaluation.confidence",
    "variants.0.name",
    "variants.1.name",
    "variants.2.name",
];

/// Words and tables that may stand where a recipe has a choice; whichever the recipe takes is tried.
fn choices() -> Vec<Value> {
    let words = ["k2", "adaptive", "sequence_mean", "word", "edits", "preferences", "pairwise_sum", "sum", "per_token"];
    let more = ["end_of_sequence", "qa_feedback", "world", "libtorch", "Cargo.toml"];
    let tables = [
        json!({ "byte_level_bpe": { "vocab_size": 300 } }),
        json!({ "simulated": { "notice_rate": 0.5, "label_noise": 0.0 } }),
        json!({ "simulated": {} }),
        json!({ "dataset": {} }),
        json!({ "oracle": {} }),
        json!({ "reward_model": {} }),
        json!({ "adaptive": { "target": 6.0, "horizon": 1000.0 } }),
    ];
    words.into_iter().chain(more).map(Value::from).chain(tables).collect()
}

/// Other values for a leaf; those that its type refuses are passed over later.
fn others(leaf: &Value) -> Vec<Value> {
    match leaf {
        Value::Bool(b) => vec![json!(!b)],
        Value::Number(n) if n.is_f64() => vec![json!(n.as_f64().unwrap() / 2.0), json!(0.5)],
        Value::Number(n) => vec![json!(n.as_u64().unwrap() + 1)],
        // Off: an optional number.
        Value::Null => vec![json!(0.5)],
        _ => choices(),
    }
}

/// JSON pointers to every leaf. A choice whose table is empty is one leaf: its name is all it says.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    if entries.is_empty() || entries.iter().any(|(_, inner)| **inner == json!({})) {
        found.push(at.to_owned());
        return;
    }
    for (key, inner) in entries {
        leaves(inner, &format!("{at}/{key}"), found);
    }
}

/// The keys of everything that computes, where the recipe's files are there; the report's key holds the whole recipe and
/// would prove nothing.
fn keys(recipe: &Recipe) -> Option<BTreeSet<String>> {
    let plan = plan_recipe(recipe, "test").ok()?;
    Some(plan.nodes.iter().filter(|node| node.stage != Stage::Report).map(|node| node.key.to_string()).collect())
}

/// The keys of `recipe` that can be changed without changing a computing stage, and the number of keys tried.
fn unread(path: &str, overrides: &[String]) -> (BTreeSet<String>, usize) {
    let recipe = load(Path::new(path), overrides).unwrap().experiment.points.remove(0).recipe;
    let (written, before) = (serde_json::to_value(&recipe).unwrap(), keys(&recipe).unwrap());
    let mut pointers = Vec::new();
    leaves(&written, "", &mut pointers);
    let mut unread = BTreeSet::new();
    for pointer in &pointers {
        let mut tried = 0;
        let changed = others(written.pointer(pointer).unwrap()).into_iter().any(|other| {
            let mut value = written.clone();
            *value.pointer_mut(pointer).unwrap() = other;
            let Ok(changed) = serde_json::from_value::<Recipe>(value.clone()) else { return false };
            // What is written out again as before was no change.
            if serde_json::to_value(&changed).unwrap() == written {
                return false;
            }
            let Some(after) = keys(&changed) else { return false };
            tried += 1;
            after != before
        });
        let key = pointer.trim_start_matches('/').replace('/', ".");
        assert!(tried > 0, "`{key}` of {path}: no other value was accepted; add one to this test");
        if !changed {
            unread.insert(key);
        }
    }
    (unread, pointers.len())
}

#[test]
fn every_key_changes_a_stage_or_is_known_to_change_the_report_only() {
    let expected: BTreeSet<String> = REPORT_ONLY.map(str::to_owned).into();
    let qa = ["dataset.path=datasets/README.md".to_owned()];
    for (path, overrides) in [("recipes/finegrained.toml", &[][..]), ("recipes/qa_feedback.toml", &qa)] {
        let (unread, tried) = unread(path, overrides);
        assert!(tried > 60, "{path}: only {tried} keys were tried");
        assert_eq!(unread, expected, "{path}: keys that change nothing (left), keys known to (right)");
    }
}

/// `[launch]` is left out of what a recipe is written as, so that the test above does not see it.
#[test]
fn where_a_run_is_carried_out_is_in_no_key() {
    let keys = |overrides: &[&str]| {
        let overrides: Vec<_> = overrides.iter().map(|change| (*change).to_owned()).collect();
        let recipe = load(Path::new("recipes/finegrained.toml"), &overrides).unwrap().experiment.points.remove(0).recipe;
        plan_recipe(&recipe, "test").unwrap().nodes
    };
    let launch = ["launch.stages.ppo.cores=4", "launch.local.memory=\"8G\"", "launch.slurm.partition=\"long\""];
    assert_eq!(keys(&launch), keys(&[]), "the report's among them");
}
