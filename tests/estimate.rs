//! `runner plan --estimate` beside what a run then takes.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tiny::{Lab, assert_same, results};

/// What is measured is the machine: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Larger than `tiny.toml`, so that a stage takes more than it takes to begin one; and without its checkpoint at every other step,
/// which would time the disk.
fn recipe(lab: &Lab, hidden: usize) -> String {
    let name = format!("wide-{hidden}.toml");
    let text = format!(
        "extends = \"tiny.toml\"\nmodel.hidden_size = {hidden}\nmodel.intermediate_size = {}\nmodel.num_hidden_layers = 2\n\
         sft.steps = 120\nsft.batch_size = 32\nppo.steps = 16\nppo.batch_size = 32\nppo.value_warmup_steps = 0\ncheckpoints.every_steps = 1000\n",
        3 * hidden
    );
    lab.write(&name, &text);
    name
}

fn rows(document: &str) -> Vec<Value> {
    let mut document: Value = serde_json::from_str(document).unwrap();
    serde_json::from_value(document["nodes"].take()).unwrap()
}

/// What the result that a row of an estimate speaks of says of its making.
fn provenance(lab: &Lab, store: &str, row: &Value) -> Value {
    let [stage, key] = ["stage", "key"].map(|name| row[name].as_str().unwrap());
    let manifest = lab.path(store).join("results").join(stage).join(key).join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    manifest["provenance"].take()
}

/// How many times as long as estimated the stages that train or sample took, in a store of its own.
fn measured_over_estimated(lab: &Lab, recipe: &str, store: &str) -> f64 {
    let estimate = lab.said(&["plan", recipe, "--estimate", "--json", "--store", store]).fine();
    assert!(fs::metadata(lab.path(store)).is_err(), "an estimate leaves no store behind");
    let run = lab.said(&["run", recipe, "--jobs", "1", "--store", store]).fine();
    assert!(run.err.contains("done in"), "{}", run.err);
    let (mut expected, mut found) = (0.0, 0.0);
    for row in rows(&estimate.out) {
        if row["flops"].as_f64().unwrap() > 0.0 {
            expected += row["seconds"].as_f64().unwrap();
            found += provenance(lab, store, &row)["wall_seconds"].as_f64().unwrap();
        }
    }
    found / expected
}

/// The machine's speed may change between the trial and the run, which is not the estimate's fault: it has three tries.
#[test]
fn time_is_estimated_to_within_a_factor_of_two_and_no_result_changes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    for hidden in [32, 96] {
        let recipe = recipe(&lab, hidden);
        let mut ratios = Vec::new();
        while ratios.len() < 3 && !ratios.last().is_some_and(|ratio| (0.5..2.0).contains(ratio)) {
            ratios.push(measured_over_estimated(&lab, &recipe, &format!("store-{hidden}-{}", ratios.len())));
        }
        assert!((0.5..2.0).contains(ratios.last().unwrap()), "width {hidden}: measured over estimated {ratios:?}");
        let store = format!("store-{hidden}-0");
        let before = results(&lab.path(&store));
        lab.said(&["plan", &recipe, "--estimate", "--tflops", "1,1,0.1", "--store", &store]).fine();
        assert_same(&before, &results(&lab.path(&store)));
    }
}

/// What the program takes for itself, as `docs/SCALE.md` says.
#[cfg(target_os = "linux")]
const OWN: f64 = 60e6;

#[cfg(target_os = "linux")]
#[test]
fn peak_memory_is_estimated_to_within_a_factor_of_two() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    for (hidden, layers) in [(256, 4), (384, 2)] {
        let (name, store) = (format!("large-{hidden}.toml"), format!("store-{hidden}"));
        let text = format!(
            "extends = \"tiny.toml\"\nmodel.hidden_size = {hidden}\nmodel.intermediate_size = {}\nmodel.num_hidden_layers = {layers}\n\
             sft.steps = 3\nsft.batch_size = 32\nppo.steps = 1\nppo.eval_every = 1\nppo.batch_size = 32\nppo.value_warmup_steps = 0\n\
             checkpoints.every_steps = 1000\n",
            3 * hidden
        );
        lab.write(&name, &text);
        let estimate =
            lab.said(&["plan", &name, "--estimate", "--tflops", "1,1,1", "--json", "--store", &store]).fine();
        lab.said(&["run", &name, "--jobs", "1", "--store", &store]).fine();
        let trained = |row: &Value| ["sft", "ppo"].contains(&row["stage"].as_str().unwrap());
        let rows: Vec<Value> = rows(&estimate.out).into_iter().filter(trained).collect();
        assert_eq!(rows.len(), 3);
        for row in rows {
            let expected = OWN + row["memory_bytes"].as_f64().unwrap();
            let ratio = provenance(&lab, &store, &row)["peak_memory_bytes"].as_f64().unwrap() / expected;
            assert!((0.5..2.0).contains(&ratio), "{} at width {hidden}: measured over estimated {ratio}", row["label"]);
        }
    }
    // A budget for what a shard keeps is part of the estimate.
    let sft = |set: &str| {
        let said =
            lab.said(&["plan", "large-256.toml", "--estimate", "--tflops", "1,1,1", "--json", "--set", set]).fine();
        rows(&said.out).into_iter().find(|row| row["stage"] == "sft").unwrap()["memory_bytes"].as_f64().unwrap()
    };
    assert!(sft("shard_memory='4M'") < 0.8 * sft("shard_memory='1G'"));
}
