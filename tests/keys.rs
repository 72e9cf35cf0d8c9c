//! Every key of a recipe is read by something: changing it changes the key of a stage that computes, or the recipe key is
//! on one of two visible lists: of those that change nothing but the report, and of those that change nothing at all.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::collections::BTreeSet;
use std::path::Path;

use runner::recipe::{Recipe, load};
use runner::stage::node::{Node, Stage};
use runner::stage::plan_recipe;
use serde_json::{Value, json};

/// What can change no result: names, prose, how many share the work, and what the report alone computes.
const REPORT_ONLY: [&str; 6] = [
    "description",
    "evaluation.bootstrap_samples",
    "evaluation.confidence",
    "evaluation.difference",
    "evaluation.power",
    "replicas",
];

/// What changes no result, the report included: how often training saves.
const IN_NO_KEY: [&str; 3] = ["checkpoints.every_minutes", "checkpoints.every_steps", "checkpoints.keep"];

/// Words and tables that may stand where a recipe has a choice; whichever the recipe takes is tried.
fn choices() -> Vec<Value> {
    let words = ["k2", "adaptive", "sequence_mean", "word", "edits", "preferences", "pairwise_sum", "sum", "per_token"];
    let more = ["end_of_sequence", "qa_feedback", "world", "libtorch", "libtorch:mps", "f32", "Cargo.toml", "96M"];
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

/// The keys of everything that computes and of the report, where the recipe's files are there.
fn keys(recipe: &Recipe) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let plan = plan_recipe(recipe, "test").ok()?;
    let (reports, computing): (Vec<_>, Vec<_>) = plan.nodes.iter().partition(|node| node.stage == Stage::Report);
    let keys = |nodes: Vec<&Node>| nodes.into_iter().map(|node| node.key.to_string()).collect();
    Some((keys(computing), keys(reports)))
}

/// The keys of a recipe that can be changed without changing a computing stage.
struct Unread {
    /// Those that change the report.
    reported: BTreeSet<String>,
    /// Those that change nothing.
    silent: BTreeSet<String>,
    tried: usize,
    variants: usize,
}

fn unread(path: &str, overrides: &[String]) -> Unread {
    let recipe = load(Path::new(path), overrides).unwrap().experiment.points.remove(0).recipe;
    let (written, before) = (serde_json::to_value(&recipe).unwrap(), keys(&recipe).unwrap());
    let mut pointers = Vec::new();
    leaves(&written, "", &mut pointers);
    let mut unread = Unread {
        reported: BTreeSet::new(),
        silent: BTreeSet::new(),
        tried: pointers.len(),
        variants: recipe.variants.len(),
    };
    for pointer in &pointers {
        let after = others(written.pointer(pointer).unwrap()).into_iter().filter_map(|other| {
            let mut value = written.clone();
            *value.pointer_mut(pointer).unwrap() = other;
            let changed = serde_json::from_value::<Recipe>(value).ok()?;
            // What is written out again as before was no change.
            if serde_json::to_value(&changed).unwrap() == written { None } else { keys(&changed) }
        });
        let after: Vec<_> = after.collect();
        let key = pointer.trim_start_matches('/').replace('/', ".");
        assert!(!after.is_empty(), "`{key}` of {path}: no other value was accepted; add one to this test");
        if after.iter().all(|after| *after == before) {
            unread.silent.insert(key);
        } else if after.iter().all(|(computing, _)| *computing == before.0) {
            unread.reported.insert(key);
        }
    }
    unread
}

#[test]
fn every_key_changes_a_stage_or_is_known_not_to() {
    let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let named = |variants: usize| (0..variants).map(|i| format!("variants.{i}.name")).collect::<BTreeSet<String>>();
    // A table with nothing but defaults is not written out.
    let own = [
        "checkpoints.every_steps=7",
        "replicas=3",
        "shard_memory='64M'",
        "gradient_checkpointing=true",
        "device='libtorch'",
        "precision='bf16'",
    ]
    .map(str::to_owned);
    let qa = [&own[..], &["dataset.path=datasets/README.md".to_owned()]].concat();
    for (path, overrides) in
        [("recipes/finegrained.toml", &own[..]), ("recipes/baselines.toml", &own), ("recipes/qa_feedback.toml", &qa)]
    {
        let Unread { reported, silent, tried, variants } = unread(path, overrides);
        assert!(tried > 60, "{path}: only {tried} keys were tried");
        let expected = &known(&REPORT_ONLY) | &named(variants);
        assert_eq!(reported, expected, "{path}: keys that change the report only (left), known to (right)");
        assert_eq!(silent, known(&IN_NO_KEY), "{path}: keys that change nothing (left), keys known to (right)");
    }
}

/// `[launch]` is left out of what a recipe is written as, so that the test above does not see it.
#[test]
fn where_a_run_is_carried_out_is_in_no_key() {
    let keys = |overrides: &[&str]| {
        let overrides: Vec<_> = overrides.iter().map(|change| (*change).to_owned()).collect();
        let recipe =
            load(Path::new("recipes/finegrained.toml"), &overrides).unwrap().experiment.points.remove(0).recipe;
        plan_recipe(&recipe, "test").unwrap().nodes
    };
    let launch = ["launch.stages.ppo.cores=4", "launch.local.memory=\"8G\"", "launch.slurm.partition=\"long\""];
    assert_eq!(keys(&launch), keys(&[]), "the report's among them");
}

/// Whoever pays for an endpoint may change how it is treated at any time.
#[test]
fn how_an_endpoint_is_treated_is_in_no_key() {
    let keys = |change: &[&str]| {
        let overrides: Vec<_> = change.iter().map(|change| (*change).to_owned()).collect();
        let recipe = load(Path::new("recipes/judges.toml"), &overrides).unwrap().experiment.points.remove(0).recipe;
        plan_recipe(&recipe, "test").unwrap().nodes.into_iter().map(|node| node.key).collect::<Vec<_>>()
    };
    let table = "judge.llm.endpoint";
    for change in ["conduct.concurrency=1", "conduct.budget.tokens=9", "conduct.prices={}", "api_key_env=KEY"] {
        let change = change.replace("={}", "={prompt_per_million=1.0,completion_per_million=2.0}");
        assert_eq!(keys(&[&format!("{table}.{change}")]), keys(&[]), "{change}");
    }
    for change in [
        "endpoint.model=other",
        "endpoint.temperature=1",
        "endpoint.seed=1",
        "style=ranking",
        "order=random",
        "order_seed=1",
    ] {
        assert_ne!(keys(&[&format!("judge.llm.{change}")]), keys(&[]), "{change}");
    }
    for change in ["judge.revise.score=bleu", "judge.reward_model.held_out=false", "judge.primary=reward_model"] {
        assert_ne!(keys(&[change]), keys(&[]), "{change}");
    }
}
