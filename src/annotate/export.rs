//! Annotations in the formats that others read: JSON lines, preference pairs, M2, Parquet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};
use serde::Serialize;
use serde_json::json;

use crate::data::annotations::{Annotation, Answer, Hunk, Line};
use crate::labels::words;

/// The lines themselves: what this writes, everything here reads, and any reader of the layout `revised`.
///
/// # Errors
/// When a number cannot be written as JSON.
pub fn json_lines(annotations: &[&Annotation]) -> Result<String> {
    let lines = annotations.iter().map(|annotation| {
        let line = Line::Annotation(Box::new((*annotation).clone()));
        Ok(serde_json::to_string(&line)? + "\n")
    });
    lines.collect()
}

/// Preference pairs as trainers take them: the edit is preferred over its original. Answers without an edit make none.
#[must_use]
pub fn pairs(annotations: &[&Annotation]) -> String {
    let edited = annotations.iter().filter(|annotation| annotation.answer == Answer::Edited);
    let pair = |annotation: &&Annotation| {
        let Annotation { id, prompt, rejected, annotator, .. } = *annotation;
        json!({ "id": id, "prompt": prompt, "chosen": annotation.revised, "rejected": rejected, "annotator": annotator })
            .to_string()
            + "\n"
    };
    edited.map(pair).collect()
}

/// M2, as grammatical error correction exchanges edits [M2]: a line with the words of an original, below it each annotator's
/// edits in words. Changes of white space alone have no place there. Skipped items are left out.
#[must_use]
pub fn m2(annotations: &[&Annotation]) -> String {
    let mut originals: Vec<(&str, &str)> = Vec::new();
    let mut by_original: BTreeMap<(&str, &str), Vec<&Annotation>> = BTreeMap::new();
    for annotation in annotations.iter().filter(|annotation| annotation.answer != Answer::Skipped) {
        let original = (annotation.item.as_str(), annotation.rejected.as_str());
        let known = by_original.entry(original).or_default();
        if known.is_empty() {
            originals.push(original);
        }
        known.push(annotation);
    }
    let mut text = String::new();
    for original in originals {
        let words: Vec<&str> = words(original.1).iter().map(|word| word.text).collect();
        writeln!(text, "S {}", words.join(" ")).expect("a string takes everything");
        for (annotator, annotation) in by_original[&original].iter().enumerate() {
            let edits: Vec<String> = annotation.hunks.iter().filter_map(|hunk| m2_edit(hunk, annotation)).collect();
            let edits = if edits.is_empty() { vec!["-1 -1|||noop|||-NONE-".to_owned()] } else { edits };
            for edit in edits {
                writeln!(text, "A {edit}|||REQUIRED|||-NONE-|||{annotator}").expect("a string takes everything");
            }
        }
        text.push('\n');
    }
    text
}

/// A change as M2 has it: words from and to, kind, what stands there instead.
fn m2_edit(hunk: &Hunk, annotation: &Annotation) -> Option<String> {
    let touched = |text: &str, [from, to]: [usize; 2]| {
        let words = words(text);
        let first = words.iter().take_while(|word| word.span.1 <= from).count();
        let count = if from < to { words[first..].iter().take_while(|word| word.span.0 < to).count() } else { 0 };
        let said: Vec<String> =
            words[first..first + count].iter().map(|word| word.text.replace("|||", "| | |")).collect();
        (first, first + count, said)
    };
    let (from, to, old) = touched(&annotation.rejected, hunk.original.chars);
    let (_, _, new) = touched(annotation.revised.as_deref().unwrap_or_default(), hunk.edited.chars);
    let kind = match (old.is_empty(), new.is_empty()) {
        (true, true) => return None,
        (true, false) => "M",
        (false, true) => "U",
        (false, false) => "R",
    };
    let category = hunk.category.as_deref().unwrap_or("OTHER").replace(['|', ' '], "-");
    let new = if new.is_empty() { String::new() } else { new.join(" ") };
    Some(format!("{from} {to}|||{kind}:{category}|||{new}"))
}

/// A table with a row for each annotation; changes as JSON, places of tokens as lists.
///
/// # Errors
/// When the file cannot be written.
pub fn parquet(annotations: &[&Annotation], path: &Path) -> Result<()> {
    let shown = path.display();
    let mut table = table(annotations)?;
    let file = File::create(path).with_context(|| format!("cannot write `{shown}`"))?;
    ParquetWriter::new(file).finish(&mut table).with_context(|| format!("cannot write `{shown}`"))?;
    Ok(())
}

fn table(rows: &[&Annotation]) -> Result<DataFrame> {
    let texts = |name: &str, of: &dyn Fn(&Annotation) -> Option<String>| -> Column {
        Series::new(name.into(), rows.iter().map(|row| of(row)).collect::<Vec<Option<String>>>()).into()
    };
    let numbers = |name: &str, of: &dyn Fn(&Annotation) -> f64| -> Column {
        Series::new(name.into(), rows.iter().map(|row| of(row)).collect::<Vec<f64>>()).into()
    };
    let counts = |name: &str, of: &dyn Fn(&Annotation) -> usize| -> Column {
        Series::new(name.into(), rows.iter().map(|row| of(row) as u64).collect::<Vec<_>>()).into()
    };
    let places = |name: &str, side: usize, end: usize| -> Column {
        let row = |row: &&Annotation| {
            let tokens = row.tokens.as_ref();
            let places = tokens.map(|tokens| if side == 0 { &tokens.original_chars } else { &tokens.edited_chars });
            let places = places.into_iter().flatten().map(|place| place[end] as u64);
            Series::new("".into(), places.collect::<Vec<_>>())
        };
        Series::new(name.into(), rows.iter().map(row).collect::<Vec<_>>()).into()
    };
    let adjudicated: Vec<bool> = rows.iter().map(|row| row.adjudicated).collect();
    Ok(DataFrame::new_infer_height(vec![
        texts("id", &|row| Some(row.id.clone())),
        texts("item", &|row| Some(row.item.clone())),
        texts("source", &|row| row.source.as_ref().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))),
        texts("annotator", &|row| Some(row.annotator.clone())),
        counts("version", &|row| row.version),
        Series::new("adjudicated".into(), adjudicated).into(),
        texts("time", &|row| Some(row.time.clone())),
        numbers("seconds", &|row| row.seconds),
        texts("guideline", &|row| Some(row.guideline.clone())),
        texts("answer", &|row| word(row.answer)),
        texts("reason", &|row| Some(row.reason.clone())),
        texts("preference", &|row| word(row.preference)),
        texts("prompt", &|row| Some(row.prompt.clone())),
        texts("chosen", &|row| Some(row.chosen.clone())),
        texts("rejected", &|row| Some(row.rejected.clone())),
        texts("revised", &|row| row.revised.clone()),
        counts("words_changed", &|row| row.words_changed),
        numbers("share_changed", &|row| row.share_changed),
        texts("hunks", &|row| Some(json!(row.hunks).to_string())),
        texts("unit", &|row| Some(row.tokens.as_ref()?.unit.clone())),
        texts("original_labels", &|row| Some(row.tokens.as_ref()?.original_labels.clone())),
        texts("edited_labels", &|row| Some(row.tokens.as_ref()?.edited_labels.clone())),
        places("original_token_starts", 0, 0),
        places("original_token_ends", 0, 1),
        places("edited_token_starts", 1, 0),
        places("edited_token_ends", 1, 1),
    ])?)
}

/// A value of a closed list as it is written.
fn word(value: impl Serialize) -> Option<String> {
    json!(value).as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use polars::prelude::{ParquetReader, SerReader};

    use super::*;
    use crate::annotate::import;

    fn annotations() -> Vec<Annotation> {
        let row = |prompt: &str, rejected: &str, revised: &str, who: &str| {
            let row =
                json!({ "prompt": prompt, "chosen": "z", "rejected": rejected, "revised": revised, "annotator": who });
            import::annotation(&serde_json::from_value(row).unwrap(), "x", String::new()).unwrap()
        };
        let mut skipped = row("q", "c d", "c e", "ann");
        (skipped.answer, skipped.revised, skipped.tokens, skipped.hunks) = (Answer::Skipped, None, None, vec![]);
        let mut first = row("p", "ugh , it is cheap .", "it is near by .", "ann");
        first.hunks[1].category = Some("untruthful".into());
        vec![first, row("p", "ugh , it is cheap .", "ugh , it is cheap .", "ben"), skipped]
    }

    #[test]
    fn m2_names_words_and_annotators() {
        let annotations = annotations();
        let text = m2(&annotations.iter().collect::<Vec<_>>());
        insta::assert_snapshot!(text, @r"
        S ugh , it is cheap .
        A 0 2|||U:OTHER||||||REQUIRED|||-NONE-|||0
        A 4 5|||R:untruthful|||near by|||REQUIRED|||-NONE-|||0
        A -1 -1|||noop|||-NONE-|||REQUIRED|||-NONE-|||1
        ");
    }

    #[test]
    fn pairs_prefer_the_edit() {
        let annotations = annotations();
        let text = pairs(&annotations.iter().collect::<Vec<_>>());
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "no edit needed, and skipped: no pairs");
        assert_eq!(
            (&lines[0]["chosen"], &lines[0]["rejected"]),
            (&json!("it is near by ."), &json!("ugh , it is cheap ."))
        );
    }

    #[test]
    fn lines_and_tables_hold_what_was_kept() {
        let (annotations, dir) = (annotations(), tempfile::tempdir().unwrap());
        let all: Vec<&Annotation> = annotations.iter().collect();
        let path = dir.path().join("all.jsonl");
        std::fs::write(&path, json_lines(&all).unwrap()).unwrap();
        assert_eq!(crate::data::annotations::Record::read(&path).unwrap().annotations, annotations);
        let path = dir.path().join("all.parquet");
        parquet(&all, &path).unwrap();
        let frame = ParquetReader::new(File::open(path).unwrap()).finish().unwrap();
        assert_eq!(frame.height(), 3);
        assert_eq!(frame.column("original_labels").unwrap().str().unwrap().get(0), Some("DDUUSU"));
        let ends = frame.column("original_token_ends").unwrap().list().unwrap().get_as_series(0).unwrap();
        assert_eq!(ends.u64().unwrap().into_no_null_iter().collect::<Vec<_>>(), [3, 5, 8, 11, 17, 19]);
        assert_eq!(frame.column("revised").unwrap().str().unwrap().get(2), None);
    }
}
