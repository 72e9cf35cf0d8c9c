//! Edit labels against the fixtures: 200 labelled pairs, and 400 human edits with error spans.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in tests a panic is a message, and a skipped fixture says so"
)]

use std::path::PathBuf;

use runner::data::qa_feedback;
use runner::labels::{self, Agreement, diff, diff_words};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn shared(default: &str, inside: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("RUNNER_FIXTURES") {
        Some(folder) if default == "fixtures" => PathBuf::from(folder).join(inside),
        _ => root.join("../shared").join(default).join(inside),
    }
}

fn read<T: DeserializeOwned>(path: &PathBuf) -> Option<T> {
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no fixture at {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

#[derive(Deserialize)]
struct Pair {
    id: serde_json::Value,
    original: Vec<u32>,
    edited: Vec<u32>,
    distance: usize,
    original_labels: String,
    edited_labels: String,
}

#[test]
fn every_fixture_pair_gets_its_labels() {
    let Some(pairs) = read::<Vec<Pair>>(&shared("fixtures", "edits/pairs.json")) else { return };
    assert!(!pairs.is_empty());
    for pair in pairs {
        let found = diff(&pair.original, &pair.edited);
        let letters = (labels::spell(&found.original), labels::spell(&found.edited));
        assert_eq!(found.distance, pair.distance, "distance of pair {}", pair.id);
        assert_eq!(letters, (pair.original_labels, pair.edited_labels), "labels of pair {}", pair.id);
    }
}

#[derive(Deserialize)]
struct Expected {
    records: Vec<ExpectedRecord>,
    totals: Totals,
}

#[derive(Deserialize)]
struct ExpectedRecord {
    distance: usize,
    original_labels: String,
    edited_labels: String,
    error_words: String,
    tp: usize,
    fp: usize,
    r#fn: usize,
    tn: usize,
}

#[derive(Deserialize)]
struct Totals {
    precision: f64,
    recall: f64,
}

#[test]
fn word_labels_agree_with_human_error_spans_as_expected() {
    let data = shared("data", "qa-feedback/dev_feedback_first400.json");
    let Some(expected) = read::<Expected>(&shared("data", "qa-feedback/word_level_expected.json")) else { return };
    let corrections = qa_feedback::corrections(&data).unwrap();
    assert_eq!(corrections.len(), expected.records.len());
    let mut total = Agreement::default();
    for (i, (found, expected)) in corrections.iter().zip(&expected.records).enumerate() {
        let (original, edited) = (&found.original.text, &found.edited.text);
        let words = diff_words(original, edited);
        assert_eq!(words.distance, expected.distance, "record {i}");
        assert_eq!(labels::spell(&words.original), expected.original_labels, "record {i}");
        assert_eq!(labels::spell(&words.edited), expected.edited_labels, "record {i}");
        let errors = labels::error_words(original, &found.error_spans);
        let errors: String = errors.iter().map(|error| if *error { '1' } else { '0' }).collect();
        assert_eq!(errors, expected.error_words, "record {i}");
        let counts = labels::agreement(original, edited, &found.error_spans);
        let expected = Agreement {
            true_positives: expected.tp,
            false_positives: expected.fp,
            false_negatives: expected.r#fn,
            true_negatives: expected.tn,
        };
        assert_eq!(counts, expected, "record {i}");
        total += counts;
    }
    assert!((total.precision().unwrap() - expected.totals.precision).abs() < 1e-12);
    assert!((total.recall().unwrap() - expected.totals.recall).abs() < 1e-12);
}
