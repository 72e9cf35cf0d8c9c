//! `runner plan --estimate` beside what a run then takes. The only test of this file, so that nothing else is measured.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;

use serde_json::Value;
use tiny::{Lab, assert_same, results};

/// Larger than `tiny.toml`, so that a stage takes more than it takes to begin one.
fn recipe(lab: &Lab, hidden: usize) -> String {
    let name = format!("wide-{hidden}.toml");
    let text = format!(
        "extends = \"tiny.toml\"\nmodel.hidden_size = {hidden}\nmodel.intermediate_size = {}\nmodel.num_hidden_layers = 2\n\
         sft.steps = 40\nsft.batch_size = 32\nppo.steps = 8\nppo.batch_size = 32\nppo.value_warmup_steps = 0\n",
        3 * hidden
    );
    lab.write(&name, &text);
    name
}

fn rows(document: &str) -> Vec<Value> {
    let mut document: Value = serde_json::from_str(document).unwrap();
    serde_json::from_value(document["nodes"].take()).unwrap()
}

#[test]
fn time_is_estimated_to_within_a_factor_of_two_and_nothing_is_written() {
    let lab = Lab::new();
    for hidden in [32, 96] {
        let recipe = recipe(&lab, hidden);
        let store = format!("store-{hidden}");
        let estimate = lab.said(&["plan", &recipe, "--estimate", "--json", "--store", &store]).fine();
        assert!(fs::metadata(lab.path(&store)).is_err(), "an estimate leaves no store behind");
        let run = lab.said(&["run", &recipe, "--jobs", "1", "--store", &store]).fine();
        assert!(run.err.contains("done in"), "{}", run.err);
        let before = results(&lab.path(&store));
        lab.said(&["plan", &recipe, "--estimate", "--tflops", "1,1,0.1", "--store", &store]).fine();
        assert_same(&before, &results(&lab.path(&store)));
        let (mut expected, mut found) = (0.0, 0.0);
        for row in rows(&estimate.out) {
            if row["flops"].as_f64().unwrap() > 0.0 {
                expected += row["seconds"].as_f64().unwrap();
                let key = row["key"].as_str().unwrap();
                let manifest = lab.path(&store).join("results").join(row["stage"].as_str().unwrap()).join(key);
                let manifest = fs::read_to_string(manifest.join("manifest.json")).unwrap();
                let manifest: Value = serde_json::from_str(&manifest).unwrap();
                found += manifest["provenance"]["wall_seconds"].as_f64().unwrap();
            }
        }
        let ratio = found / expected;
        assert!((0.5..2.0).contains(&ratio), "width {hidden}: estimated {expected:.1} s, measured {found:.1} s");
    }
}
