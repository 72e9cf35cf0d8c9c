//! The report of a sweep: what it compares, what it lists, and that its bytes follow from results alone.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "what compares whole stores is for other tests")]
mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tiny::{Lab, files};

/// Two factors; with the largest rate nothing but NaN comes out, and it is tried at one level of the other axis only.
const SWEEP: &str = r#"
extends = "tiny.toml"
description = "Do long-sighted advantages help?"
[sweep]
seeds = "0..2"
[sweep.product]
ppo.gae_lambda = [0.95, 0.5]
[sweep.product.rate]
usual = { ppo.policy_optimizer.learning_rate = 1e-3 }
high = { ppo.policy_optimizer.learning_rate = 1e-2 }
absurd = { ppo.policy_optimizer.learning_rate = 1e30 }
[sweep.exclude]
rate = "absurd"
ppo.gae_lambda = 0.95
"#;

/// Every file of a report, without the log of the run.
fn report(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let names =
        files(out).into_iter().filter(|name| !name.ends_with("events.jsonl") && !name.starts_with("tensorboard"));
    names.map(|name| (name.display().to_string(), fs::read(out.join(&name)).unwrap())).collect()
}

fn json(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap()
}

#[test]
fn points_are_compared_and_what_failed_is_listed() {
    let lab = Lab::new();
    lab.write("sweep.toml", SWEEP);
    let early = lab.said(&["report", "sweep.toml", "--out", "early"]).fine();
    assert!(early.out.contains("missing: `gae_lambda=0.95 rate=usual`: 28 stages have not run"), "{}", early.out);
    assert_eq!(json(&lab.path("early"))["best"], Value::Null);

    let said = lab.said(&["run", "sweep.toml"]);
    assert_eq!(said.code, Some(1), "a stage failed: {}", said.err);
    assert!(said.err.contains("report: reports/sweep/index.html"), "{}", said.err);
    assert!(said.out.contains("failed: `gae_lambda=0.5 rate=absurd`: `ppo/sequence/"), "{}", said.out);
    let found = json(&lab.path("reports/sweep"));
    let statuses: Vec<_> = found["points"].as_array().unwrap().iter().map(|point| &point["status"]).collect();
    assert_eq!(statuses, ["done", "done", "done", "done", "failed"]);
    assert!(
        found["verdict"][0]
            .as_str()
            .unwrap()
            .starts_with("Of 5 points, 4 are done, 2 seeds x 16 test prompts; 1 failed")
    );
    factors_are_paired(&found);
    let keys: Vec<_> = found["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["ppo.gae_lambda", "ppo.policy_optimizer.learning_rate"]);

    // At any time, from what is there, with the same bytes.
    let expected = report(&lab.path("reports/sweep"));
    assert!(expected.len() >= 9, "{:?}", expected.keys());
    assert_eq!(lab.said(&["report", "sweep.toml", "--out", "again"]).fine().out, said.out);
    assert!(report(&lab.path("again")) == expected);
}

fn factors_are_paired(found: &Value) {
    let level = |axis: &str, level: &str, variant: &str, against: Value| {
        let factors = found["factors"].as_array().unwrap();
        let is =
            |f: &&Value| f["axis"] == axis && f["level"] == level && f["variant"] == variant && f["against"] == against;
        factors.iter().find(is).unwrap_or_else(|| panic!("{axis} {level} {variant}")).clone()
    };
    let half = level("gae_lambda", "0.5", "token", Value::Null);
    assert_eq!((&half["points"], &half["missing"], &half["effect"]["pairs"]), (&json!(2), &json!(1), &json!(2)));
    let absurd = level("rate", "absurd", "token", Value::Null);
    assert_eq!((&absurd["points"], &absurd["missing"], &absurd["mean_points"]), (&json!(0), &json!(1), &Value::Null));
    assert_eq!(absurd["effect"], Value::Null);
    assert_eq!(level("rate", "usual", "token", Value::Null)["effect"], Value::Null, "compared with itself");

    // The effect on a win rate and on a lead, by hand from the points.
    let result = |point: &str, variant: &str| {
        let results = found["results"].as_array().unwrap();
        results.iter().find(|r| r["point"] == point && r["variant"] == variant).unwrap()["win_rate"].as_f64().unwrap()
    };
    let at = |gae: &str, variant: &str| {
        50.0 * (result(&format!("gae_lambda={gae} rate=usual"), variant)
            + result(&format!("gae_lambda={gae} rate=high"), variant))
    };
    let near = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "expected {expected}, found {found}");
    };
    let effect = |variant: &str| at("0.5", variant) - at("0.95", variant);
    near(&half["mean_points"], at("0.5", "token"));
    near(&half["effect"]["difference_points"], effect("token"));
    let lead = level("gae_lambda", "0.5", "token", json!("sequence"));
    near(&lead["effect"]["difference_points"], effect("token") - effect("sequence"));
}

#[test]
fn one_point_has_a_full_report_of_its_own() {
    let lab = Lab::new();
    lab.write("sweep.toml", "extends = \"tiny.toml\"\n[sweep.product]\nppo.gae_lambda = [0.95, 0.5]");
    lab.said(&["run", "sweep.toml"]).fine();
    lab.said(&["report", "sweep.toml", "--point", "gae_lambda=0.5", "--out", "point"]).fine();
    let sweep = json(&lab.path("reports/sweep"));
    let point = json(&lab.path("point"));
    let rates = |list: &Value, at: usize| list[at]["win_rate"].clone();
    assert_eq!(rates(&point["variants"], 1), rates(&sweep["results"], 3));
    assert_eq!(point["variants"][1]["ci"], sweep["results"][3]["ci"]);
    let lead = &sweep["results"][3]["lead"];
    let gap = |key: &str, of: &Value| of[key].as_f64().unwrap();
    assert!((gap("difference_points", lead) - gap("difference_points", &point["comparisons"][0])).abs() < 1e-9);
    assert!((gap("p_value", lead) - gap("p_value", &point["comparisons"][0])).abs() < 1e-9);

    let wrong = lab.said(&["report", "sweep.toml", "--point", "gae_lambda=0.6"]);
    assert_eq!(wrong.code, Some(2));
    insta::assert_snapshot!("no_such_point", wrong.err);
    let none = lab.said(&["report", "tiny.toml", "--point", "x"]);
    insta::assert_snapshot!("no_sweep", none.err);
}

#[test]
fn the_bytes_do_not_depend_on_how_results_came_about() {
    const ZIPPED: &str = "extends = \"tiny.toml\"\n[sweep.zip]\nppo.gae_lambda = [0.95, 0.5]\nppo.epochs = [2, 1]\n\
                          [sweep.random]\ncount = 3\nppo.gamma = { uniform = [0.9, 1.0] }\n";
    let lab = Lab::new();
    lab.write("sweep.toml", ZIPPED);
    lab.said(&["run", "sweep.toml", "--store", "one", "--out", "first", "--jobs", "1"]).fine();
    // Another store, in which later points were there first, and which was asked for a report in between.
    lab.said(&[
        "run",
        "tiny.toml",
        "--store",
        "two",
        "--out",
        "part",
        "--set",
        "ppo.epochs=1",
        "--set",
        "ppo.gae_lambda=0.5",
    ])
    .fine();
    lab.said(&["report", "sweep.toml", "--store", "two", "--out", "second"]).fine();
    lab.said(&["run", "sweep.toml", "--store", "two", "--out", "second", "--jobs", "3"]).fine();
    let (first, second) = (report(&lab.path("first")), report(&lab.path("second")));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    let different: Vec<_> =
        first.iter().filter(|(name, bytes)| second[*name] != **bytes).map(|(name, _)| name).collect();
    assert_eq!(different, Vec::<&String>::new());

    // Axes that change together are one factor, a sampled one is a trend.
    let found = json(&lab.path("first"));
    assert_eq!(found["factors"][1]["axis"], "gae_lambda + epochs");
    assert_eq!(found["factors"][1]["effect"]["pairs"], 3);
    assert_eq!(
        (&found["trends"][0]["axis"], found["trends"][0]["values"].as_array().unwrap().len()),
        (&json!("gamma"), 6)
    );
}

#[test]
fn points_with_other_seeds_prompts_variants_and_budgets_are_compared_on_what_they_share() {
    let lab = Lab::new();
    let cases = [
        "",
        "name = \"more\"\nseeds = [0, 1]\ndataset.test_prompts = 24\n",
        "name = \"other\"\nseeds = [7]\n",
        "name = \"renamed\"\nvariants.sequence.name = \"only\"\n",
        "name = \"budget\"\nbudgets = [32]\n",
    ];
    let cases = cases.join("[[sweep.cases]]\n");
    lab.write("sweep.toml", &format!("extends = \"tiny.toml\"\n[[sweep.cases]]\n{cases}"));
    lab.said(&["run", "sweep.toml"]).fine();
    let found = json(&lab.path("reports/sweep"));
    let effects = |variant: &str| -> Vec<(String, Value)> {
        let factors = found["factors"].as_array().unwrap();
        let factors = factors.iter().filter(|f| f["variant"] == variant && f["against"] == Value::Null);
        let counts = |f: &Value| ["pairs", "partial", "unpaired"].map(|key| f["effect"][key].clone());
        factors.map(|f| (f["level"].as_str().unwrap().to_owned(), json!(counts(f)))).collect()
    };
    let none = json!([null, null, null]);
    let level = |name: &str, counts: Value| (name.to_owned(), counts);
    assert_eq!(
        effects("token"),
        [
            level("base", none.clone()),
            level("more", json!([1, 1, 0])),
            level("other", json!([1, 0, 1])),
            level("renamed", json!([1, 0, 0])),
            level("budget", json!([1, 0, 0])),
        ]
    );
    assert_eq!(effects("only"), [level("renamed", none)], "no other point asks for it");
    assert!(found["factors"].as_array().unwrap().iter().all(|f| f["budget"] == Value::Null), "budgets are an axis");
}
