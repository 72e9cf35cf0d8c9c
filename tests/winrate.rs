//! `runner winrate` against AlpacaEval's published files and on files that are odd.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runner::eval::{Compared, GlmWeights};
use serde_json::{Value, json};

/// On percentages; counts are exact.
const TOLERANCE: f64 = 1e-6;

/// AlpacaEval's files, which may be used for tests and are not part of this project.
fn published() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/alpaca-eval");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no `{}`", folder.display());
    None
}

/// The rows of a table, by their first cell.
fn table(path: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let cells = header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect();
        (record[0].to_owned(), cells)
    });
    rows.collect()
}

fn winrate(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg("winrate").args(arguments).current_dir(dir).env("NO_COLOR", "1");
    command.output().unwrap()
}

fn objects(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = winrate(dir, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether `found` is the number in `expected`.
fn agrees(found: &Value, expected: &str) -> bool {
    (found.as_f64().unwrap() - expected.parse::<f64>().unwrap()).abs() < TOLERANCE
}

#[test]
fn every_published_file_has_its_published_numbers() {
    let Some(folder) = published() else { return };
    let (computed, expected) = (table(&folder.join("computed.csv")), table(&folder.join("expected.csv")));
    assert_eq!((computed.len(), expected.len()), (12, 12));
    let files: Vec<String> = computed.keys().map(|case| format!("cases/{case}.json")).collect();
    let found = objects(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
    let keys = [
        "avg_length",
        "discrete_win_rate",
        "n_draws",
        "n_total",
        "n_wins",
        "n_wins_base",
        "standard_error",
        "win_rate",
    ];
    assert_eq!(found.len(), 12);
    for ((case, row), found) in computed.iter().zip(&found) {
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "{case}");
        let stale = expected[case]["published_matches_file"] == "false";
        for key in keys {
            let here = if key == "avg_length" { "avg_length_from_file".to_owned() } else { format!("computed_{key}") };
            assert!(agrees(&found[key], &row[&here]), "{key} of {case}: expected {}, found {}", row[&here], found[key]);
            // The published length is over outputs of which three were not annotated.
            let same = match key {
                "avg_length" if case.ends_with("alpaca-7b_verbose") => false,
                "n_draws" | "n_total" | "avg_length" => true,
                _ => !stale,
            };
            let published = agrees(&found[key], &expected[case][key]);
            assert_eq!(published, same, "{key} of {case}: published {}, found {}", expected[case][key], found[key]);
        }
    }
}

#[test]
fn length_controlled_rates_follow_from_published_weights() {
    let Some(folder) = published() else { return };
    let computed = table(&folder.join("computed.csv"));
    let tables = ["--weights", "glm_weights.csv", "--difficulties", "instruction_difficulty.csv"];
    let mut seen = 0;
    for (case, row) in computed.iter().filter(|(_, row)| !row["lc_n"].is_empty()) {
        seen += 1;
        let file = format!("cases/{case}.json");
        let mut arguments = [&[file.as_str()][..], &tables].concat();
        if case.ends_with("NullModel") {
            let output = winrate(&folder, &arguments);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert!(error.contains("found `example`; `--model NAME` names its row"), "{error}");
            arguments.extend(["--model", "NullModel"]);
        }
        let compat = &objects(&folder, &[&arguments[..], &["--index", "alpaca_eval_compat"]].concat())[0];
        let found = &objects(&folder, &arguments)[0];
        for (key, expected) in [
            (&compat["length_controlled_winrate"], &row["lc_from_weights"]),
            (&compat["lc_standard_error"], &row["lc_se_from_weights"]),
            (&found["length_controlled_winrate"], &row["lc_by_instruction"]),
        ] {
            assert!(agrees(key, expected), "{case}: expected {expected}, found {key}");
        }
        assert_eq!(found.as_object().unwrap().len(), 10, "{found}");
        let said = String::from_utf8(winrate(&folder, &arguments).stderr).unwrap();
        let differs = row["lc_by_instruction"] != row["lc_from_weights"];
        assert_eq!(said.contains("--index alpaca_eval_compat"), differs, "{case}: {said}");
    }
    assert_eq!(seen, 5);
}

/// What scikit-learn says; see docs/DETAILS.md.
fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/length_control.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_fit_is_that_of_scikit_learn() {
    let case = reference()["synthetic"].clone();
    let number = |value: &Value| value.as_f64().unwrap();
    let rows = case["rows"].as_array().unwrap();
    let mut decided = 0;
    let compared = |row: &Value| {
        let group = decided;
        decided += usize::from(!row[0].is_null());
        let lengths = [number(&row[1]), number(&row[2])];
        Compared { share: row[0].as_f64(), lengths, difficulty: number(&row[3]), group }
    };
    let compared: Vec<Compared> = rows.iter().map(compared).collect();
    let found = GlmWeights::fit(&compared).unwrap();
    for (i, found) in [found.length, found.difficulty, found.model].into_iter().enumerate() {
        let expected = number(&case["expected"]["weights"][i]);
        assert!((found - expected).abs() < TOLERANCE, "weight {i}: expected {expected}, found {found}");
    }
    let row = |(i, row): (usize, &Value)| {
        json!({
            "instruction_index": i, "preference": row[0].as_f64().map(|share| 1.0 + share),
            "output_1_chars": row[1], "output_2_chars": row[2],
        })
    };
    let dir = folder(rows.iter().enumerate().map(row).collect::<Value>().to_string());
    let lines = rows.iter().enumerate().map(|(i, row)| format!("{i},{}\n", row[3]));
    let difficulties: String = std::iter::once("i,instruction_difficulty\n".to_owned()).chain(lines).collect();
    fs::write(dir.path().join("d.csv"), difficulties).unwrap();
    let found = &objects(dir.path(), &["a.json", "--fit", "--difficulties", "d.csv"])[0];
    for key in ["length_controlled_winrate", "lc_standard_error"] {
        assert!(agrees(&found[key], &case["expected"][key].to_string()), "{key}: {found}");
    }
}

#[test]
fn fits_of_published_files_are_those_of_scikit_learn() {
    let Some(folder) = published() else { return };
    let reference = reference();
    let cases = reference["published"].as_object().unwrap();
    assert!(cases.len() >= 3);
    for (case, expected) in cases {
        let file = format!("cases/{case}.json");
        let found = &objects(&folder, &[&file, "--fit", "--difficulties", "instruction_difficulty.csv"])[0];
        for key in ["length_controlled_winrate", "lc_standard_error"] {
            let expected = &expected[key];
            assert!(agrees(&found[key], &expected.to_string()), "{key} of {case}: {expected}, found {}", found[key]);
        }
    }
}

#[test]
fn weights_are_the_models_less_the_baselines() {
    let rows = |baseline: &str, model: &str| -> String {
        let row = |i: usize| json!({ "preference": 1.5, "generator_1": baseline, "generator_2": model, "output_1": "a", "output_2": "ab", "instruction_index": i });
        (0..2).map(row).collect::<Value>().to_string()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let header = ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)";
    file("w.csv", &format!("{header}\nm,-1,0.5,0.2\nother,-1,-0.5,1.2\n"));
    file("d.csv", "i,instruction_difficulty\n0,1\n1,-1\n");
    let given = ["--weights", "w.csv", "--difficulties", "d.csv"];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (baseline, model, at) in [
        ("unknown", "m", [0.7, -0.3]),
        ("other", "m", [-1.0 + 1.0, -1.0 - 1.0]),
        ("m", "m", [0.0, 0.0]),
        ("new", "new", [0.0, 0.0]),
    ] {
        file("a.json", &rows(baseline, model));
        let found = &objects(dir.path(), &[&["a.json"], &given[..]].concat())[0];
        let [a, b] = at.map(|x| 100.0 * sigmoid(x));
        assert!(agrees(&found["length_controlled_winrate"], &f64::midpoint(a, b).to_string()), "{baseline}: {found}");
        assert!(agrees(&found["lc_standard_error"], &((a - b).abs() / 2.0).to_string()), "{baseline}: {found}");
    }
    // Nothing to fit of a model against itself.
    let found = &objects(dir.path(), &["a.json", "--fit"])[0];
    assert_eq!((&found["length_controlled_winrate"], &found["lc_standard_error"]), (&json!(50.0), &json!(0.0)));
}

/// A folder with the file `a.json`.
fn folder(content: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), content).unwrap();
    dir
}

fn one(content: impl AsRef<[u8]>) -> Value {
    objects(folder(content).path(), &["a.json"]).remove(0)
}

#[test]
fn odd_files_are_read_as_alpaca_eval_reads_them() {
    let expected = json!({
        "win_rate": 50.0, "standard_error": 50.0, "n_wins": 1, "n_wins_base": 1, "n_draws": 0, "n_total": 2,
        "discrete_win_rate": 50.0, "avg_length": null,
    });
    for text in [
        r#"[{"preference": 1}, {"preference": 2.0}]"#,
        "[{\"preference\": 1.0},\r\n {\"preference\": 2}]\r\n",
        "\u{feff}[{\"preference\": 1}, {\"preference\": 2}]",
        "{\"preference\": 1}\n\n{\"preference\": 2}\n",
        r#"[{"preference": NaN}, {"preference": 1}, {"preference": null}, {}, {"preference": 2}]"#,
        r#"[{"preference": 1}, {"preference": 2}, {"preference": -1}, {"preference": 3}]"#,
    ] {
        let found = one(text);
        assert_eq!(found, expected, "{text}");
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, br#"[{"preference": 1}, {"preference": 2}]"#).unwrap();
    assert_eq!(one(packed.finish().unwrap()), expected);
    let single = one(r#"[{"preference": 2, "output_2": "größe"}]"#);
    assert_eq!((&single["standard_error"], &single["avg_length"]), (&Value::Null, &json!(5)));
}

#[test]
fn what_alpaca_eval_overlooks_is_said() {
    let rows = r#"[{"preference": 1, "generator_2": "a", "instruction_index": 4}, {"preference": 3},
                   {"preference": 2, "generator_2": "b", "instruction_index": 4}]"#;
    let output = winrate(folder(rows).path(), &["a.json"]);
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    file    win rate  SE     wins  losses  draws  total  discrete  length
    a.json  50.00     50.00  1     1       0      2      50.00     -
    ");
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    warning: `a.json`: left out, as AlpacaEval does: 1 of 3 preferences, which are neither in 1 to 2 nor 0; the first is 3 in row 1 (from 0)
    warning: `a.json`: expected one `generator_2` in all rows, found 2: `a`, `b`
    warning: `a.json`: counted again, as AlpacaEval does: 1 of 3 rows, which repeat an instruction; the first has `instruction_index` 4
    ");
}

#[test]
fn every_bad_file_is_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 9] = [
        ("empty.json", b""),
        ("list.json", b"[]"),
        ("text.json", b"[{\"preference\": \"1\"}]"),
        ("bool.json", b"[{\"preference\": 1}, {\"preference\": true}]"),
        ("columns.json", b"{\"preference\": {\"0\": 1.0, \"1\": 2.0}}"),
        ("wrapped.json", b"{\"annotations\": [{\"preference\": 1}]}"),
        ("odd.json", b"[{\"preference\": null}, {\"preference\": 7}]"),
        ("latin.json", b"[{\"preference\": 1, \"output_2\": \"gr\xf6\xdfe\"}]"),
        ("cut.json", b"[{\"preference\": 1}, {\"prefer"),
    ];
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let mut names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    names.push("missing.json");
    let output = winrate(dir.path(), &names);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"
    warning: `odd.json`: left out, as AlpacaEval does: 1 of 2 preferences, which are neither in 1 to 2 nor 0; the first is 7 in row 1 (from 0)
    error: `empty.json`: expected at least one annotation, found none
    error: `list.json`: expected at least one annotation, found none
    error: `text.json`: row 0 (from 0): expected `preference` to be a number (1 to 2, or 0 for a draw) or null, found `"1"`
    error: `bool.json`: row 1 (from 0): expected `preference` to be a number (1 to 2, or 0 for a draw) or null, found `true`
    error: `columns.json`: row 0 (from 0): expected `preference` to be a number (1 to 2, or 0 for a draw) or null, found an object
    error: `wrapped.json`: expected a number `preference` in at least one of 1 rows, found none; row 0 has `annotations`
    error: `odd.json`: expected a preference from 1 to 2, or 0 for a draw, found none; row 1 has 7
    error: `latin.json`: expected UTF-8 text, found other bytes from offset 34
    error: `cut.json`: expected a JSON array of annotations, or one JSON object after the other: EOF while parsing a string at line 1 column 28
    error: `missing.json`: cannot read it: No such file or directory (os error 2)
    "#);
}

#[test]
fn length_control_says_what_it_lacks() {
    let rows: Vec<Value> = (0..8)
        .map(|i| json!({ "preference": 1 + i % 2, "instruction_index": i, "generator_1": "base", "generator_2": "m" }))
        .collect();
    let dir = folder(Value::from(rows).to_string());
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    file("w.csv", ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nm,-1,0.5,0.2\n");
    file("d.csv", "i,instruction_difficulty\n0,1\n1,2\n");
    let refused = |arguments: &[&str]| {
        let output = winrate(dir.path(), &[&["a.json"], arguments].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let unnumbered = json!([{ "preference": 1, "generator_2": "m" }, { "preference": 2, "generator_2": "m" }]);
    file("b.json", &unnumbered.to_string());
    let output = winrate(dir.path(), &["b.json", "--weights", "w.csv", "--difficulties", "d.csv"]);
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    error: `b.json`: row 0 (from 0): expected `instruction_index`, found none

    hint: `--index alpaca_eval_compat` goes by the row's place in the file
    ");
    let errors = [
        refused(&["--difficulties", "d.csv"]),
        refused(&["--weights", "w.csv", "--difficulties", "d.csv"]),
        refused(&["--weights", "w.csv", "--difficulties", "d.csv", "--model", "other"]),
        refused(&["--weights", "d.csv", "--difficulties", "d.csv"]),
        refused(&["--fit"]),
        refused(&["a.json", "--weights", "w.csv", "--difficulties", "d.csv", "--model", "m"]),
    ];
    insta::assert_snapshot!(errors.join(""), @r"
    error: expected `--weights FILE` or `--fit` beside `--difficulties`
    error: `a.json`: row 2 (from 0): expected an instruction that has a difficulty (0 to 1), found 2
    error: `a.json`: expected a model that has weights (`m`), found `other`; `--model NAME` names its row
    error: `d.csv`: expected a column `np.tanh(std_delta_len)`, found `i`, `instruction_difficulty`
    error: `a.json`: row 0 (from 0): expected `output_1` or `output_1_chars`, to know lengths, found none
    error: expected one file with `--model`, found 2
    ");
}
