//! BLEU, ROUGE-L and chrF against the numbers of well-kept implementations (`references/overlap.json`, made by the script beside it).

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use runner::judge::overlap::{bleu, chrf, rouge_l};
use serde_json::Value;

#[test]
fn the_metrics_are_those_of_the_references() {
    let file: Value = serde_json::from_str(include_str!("references/overlap.json")).unwrap();
    let rows = file["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 200);
    for (name, metric) in [("bleu", bleu as fn(&str, &str) -> f64), ("chrf", chrf), ("rouge_l", rouge_l)] {
        for row in rows {
            let text = |key: &str| row[key].as_str().unwrap();
            let (found, expected) = (metric(text("text"), text("reference")), row[name].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-9, "{name}: expected {expected}, found {found}: {row}");
        }
    }
}
