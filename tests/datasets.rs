//! Datasets in every form that they come in, through the real binary: what is read, what is refused, what it becomes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod peers;
mod tiny;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use polars::prelude::{Column, CompatLevel, DataFrame, IpcWriter, NamedFrom, ParquetWriter, SerWriter, Series};
use polars_arrow::io::ipc::write::{StreamWriter, WriteOptions};
use serde_json::{Value, json};
use tiny::{Lab, assert_same, results};

const ROWS: usize = 40;

/// Rows with all that hurts: quotes, line breaks, separators, characters beyond ASCII, a line separator of Unicode.
fn rows() -> Vec<[String; 3]> {
    let row = |i: usize| {
        let prompt = format!("Name \"{i}\", please,\nin a line\u{2028}or two: é");
        [prompt, format!("The number {i}."), format!("The\tnumber is not {i}; sorry, \"no\".")]
    };
    (0..ROWS).map(row).collect()
}

fn as_json([prompt, chosen, rejected]: &[String; 3]) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

fn separated(separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    writer.write_record(["prompt", "chosen", "rejected"]).unwrap();
    for row in rows() {
        writer.write_record(row).unwrap();
    }
    writer.into_inner().unwrap()
}

fn lines() -> Vec<u8> {
    rows().iter().flat_map(|row| format!("{}\n", as_json(row)).into_bytes()).collect()
}

fn frame() -> DataFrame {
    let column = |name: &str, i: usize| {
        Column::from(Series::new(name.into(), rows().into_iter().map(|row| row[i].clone()).collect::<Vec<String>>()))
    };
    DataFrame::new(ROWS, vec![column("prompt", 0), column("chosen", 1), column("rejected", 2)]).unwrap()
}

/// The same in Arrow's stream format, in several batches.
fn stream() -> Vec<u8> {
    let frame = frame();
    let parts = (0..ROWS).step_by(15).map(|first| frame.slice(i64::try_from(first).unwrap(), 15));
    let mut writer = StreamWriter::new(Vec::new(), WriteOptions { compression: None });
    for (i, mut part) in parts.enumerate() {
        part.rechunk_mut();
        for batch in part.iter_chunks(CompatLevel::oldest(), false) {
            if i == 0 {
                writer.start(batch.schema(), None).unwrap();
            }
            writer.write(&batch, None).unwrap();
        }
    }
    writer.finish().unwrap();
    writer.into_inner()
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn inspected(lab: &Lab, path: &str) -> Value {
    serde_json::from_str(&lab.said(&["data", "inspect", path, "--json"]).fine().out).unwrap()
}

#[test]
fn every_form_gives_the_same_rows() {
    let lab = Lab::without_oracle();
    let array = Value::from(rows().iter().map(as_json).collect::<Vec<_>>()).to_string().into_bytes();
    let bom = [b"\xef\xbb\xbf".to_vec(), lines()].concat();
    let windows = String::from_utf8(lines()).unwrap().replace('\n', "\r\n\r\n").into_bytes();
    let forms = [
        ("rows.jsonl", lines()),
        ("bom.jsonl", bom),
        ("windows.jsonl", windows),
        ("rows.json", array.clone()),
        ("rows.csv", separated(b',')),
        ("rows.tsv", separated(b'\t')),
        ("rows.jsonl.gz", zipped(&lines())),
        ("rows.json.gz", zipped(&array)),
        ("rows.jsonl.zst", zstd::encode_all(lines().as_slice(), 1).unwrap()),
        ("without-ending", separated(b',')),
    ];
    for (name, bytes) in forms {
        fs::write(lab.path(name), bytes).unwrap();
    }
    ParquetWriter::new(File::create(lab.path("rows.parquet")).unwrap()).finish(&mut frame()).unwrap();
    IpcWriter::new(File::create(lab.path("rows.arrow")).unwrap()).finish(&mut frame()).unwrap();
    fs::write(lab.path("stream.arrow"), stream()).unwrap();
    let expected = inspected(&lab, "rows.jsonl");
    assert_eq!([&expected["usable"], &expected["pairs"], &expected["prompts"]], [ROWS; 3].map(Value::from).each_ref());
    assert_eq!(expected["layouts"], json!({ "preference": ROWS }));
    for name in
        "bom.jsonl windows.jsonl rows.json rows.csv rows.tsv rows.jsonl.gz rows.json.gz rows.jsonl.zst without-ending \
                 rows.parquet rows.arrow stream.arrow"
            .split_whitespace()
    {
        let found = inspected(&lab, name);
        for key in ["usable", "pairs", "prompts", "duplicates", "tokens", "layouts", "columns", "bad"] {
            assert_eq!(found[key], expected[key], "`{key}` of {name}");
        }
    }
}

#[test]
fn folders_and_patterns_are_many_files() {
    let lab = Lab::without_oracle();
    fs::create_dir_all(lab.path("set/data")).unwrap();
    let text = String::from_utf8(lines()).unwrap();
    let half: Vec<&str> = text.lines().collect();
    fs::write(lab.path("set/data/train-00000-of-00002.jsonl"), half[..20].join("\n")).unwrap();
    fs::write(lab.path("set/data/train-00001-of-00002.jsonl"), half[15..].join("\n")).unwrap();
    fs::write(lab.path("set/dataset_info.json"), "{}").unwrap();
    fs::write(lab.path("set/README.md"), "no rows").unwrap();
    for path in ["set", "set/data/*.jsonl", "set/**/train-*"] {
        let found = inspected(&lab, path);
        assert_eq!(found["files"].as_array().unwrap().len(), 2, "{path}");
        // Two parts of one split: that is no leak.
        assert_eq!([&found["usable"], &found["duplicates"], &found["leakage"]], [&json!(45), &json!(5), &json!([])]);
    }
    fs::write(lab.path("set/data/test.jsonl"), half[37..].join("\n")).unwrap();
    assert_eq!(inspected(&lab, "set")["leakage"], json!([["test", "train", 3]]));
    let said = lab.said(&["data", "inspect", "set/*.csv"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("`set/*.csv`") && said.err.contains("nothing that matches"), "{}", said.err);
}

#[test]
fn what_datasets_writes_is_understood_in_every_layout() {
    let Some(python) = peers::python("datasets, pyarrow") else { return };
    let lab = Lab::without_oracle();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/layouts.py");
    fs::create_dir_all(lab.path("written")).unwrap();
    let made =
        Command::new(python).arg(script).arg(lab.path("written")).env("HF_DATASETS_OFFLINE", "1").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut names: Vec<String> = fs::read_dir(lab.path("written"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "splits" && name != "repository")
        .collect();
    names.sort();
    assert!(names.len() > 140, "{names:?}");
    for name in &names {
        let found = inspected(&lab, &format!("written/{name}"));
        let layout = name.split(['-', '.']).next().unwrap();
        assert_eq!([&found["layouts"], &found["bad"]], [&json!({ layout: 12 }), &json!({})], "{name}");
        let pairs = ["preference", "alpaca_farm", "hh_rlhf", "revised", "qa_feedback"].contains(&layout);
        let edits = ["revised", "qa_feedback"].contains(&layout);
        let expected = [pairs, edits].map(|has| json!(if has { 12 } else { 0 }));
        assert_eq!([&found["pairs"], &found["edits"]], expected.each_ref(), "{name}");
        // A text alone has no prompt.
        let plain = layout == "language_modeling" && !name.contains("-talk") && !name.contains("-ultrachat");
        assert_eq!([&found["usable"], &found["prompts"]], [&json!(12), &json!(if plain { 1 } else { 12 })], "{name}");
    }
    for folder in ["splits", "repository"] {
        let found = inspected(&lab, &format!("written/{folder}"));
        assert_eq!([&found["usable"], &found["leakage"]], [&json!(15), &json!([["test", "train", 3]])], "{folder}");
    }
    fs::remove_file(lab.path("written/splits/dataset_dict.json")).unwrap();
    let said = lab.said(&["data", "inspect", "written/splits"]);
    assert!(said.code == Some(2) && said.err.contains("expected one folder with rows in it"), "{}", said.err);
}

/// A recipe on the rows at `path`, for `check` and `run`.
fn recipe(lab: &Lab, path: &str, more: &str) -> String {
    let text = format!(
        "extends = \"tiny.toml\"\nbudgets = [20]\n[dataset]\npath = \"{path}\"\nformat = \"records\"\ndemonstrations = 20\ntrain_prompts = 20\n\
         validation_prompts = 6\ntest_prompts = 6\nmax_prompt_tokens = 24\nmax_response_tokens = 16\n{more}\n\
         [tokenizer.byte_level_bpe]\nvocab_size = 300\n[preferences.dataset]\n[edits.chosen]\nmax_share = 0.9\n"
    );
    lab.write("records.toml", &text);
    "records.toml".to_owned()
}

#[test]
fn bad_rows_stop_the_run_or_are_listed() {
    let lab = Lab::without_oracle();
    let mut text = String::from_utf8(lines()).unwrap().into_bytes();
    for bad in [
        &b"{\"prompt\": \"p\", \"chosen\": \"same\", \"rejected\": \"same\"}\n"[..],
        b"{\"prompt\": \"p\", \"chosen\": \"\", \"rejected\": \"x\"}\n",
        b"{\"prompt\": \"p\", \"chosen\": \"a\"}\n",
        b"{\"prompt\": \"p\", \"chosen\": 3, \"rejected\": \"x\"}\n",
        b"[1, 2]\n",
        b"{\"prompt\": \n",
        b"{\"prompt\": \"\xff\", \"chosen\": \"a\", \"rejected\": \"x\"}\n",
    ] {
        text.extend_from_slice(bad);
    }
    fs::write(lab.path("bad.jsonl"), text).unwrap();
    // What most rows are, all are: a row without `rejected` is no prompt without responses.
    let found = inspected(&lab, "bad.jsonl");
    let kinds = json!({ "identical_pair": 1, "empty_response": 1, "missing_field": 1, "wrong_type": 1, "unreadable": 2, "invalid_utf8": 1 });
    assert_eq!(
        [&found["usable"], &found["layouts"], &found["bad"]],
        [&json!(ROWS), &json!({ "preference": ROWS + 4 }), &kinds]
    );
    let places: Vec<&str> =
        found["bad_rows"].as_array().unwrap().iter().map(|row| row["place"].as_str().unwrap()).collect();
    assert_eq!(places, (41..=47).map(|line| format!("`bad.jsonl`, line {line}")).collect::<Vec<_>>());
    let name = recipe(&lab, "bad.jsonl", "[dataset.records]\nlayout = \"preference\"");
    let said = lab.said(&["run", &name]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    for part in [
        "7 of 47 rows cannot be used",
        "1 wrong type",
        "2 unreadable",
        "1 invalid UTF-8",
        "line 41: expected two responses",
        "1 missing field",
        "and 2 more",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let said = lab.said(&["run", &name, "--set", "dataset.records.on_bad_row='skip'"]).fine();
    assert!(said.err.contains("done in"), "{}", said.err);
    let report = fs::read_to_string(lab.path("reports/records/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let skipped: u64 = report["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|count| count["name"].as_str().unwrap().starts_with("rows skipped"))
        .map(|count| count["count"].as_u64().unwrap())
        .sum();
    assert_eq!(skipped, 7, "{}", report["data"]);
}

#[test]
fn what_a_layout_cannot_give_is_said_before_anything_runs() {
    let lab = Lab::without_oracle();
    fs::write(lab.path("rows.jsonl"), lines()).unwrap();
    let name = recipe(&lab, "rows.jsonl", "[dataset.records]\nlayout = \"prompt_completion\"");
    let said = lab.said(&["check", &name]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("`[preferences.dataset]` needs rows that come with preferences"), "{}", said.err);
    let name = recipe(&lab, "nowhere/*.jsonl", "");
    let said = lab.said(&["check", &name]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("nothing that matches"), "{}", said.err);
}

#[test]
fn pairs_that_are_no_edits_are_said_to_be_none() {
    let lab = Lab::without_oracle();
    fs::write(lab.path("rows.jsonl"), lines()).unwrap();
    let name = recipe(&lab, "rows.jsonl", "");
    let said = lab.said(&["run", &name, "--set", "edits.chosen.max_share=0.1"]);
    assert_eq!(said.code, Some(1));
    let found = "in none of the pairs do the responses differ in at most 0.1 of their words";
    assert!(said.err.contains(found) && said.err.contains("`edits.chosen.max_share`"), "{}", said.err);
}

#[test]
fn a_sample_of_rows_is_the_same_every_time_and_another_with_another_seed() {
    let lab = Lab::without_oracle();
    fs::write(lab.path("rows.jsonl"), lines()).unwrap();
    let name = recipe(&lab, "rows.jsonl", "[dataset.records]\nmax_rows = 30");
    let run = |store: &str, seed: &str| {
        let sets = ["--set", seed, "--set", "dataset.train_prompts=10", "--set", "budgets=[10]", "--store", store];
        lab.said(&[&["run", &name][..], &sets].concat()).fine();
        results(&lab.path(store))
    };
    let first = run("first", "dataset.seed=1");
    assert_same(&first, &run("second", "dataset.seed=1"));
    let other = run("third", "dataset.seed=2");
    assert!(first.keys().all(|name| !other.contains_key(name)), "another sample is another dataset");
}

fn hh_rlhf() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/hh-rlhf/harmless-base-test.jsonl.gz");
    if !path.is_file() {
        eprintln!("skipped: no HH-RLHF at {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn hh_rlhf_has_the_rows_that_its_authors_left_odd() {
    let Some(path) = hh_rlhf() else { return };
    let found = inspected(&Lab::without_oracle(), path.to_str().unwrap());
    assert_eq!(found["files"][0][1], 2312);
    assert_eq!(found["layouts"], json!({ "hh_rlhf": 2312 }));
    assert_eq!(
        [&found["bad"]["prompts_differ"], &found["bad"]["empty_response"]],
        [&json!(5), &json!(4)],
        "{}",
        found["bad"]
    );
    let bad: u64 = found["bad"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(found["usable"].as_u64().unwrap() + bad, 2312);
}

#[test]
fn hh_rlhf_runs_through_all_stages() {
    let Some(path) = hh_rlhf() else { return };
    let lab = Lab::without_oracle();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/hh_rlhf.toml");
    let path = format!("dataset.path='{}'", path.display());
    let mut arguments = vec!["run", recipe.to_str().unwrap(), "--set", &path];
    for smaller in [
        "budgets=[120]",
        "dataset.demonstrations=120",
        "dataset.train_prompts=120",
        "dataset.validation_prompts=24",
        "dataset.test_prompts=16",
        "tokenizer.byte_level_bpe.vocab_size=400",
        "model.hidden_size=16",
        "model.intermediate_size=32",
        "sft.steps=24",
        "reward.optimizer.warmup_steps=2",
        "ppo.steps=4",
    ] {
        arguments.extend(["--set", smaller]);
    }
    let said = lab.said(&arguments).fine();
    assert!(said.err.contains("done in") && said.out.contains("token"), "{}{}", said.out, said.err);
}
