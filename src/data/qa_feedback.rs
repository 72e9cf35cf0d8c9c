//! QA-feedback: real questions, preferences and human edits.
//!
//! Reads the JSON array of Wu et al. 2023 (`tasks/qa_feedback/data/dev_feedback.json` of their repository). Cutting long
//! prompts and responses to size is left to `text` and the trainers.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::records::example::{Example, Fault, Kind};
use super::records::rows::Row;
use super::{Config, Dataset, Demonstration, Edit, ErrorSpan, Preference, Prompt, Response};

/// The pairs of predictions that the six entries of `preference` compare.
const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

#[derive(Deserialize)]
struct Record {
    question: String,
    gold: String,
    /// Title, then sentences.
    passages: Vec<Vec<String>>,
    #[serde(rename = "prediction 1")]
    prediction_1: String,
    #[serde(rename = "prediction 2")]
    prediction_2: String,
    #[serde(rename = "prediction 3")]
    prediction_3: String,
    #[serde(rename = "prediction 4")]
    prediction_4: String,
    preference: [Verdict; 6],
    feedback: Feedback,
}

/// Which response of a pair is better.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
enum Verdict {
    Neither,
    First,
    Second,
}

impl TryFrom<i64> for Verdict {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        match n {
            0 => Ok(Self::Neither),
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            _ => Err(format!("expected a preference of 0, 1 or 2, found {n}")),
        }
    }
}

#[derive(Deserialize)]
struct Feedback {
    errors: Vec<Error>,
    #[serde(rename = "corrected-prediction")]
    corrected_prediction: String,
}

#[derive(Deserialize)]
struct Error {
    #[serde(rename = "error type")]
    kind: String,
    start: usize,
    end: usize,
}

/// Reads demonstrations (gold answers), prompts, preferences and edits, split by record.
///
/// # Errors
/// If the file can't be read, is malformed, or is too small for the held-out counts.
pub fn read(config: &Config) -> Result<Dataset> {
    let records = records(&config.path)?;
    let (tests, validations) = (config.test_prompts.get(), config.validation_prompts.get());
    ensure!(
        records.len() > tests + validations,
        "`{}`: expected more than {} records ({validations} `validation_prompts`, {tests} `test_prompts` and one to \
         train on), found {}",
        config.path.display(),
        tests + validations,
        records.len(),
    );
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(config.seed));
    let (test, rest) = order.split_at(tests);
    let (validation, rest) = rest.split_at(validations);
    let train = &rest[..rest.len().min(config.train_prompts.get())];

    let prompts = |split: &[usize]| split.iter().map(|&i| prompt(i, &records[i])).collect();
    let mut data =
        Dataset { train: prompts(train), validation: prompts(validation), test: prompts(test), ..Dataset::default() };
    let demonstrations = rest.iter().filter_map(|&i| demonstration(&records[i]));
    data.demonstrations = demonstrations.take(config.demonstrations.get()).collect();
    for &i in train {
        data.preferences.extend(preferences(i, &records[i]));
        data.edits.extend(useful(edit(i, &records[i])));
    }
    for &i in validation.iter().chain(test) {
        data.held_out_preferences.extend(preferences(i, &records[i]));
        data.held_out_edits.extend(useful(edit(i, &records[i])));
    }
    Ok(data)
}

/// Every record's first prediction with its human correction and error spans, in the file's order: corrections that
/// are empty or change nothing included, which [`read`] leaves out.
pub fn corrections(path: &Path) -> Result<Vec<Edit>> {
    Ok(records(path)?.iter().enumerate().map(|(i, record)| edit(i, record)).collect())
}

/// A row as one example: the gold answer is imitated, and of its pairs there is that in which the prediction that was corrected
/// is the worse, or the first.
///
/// # Errors
/// What of the record is missing, or has another type.
pub(super) fn example(row: &Row) -> Result<Example, Fault> {
    let record: Record = serde_json::to_value(row).and_then(serde_json::from_value).map_err(|error| {
        let message = error.to_string();
        (if message.starts_with("missing field") { Kind::MissingField } else { Kind::WrongType }, message)
    })?;
    let (mut pairs, edit) = (preferences(0, &record), useful(edit(0, &record)));
    let corrected = edit.and_then(|edit| Some((pairs.iter().position(|pair| pair.rejected == edit.original)?, edit)));
    let (at, revised) = corrected.map_or((0, None), |(at, edit)| (at, Some(edit.edited.text)));
    let pair = (at < pairs.len()).then(|| pairs.swap_remove(at)).map(|pair| [pair.chosen.text, pair.rejected.text]);
    let response = demonstration(&record).map(|demonstration| demonstration.response);
    Ok(Example { prompt: prompt(0, &record).text, response, pair, revised, ..Example::default() })
}

fn prompt(index: usize, record: &Record) -> Prompt {
    let mut text = String::new();
    for passage in &record.passages {
        if let Some((title, sentences)) = passage.split_first() {
            text.extend(["context: ", title, ": ", &sentences.join(" "), "\n"]);
        }
    }
    // Last, because long prompts lose their start.
    text.extend(["question: ", record.question.trim(), "\nanswer: "]);
    Prompt { id: index as u64, text, facts: Vec::new() }
}

fn demonstration(record: &Record) -> Option<Demonstration> {
    let response = record.gold.trim();
    let prompt = prompt(0, record).text;
    (!response.is_empty()).then(|| Demonstration { prompt, response: response.to_owned(), said: Vec::new() })
}

fn response(text: &str) -> Response {
    Response { text: text.to_owned(), ids: Vec::new(), finished: true }
}

/// The record's preferences, without undecided pairs and pairs of equal texts.
fn preferences(index: usize, record: &Record) -> Vec<Preference> {
    let texts = [&record.prediction_1, &record.prediction_2, &record.prediction_3, &record.prediction_4];
    let decided = PAIRS.iter().zip(record.preference).filter_map(|(&(first, second), verdict)| match verdict {
        Verdict::Neither => None,
        Verdict::First => Some((texts[first], texts[second])),
        Verdict::Second => Some((texts[second], texts[first])),
    });
    decided
        .filter(|(chosen, rejected)| chosen != rejected)
        .map(|(chosen, rejected)| Preference {
            prompt: prompt(index, record),
            chosen: response(chosen),
            rejected: response(rejected),
            noticed: Vec::new(),
        })
        .collect()
}

fn edit(index: usize, record: &Record) -> Edit {
    Edit {
        prompt: prompt(index, record),
        original: response(&record.prediction_1),
        edited: response(&record.feedback.corrected_prediction),
        error_spans: record
            .feedback
            .errors
            .iter()
            .map(|error| ErrorSpan { kind: error.kind.clone(), span: [error.start, error.end] })
            .collect(),
    }
}

/// An edit that says something: its correction is neither missing nor the original.
fn useful(edit: Edit) -> Option<Edit> {
    (!edit.edited.text.trim().is_empty() && edit.edited.text != edit.original.text).then_some(edit)
}

/// The file's records, checked.
fn records(path: &Path) -> Result<Vec<Record>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read dataset `{shown}`"))?;
    ensure!(!text.trim().is_empty(), "`{shown}`: expected a JSON array of records, found an empty file");
    let Records(records) = serde_json::from_str(&text).map_err(|error| {
        let message = error.to_string();
        let (line, column) = (error.line(), error.column());
        let bare = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
        anyhow!("`{shown}`, line {line}, column {column}: {bare}")
    })?;
    if records.is_empty() {
        bail!("`{shown}`: expected at least one record, found an empty array");
    }
    for (i, record) in records.iter().enumerate() {
        let length = record.prediction_1.chars().count();
        for span in &record.feedback.errors {
            ensure!(
                span.start <= span.end && span.end <= length,
                "`{shown}`, record {i}: expected an error span within the {length} characters of `prediction 1`, found \
                 {}..{}",
                span.start,
                span.end,
            );
        }
    }
    Ok(records)
}

/// An array that names the record at fault.
struct Records(Vec<Record>);

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;

        impl<'de> Visitor<'de> for Array {
            type Value = Records;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of QA-feedback records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Records, A::Error> {
                let mut records = Vec::new();
                loop {
                    let next = seq.next_element();
                    match next.map_err(|error| A::Error::custom(format!("record {}: {error}", records.len())))? {
                        Some(record) => records.push(record),
                        None => return Ok(Records(records)),
                    }
                }
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::super::Format;
    use super::*;

    fn record(i: usize) -> Value {
        json!({
            "question": format!("what is {i}?"),
            "gold": format!("it is {i}. "),
            "passages": [["Numbers", "One.", "Two."], ["More", "Three."]],
            "prediction 1": "a b", "prediction 2": "c", "prediction 3": "c", "prediction 4": "d",
            "preference": [1, 0, 2, 1, 1, 2],
            "feedback": {
                "errors": [{"error type": "Irrelevant", "explanation": "", "start": 0, "end": 1}],
                "missing-info": [],
                "corrected-prediction": match i { 0 => "", 1 => "a b", _ => "b" },
            },
        })
    }

    fn config(path: PathBuf, train: i64, validation: i64, test: i64) -> Config {
        let count = |n: i64| n.try_into().unwrap();
        Config {
            path,
            format: Format::QaFeedback,
            seed: 3,
            demonstrations: count(100),
            train_prompts: count(train),
            validation_prompts: count(validation),
            test_prompts: count(test),
            max_prompt_tokens: count(10),
            max_response_tokens: count(10),
            records: None,
            hub: None,
            revision: None,
        }
    }

    fn written(json: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        std::fs::write(&path, json).unwrap();
        (folder, path)
    }

    fn message(json: &str) -> String {
        let (_folder, path) = written(json);
        let error = read(&config(path.clone(), 1, 1, 1)).unwrap_err();
        format!("{error:#}").replace(&path.display().to_string(), "data.json")
    }

    #[test]
    fn records_become_prompts_preferences_and_edits() {
        let records: Vec<_> = (0..9).map(record).collect();
        let (_folder, path) = written(&Value::from(records).to_string());
        let data = read(&config(path.clone(), 99, 2, 3)).unwrap();
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (4, 2, 3));
        let mut ids: Vec<_> = [&data.train, &data.validation, &data.test].into_iter().flatten().map(|p| p.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..9).collect::<Vec<_>>());
        assert_eq!(data.demonstrations.len(), 4);
        assert_eq!(
            data.train[0].text,
            format!(
                "context: Numbers: One. Two.\ncontext: More: Three.\nquestion: what is {}?\nanswer: ",
                data.train[0].id
            )
        );
        assert_eq!(data.demonstrations[0].response, format!("it is {}.", data.train[0].id));
        // 1v3 is undecided, 2v3 compares equal texts.
        let pairs: Vec<_> = data.preferences[..4].iter().map(|p| (&*p.chosen.text, &*p.rejected.text)).collect();
        assert_eq!(pairs, [("a b", "c"), ("d", "a b"), ("c", "d"), ("d", "c")]);
        assert_eq!(data.preferences.len() + data.held_out_preferences.len(), 36);
        // Record 0 has no correction, record 1 one that changes nothing.
        assert_eq!(data.edits.len() + data.held_out_edits.len(), 7);
        let edit = &data.held_out_edits[0];
        let marked = [ErrorSpan { kind: "Irrelevant".to_owned(), span: [0, 1] }];
        assert_eq!((&*edit.original.text, &*edit.edited.text, &edit.error_spans[..]), ("a b", "b", &marked[..]));
        assert_eq!(corrections(&path).unwrap().len(), 9);

        let again = serde_json::to_string(&read(&config(path.clone(), 99, 2, 3)).unwrap()).unwrap();
        assert_eq!(again, serde_json::to_string(&data).unwrap());
        let fewer = read(&config(path, 2, 2, 3)).unwrap();
        assert_eq!((&fewer.train[..], &fewer.test), (&data.train[..2], &data.test));
    }

    #[test]
    fn malformed_files_are_named_with_line_and_record() {
        assert_eq!(message("[{"), "`data.json`, line 1, column 2: record 0: EOF while parsing an object");
        assert_eq!(message("[]"), "`data.json`: expected at least one record, found an empty array");
        assert!(message("{}").starts_with("`data.json`, line 1, column 0: invalid type: map"), "{}", message("{}"));
        let with = |change: &dyn Fn(&mut Value)| {
            let mut second = record(1);
            change(&mut second);
            message(&format!("[\n{},\n{second}]", record(0)))
        };
        let missing = with(&|r| _ = r.as_object_mut().unwrap().remove("gold"));
        assert!(
            missing.starts_with("`data.json`, line 3, ") && missing.ends_with(": record 1: missing field `gold`"),
            "{missing}"
        );
        let wrong = with(&|r| r["question"] = json!(7));
        assert!(
            wrong.contains("line 3") && wrong.contains("record 1: invalid type: integer `7`, expected a string"),
            "{wrong}"
        );
        let verdict = with(&|r| r["preference"] = json!([0, 0, 3, 0, 0, 0]));
        assert!(verdict.contains("record 1: expected a preference of 0, 1 or 2, found 3"), "{verdict}");
        let span = with(&|r| r["feedback"]["errors"][0]["end"] = json!(4));
        assert_eq!(
            span,
            "`data.json`, record 1: expected an error span within the 3 characters of `prediction 1`, found 0..4"
        );
    }

    #[test]
    fn too_small_a_file_says_so() {
        let (_folder, path) = written(&Value::from(vec![record(0), record(1)]).to_string());
        let error = read(&config(path, 1, 1, 1)).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "expected more than 2 records (1 `validation_prompts`, 1 `test_prompts` and one to train on), found 2"
            ),
            "{error}"
        );
    }
}
