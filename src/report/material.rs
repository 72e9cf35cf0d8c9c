//! The data of an experiment as the report holds it: counts, lengths, edits, and rows that could not be used.
//!
//! Counting is `stage`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The size of one part of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataCount {
    /// What is counted.
    pub name: String,
    /// How many.
    pub count: usize,
}

/// How long texts of one kind are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lengths {
    /// What is measured.
    pub name: String,
    /// Texts.
    pub count: usize,
    /// Mean length in tokens.
    pub mean: f64,
    /// Median length in tokens.
    pub median: f64,
    /// Longest, in tokens.
    pub longest: usize,
    /// Tokens that one bin covers.
    pub bin_width: usize,
    /// Texts in each bin, from length 0.
    pub bins: Vec<usize>,
}

/// What the edits of one budget change, all seeds together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EditStatistics {
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Edits.
    pub edits: usize,
    /// Mean edit distance, in the unit of `labels.unit`.
    pub mean_distance: f64,
    /// Mean over edits of the share of the original's tokens that are deleted or substituted.
    pub share_changed: f64,
    /// Tokens by what was done to them: `deleted`, `substituted`, `added`, `unchanged` (of the original).
    pub tokens_by_kind: BTreeMap<String, usize>,
    /// Edits that only delete, only add, only substitute, or mix these: `deletion`, `addition`, `substitution`, `mixed`.
    pub edits_by_kind: BTreeMap<String, usize>,
    /// Edits by their distance, from 0; the last bin holds all larger ones.
    pub distances: Vec<usize>,
}

/// Rows of the dataset that could not be used, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SkippedRows {
    /// What is wrong with them.
    pub reason: String,
    /// How many there are.
    pub count: usize,
    /// The first one: file and line, what was expected and found.
    pub example: String,
}
