//! What annotators did, as it is kept: one JSON object a line, appended and never changed.
//!
//! The file is the record and the format for exchange at once: an export is some of its lines. Its annotations have the
//! columns of the layout `revised`, so that they are a dataset as they are. Writing it is left to `annotate`, what an edit
//! did to tokens to `labels`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Edit, Preference, Prompt, Response};

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// Work was taken up.
    Session(Session),
    /// What an annotator has typed so far; the last one of an annotator and item counts, until an annotation of theirs follows.
    Draft(Draft),
    /// An answer that was given.
    Annotation(Box<Annotation>),
}

/// What there was to do when work was taken up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// When, by the machine's clock (RFC 3339, UTC).
    pub time: String,
    /// Version of this program.
    pub runner: String,
    /// Version of the guideline.
    pub guideline: String,
    /// Items to annotate.
    pub items: usize,
    /// Answers that these take, those of several annotators counted each.
    pub answers: usize,
}

/// What an annotator has typed so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// When, by the machine's clock (RFC 3339, UTC).
    pub time: String,
    /// The item's id.
    pub item: String,
    /// Who.
    pub annotator: String,
    /// The response as it stands now.
    pub revised: String,
    /// Whether the annotator corrected the preference: the other response is the one to edit.
    #[serde(default)]
    pub swapped: bool,
    /// Categories of changes so far.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// The reason for a rewrite, as far as it is written.
    #[serde(default)]
    pub reason: String,
    /// Seconds of work so far.
    #[serde(default)]
    pub seconds: f64,
}

/// What was wrong where a change was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Where the change stands in the original: code points, half-open.
    pub chars: [usize; 2],
    /// Its name.
    pub category: String,
}

/// What an annotator said of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was edited.
    Edited,
    /// It needs no edit.
    Good,
    /// Nothing, for a reason.
    Skipped,
}

/// Whether an annotator agreed with the preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The pair stands as it was.
    #[default]
    Kept,
    /// The pair was the wrong way round; `chosen` and `rejected` are in the right order.
    Corrected,
}

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// A hash of item and annotator: stays the same when the answer is given again.
    pub id: String,
    /// A hash of prompt and pair.
    pub item: String,
    /// The pair's own `id`, where the input had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
    /// Who.
    pub annotator: String,
    /// Answers to the item so far, this one included.
    pub version: usize,
    /// Whether it decides between several annotators' answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adjudicated: bool,
    /// When it was given, by the machine's clock (RFC 3339, UTC).
    pub time: String,
    /// Seconds of work on it.
    pub seconds: f64,
    /// Version of the guideline.
    pub guideline: String,
    /// What was said.
    pub answer: Answer,
    /// Why: of a skipped item, or of an edit that is a rewrite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether the preference was corrected.
    #[serde(default)]
    pub preference: Verdict,
    /// What was asked.
    pub prompt: String,
    /// The preferred response.
    pub chosen: String,
    /// The less preferred response, which was shown for editing.
    pub rejected: String,
    /// That response after the edit; the same where it was good, null where it was skipped.
    pub revised: Option<String>,
    /// The ids that were sampled as the less preferred response, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected_ids: Vec<u32>,
    /// Whether the less preferred response came to its end.
    #[serde(default = "finished")]
    pub rejected_finished: bool,
    /// Words that were deleted, substituted or added.
    #[serde(default)]
    pub words_changed: usize,
    /// Those, divided by the words of the longer side.
    #[serde(default)]
    pub share_changed: f64,
    /// The changes, in order.
    #[serde(default)]
    pub hunks: Vec<Hunk>,
    /// What the edit did to each token; none where it was skipped.
    #[serde(default)]
    pub tokens: Option<Tokens>,
}

const fn finished() -> bool {
    true
}

/// A change: what stood in the original, and what stands there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// In the less preferred response.
    pub original: Piece,
    /// In the revised one.
    pub edited: Piece,
    /// What was wrong.
    #[serde(default)]
    pub category: Option<String>,
}

/// A piece of a text, and where it stands: half-open ranges, empty where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The piece.
    pub text: String,
    /// Code points.
    pub chars: [usize; 2],
    /// Bytes of UTF-8.
    pub utf8: [usize; 2],
    /// Tokens that it touches.
    pub tokens: [usize; 2],
}

/// The tokens of both sides, without end-of-sequence tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// `token`, or `word` where no tokenizer was known.
    pub unit: String,
    /// One of U, D, S for each token of the less preferred response.
    pub original_labels: String,
    /// One of U, A, S for each token of the revised response.
    pub edited_labels: String,
    /// Where the original's tokens stand: code points, half-open.
    pub original_chars: Vec<[usize; 2]>,
    /// Where the revised response's tokens stand.
    pub edited_chars: Vec<[usize; 2]>,
}

impl Annotation {
    /// The edit, as `labels` reads it; none where nothing was changed.
    #[must_use]
    pub fn edit(&self, prompt: Prompt) -> Option<Edit> {
        let revised = self.revised.clone().filter(|_| self.answer == Answer::Edited)?;
        let (ids, finished) = (self.rejected_ids.clone(), self.rejected_finished);
        Some(Edit {
            prompt,
            original: Response { text: self.rejected.clone(), ids, finished },
            edited: Response { text: revised, ids: Vec::new(), finished: true },
            error_spans: Vec::new(),
        })
    }
}

/// What a file of annotations comes to: of every annotator's answers to an item the last.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What there was to do when work was last taken up.
    pub session: Option<Session>,
    /// Answers in the order in which they were first given, each as it was given last.
    pub annotations: Vec<Annotation>,
    /// Drafts that no answer followed, by item and annotator.
    pub drafts: BTreeMap<(String, String), Draft>,
    /// Bytes of whole lines; what follows them is a line that was never finished.
    pub whole: u64,
    places: BTreeMap<String, usize>,
}

impl Record {
    /// Reads the file at `path`. A last line without an end was being written when its writer was killed: it is left out.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is none of this format.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| format!("cannot read `{shown}`"))?;
        let (mut reader, mut record, mut line) = (BufReader::new(file), Self::default(), Vec::new());
        for number in 1.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).with_context(|| format!("cannot read `{shown}`"))?;
            if line.last() != Some(&b'\n') {
                break;
            }
            record.whole += read as u64;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let line = serde_json::from_slice(&line)
                .map_err(|error| anyhow!("`{shown}`, line {number}: expected a line of annotations: {error}"))?;
            record.add(line);
        }
        Ok(record)
    }

    /// Takes in what a further line says.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Session(session) => self.session = Some(session),
            Line::Draft(draft) => {
                self.drafts.insert((draft.item.clone(), draft.annotator.clone()), draft);
            }
            Line::Annotation(annotation) => {
                self.drafts.remove(&(annotation.item.clone(), annotation.annotator.clone()));
                let place = *self.places.entry(annotation.id.clone()).or_insert(self.annotations.len());
                if place < self.annotations.len() {
                    self.annotations[place] = *annotation;
                } else {
                    self.annotations.push(*annotation);
                }
            }
        }
    }

    /// One answer an item: the adjudicated one, else the first that is not skipped, else the first.
    #[must_use]
    pub fn decided(&self) -> Vec<&Annotation> {
        let mut order: Vec<&str> = Vec::new();
        let mut best: BTreeMap<&str, &Annotation> = BTreeMap::new();
        let rank = |annotation: &Annotation| {
            if annotation.adjudicated { 2 } else { usize::from(annotation.answer != Answer::Skipped) }
        };
        for annotation in &self.annotations {
            let known = best.entry(&annotation.item).or_insert_with(|| {
                order.push(&annotation.item);
                annotation
            });
            if rank(annotation) > rank(known) {
                *known = annotation;
            }
        }
        order.into_iter().map(|item| best[item]).collect()
    }

    /// The edits of responses that stand in `pairs`, on either side, since a preference may have been corrected.
    #[must_use]
    pub fn edits(&self, pairs: &[Preference]) -> Vec<Edit> {
        let sides = pairs.iter().flat_map(|pair| [&pair.rejected, &pair.chosen].map(|side| (pair, side)));
        let prompts: BTreeMap<(&str, &str), &Prompt> =
            sides.map(|(pair, side)| ((pair.prompt.text.as_str(), side.text.as_str()), &pair.prompt)).collect();
        let edit = |annotation: &Annotation| {
            let prompt = prompts.get(&(annotation.prompt.as_str(), annotation.rejected.as_str()))?;
            annotation.edit((*prompt).clone())
        };
        self.decided().into_iter().filter_map(edit).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotation(item: &str, annotator: &str, answer: Answer, revised: &str) -> Annotation {
        serde_json::from_value(json!({
            "id": format!("{item}/{annotator}"), "item": item, "annotator": annotator, "version": 1, "time": "", "seconds": 1.0,
            "guideline": "1", "answer": answer, "prompt": format!("p {item}"), "chosen": "c", "rejected": "r", "revised": revised,
        }))
        .unwrap()
    }

    fn written(lines: &[Line], tail: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<_> = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        std::fs::write(file.path(), lines.concat() + tail).unwrap();
        file
    }

    fn line(annotation: Annotation) -> Line {
        Line::Annotation(Box::new(annotation))
    }

    #[test]
    fn the_last_word_counts_and_an_unfinished_line_does_not() {
        let draft = |item: &str| Draft { item: item.into(), annotator: "ann".into(), ..Draft::default() };
        let lines = [
            Line::Draft(draft("x")),
            line(annotation("x", "ann", Answer::Edited, "one")),
            line(annotation("y", "ann", Answer::Skipped, "")),
            line(annotation("x", "ann", Answer::Edited, "two")),
            Line::Draft(draft("z")),
        ];
        let file = written(&lines, "{\"type\": \"draft\", \"it");
        let record = Record::read(file.path()).unwrap();
        let revised: Vec<_> = record.annotations.iter().filter_map(|a| a.revised.as_deref()).collect();
        assert_eq!(revised, ["two", ""]);
        assert_eq!(record.drafts.keys().map(|(item, _)| item.as_str()).collect::<Vec<_>>(), ["z"]);
        assert!(record.whole < std::fs::metadata(file.path()).unwrap().len());
    }

    #[test]
    fn one_answer_an_item_is_decided_on() {
        let mut last = annotation("x", "judge", Answer::Good, "r");
        last.adjudicated = true;
        let lines = [
            line(annotation("x", "ann", Answer::Edited, "one")),
            line(annotation("y", "ann", Answer::Skipped, "")),
            line(annotation("x", "ben", Answer::Edited, "two")),
            line(annotation("y", "ben", Answer::Edited, "three")),
            line(last),
        ];
        let file = written(&lines, "");
        let record = Record::read(file.path()).unwrap();
        let decided: Vec<_> = record.decided().iter().map(|a| (a.item.as_str(), a.annotator.as_str())).collect();
        assert_eq!(decided, [("x", "judge"), ("y", "ben")]);
        let response = |text: &str| Response { text: text.into(), ids: vec![], finished: true };
        let pair = |text: &str, rejected: &str| Preference {
            prompt: Prompt { id: 7, text: text.into(), facts: vec![] },
            chosen: response("c"),
            rejected: response(rejected),
            noticed: vec![],
        };
        let found = record.edits(&[pair("p x", "r"), pair("p y", "r")]);
        assert_eq!(found.iter().map(|edit| edit.edited.text.as_str()).collect::<Vec<_>>(), ["three"]);
        assert_eq!(record.edits(&[pair("p y", "another")]), []);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let file = written(&[line(annotation("x", "ann", Answer::Good, "r"))], "{\"type\": \"other\"}\n");
        let error = Record::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: expected a line of annotations: unknown variant `other`"), "{error}");
    }
}
