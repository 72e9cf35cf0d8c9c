//! The part of `report.json` on language models as annotators.
//!
//! The rest of the schema stands in `schema`; `docs/REPORT.md` describes every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a language model did as annotator, in one stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnnotatorResult {
    /// The stage's label.
    pub stage: String,
    /// What it was asked for: `edits`, `preferences` or `word scores`.
    pub task: String,
    /// The model, or the models of a pool.
    pub model: String,
    /// Responses or pairs that it was asked about.
    pub asked: usize,
    /// Those whose answer was taken in the end.
    pub accepted: usize,
    /// Of these, those that it said need no edit.
    pub good: usize,
    /// Those that it was asked about more than once.
    pub asked_again: usize,
    /// Those that were left out, because no answer could be used.
    pub flagged: usize,
    /// Answers that were rejected, by the check that they failed.
    pub rejections: BTreeMap<String, usize>,
    /// Edits by the share of words that they change, in bins of equal width from 0 to 1; of edits only.
    pub shares: Vec<usize>,
    /// Share of preferences for the response that was shown first; of preferences only.
    pub first_shown: Option<f64>,
    /// Preferences that were recorded the wrong way round.
    pub flipped: usize,
    /// The first answers of both kinds: taken and rejected.
    pub examples: Vec<AnnotatorExample>,
}

/// One answer of an annotator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnnotatorExample {
    /// What was asked of the policy.
    pub prompt: String,
    /// What the annotator was shown.
    pub original: String,
    /// What it answered.
    pub answer: String,
    /// Share of words that it changes, where it is an edit.
    pub share: f64,
    /// Why it was rejected; none where it was taken.
    pub problem: Option<String>,
}
