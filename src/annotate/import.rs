//! Annotations from elsewhere: other files of annotations, exports, and rows in the layout `revised`.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use minijinja::Value;
use serde_json::json;

use super::change::Labeller;
use super::item::id_of;
use crate::data::Response;
use crate::data::annotations::{Annotation, Answer, Line, Verdict};
use crate::data::records::Config;
use crate::data::records::example::{Fault, Kind};
use crate::data::records::rows::{self, Row};

/// Reads every annotation in the files that `path` means; rows that do not say who made them are `annotator`'s, and those that
/// do not say when have the time `time`. Sessions and drafts are passed over.
///
/// # Errors
/// When a file cannot be read, a row is no annotation, or there is none.
pub fn read(path: &Path, annotator: &str, time: &str) -> Result<Vec<Annotation>> {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    rows::read(path, &mut |place, row| {
        let read = row.and_then(|row| match whole(&row) {
            Some(Line::Annotation(annotation)) => Ok(Some(*annotation)),
            Some(_) => Ok(None),
            None => annotation(&row, annotator, time.to_owned()).map(Some),
        });
        match read {
            Ok(annotation) => found.extend(annotation),
            Err((_, message)) => bad.push(format!("{place}: {message}")),
        }
        true
    })?;
    if let Some(first) = bad.first() {
        bail!("{} of {} rows are no annotations; the first is {first}", bad.len(), bad.len() + found.len());
    }
    ensure!(!found.is_empty(), "`{}`: expected annotations, found none", path.display());
    Ok(found)
}

/// A line as this program writes it.
fn whole(row: &Row) -> Option<Line> {
    row.contains_key("type").then(|| serde_json::to_value(row).and_then(serde_json::from_value).ok()).flatten()
}

/// A row with `prompt`, `chosen`, `rejected` and `revised`; `annotator`, `time`, `seconds`, `guideline`, `reason` and `adjudicated`
/// where it has them. Without `revised`, or with `answer = skipped`, it was skipped.
///
/// # Errors
/// What is wrong with it.
pub(super) fn annotation(row: &Row, annotator: &str, time: String) -> Result<Annotation, Fault> {
    let config = Config::default();
    let example = config.layout.example(row, &config.columns)?;
    let Some([chosen, rejected]) = example.pair else {
        let expected = "expected `prompt`, `chosen`, `rejected` and `revised`";
        return Err((Kind::MissingField, format!("{expected}, found one response or none")));
    };
    let text =
        |name: &str| row.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty()).map(str::to_owned);
    let revised = example.revised.filter(|_| text("answer").as_deref() != Some("skipped"));
    let answer = match &revised {
        None if text("reason").is_none() => {
            return Err((Kind::MissingField, "expected `revised`, or a `reason` why it was skipped".to_owned()));
        }
        None => Answer::Skipped,
        Some(revised) if *revised == rejected => Answer::Good,
        Some(_) => Answer::Edited,
    };
    let original = Response { text: rejected.clone(), ids: Vec::new(), finished: true };
    let change = revised.as_ref().map(|revised| Labeller::default().change(&original, revised));
    let annotator = text("annotator").unwrap_or_else(|| annotator.to_owned());
    let item = text("item").unwrap_or_else(|| id_of(&[&example.prompt, &chosen, &rejected]));
    let adjudicated = row.get("adjudicated") == Some(&Value::from(true));
    let role = if adjudicated { "adjudication" } else { &annotator };
    let corrected = text("preference").as_deref() == Some("corrected");
    Ok(Annotation {
        id: text("id").filter(|_| row.contains_key("item")).unwrap_or_else(|| id_of(&[&item, role])),
        source: row.get("id").filter(|id| !id.is_none() && !row.contains_key("item")).map(|id| json!(id)),
        item,
        annotator,
        version: row.get("version").and_then(Value::as_usize).unwrap_or(1),
        adjudicated,
        time: text("time").unwrap_or(time),
        seconds: row.get("seconds").and_then(|seconds| seconds.clone().try_into().ok()).unwrap_or(0.0),
        guideline: text("guideline").unwrap_or_default(),
        answer,
        reason: text("reason").unwrap_or_default(),
        preference: if corrected { Verdict::Corrected } else { Verdict::Kept },
        prompt: example.prompt,
        chosen,
        rejected,
        revised,
        rejected_ids: Vec::new(),
        rejected_finished: true,
        words_changed: change.as_ref().map_or(0, |change| change.words_changed),
        share_changed: change.as_ref().map_or(0.0, |change| change.share_changed),
        hunks: change.as_ref().map(|change| change.hunks.clone()).unwrap_or_default(),
        tokens: change.map(|change| change.tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_rows(rows: &[serde_json::Value]) -> Result<Vec<Annotation>> {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.to_string() + "\n").collect();
        std::fs::write(file.path(), lines.concat()).unwrap();
        read(file.path(), "somebody", "then")
    }

    #[test]
    fn rows_become_answers() {
        let row =
            |revised: &str| json!({ "id": 4, "prompt": "p", "chosen": "c", "rejected": "a b", "revised": revised });
        let mut named = row("a b");
        named["annotator"] = json!("ann");
        let skipped = json!({ "prompt": "p", "chosen": "c", "rejected": "a b", "revised": null, "reason": "what?" });
        let found = read_rows(&[row("a c"), named, skipped]).unwrap();
        let said: Vec<_> = found.iter().map(|answer| (answer.answer, answer.annotator.as_str())).collect();
        assert_eq!(said, [(Answer::Edited, "somebody"), (Answer::Good, "ann"), (Answer::Skipped, "somebody")]);
        assert_eq!((&found[0].source, found[0].time.as_str(), found[0].words_changed), (&Some(json!(4)), "then", 1));
        assert_eq!(found[0].item, found[2].item);
    }

    #[test]
    fn rows_without_an_edit_are_refused() {
        let error = read_rows(&[json!({ "prompt": "p", "chosen": "c", "rejected": "a b" })]).unwrap_err().to_string();
        assert!(error.contains("1 of 1 rows are no annotations") && error.contains("expected `revised`"), "{error}");
    }
}
