//! `runner plan --estimate` beside what a run then takes. The only test of this file, so that nothing else is measured.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;

use serde_json::Value;
use tiny::{Lab, assert_same, results};

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
            let key = row["key"].as_str().unwrap();
            let manifest = lab.path(store).join("results").join(row["stage"].as_str().unwrap()).join(key);
            let manifest = fs::read_to_string(manifest.join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_str(&manifest).unwrap();
            found += manifest["provenance"]["wall_seconds"].as_f64().unwrap();
        }
    }
    found / expected
}

/// The machine's speed may change between the trial and the run, which is not the estimate's fault: it has three tries.
#[test]
fn time_is_estimated_to_within_a_factor_of_two_and_no_result_changes() {
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
