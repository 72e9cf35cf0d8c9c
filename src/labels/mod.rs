//! Edit diff to token labels: which tokens an edit deleted, substituted, added or kept.
//!
//! Works on ids (or words); who made the edit is `data`'s concern, what a label is worth `reward`'s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[labels]` table.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the diff aligns.
    #[serde(default)]
    pub unit: Unit,
}

/// What the diff aligns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Token ids.
    #[default]
    Token,
    /// Maximal runs of non-white-space; a word's label goes to every token that overlaps it.
    Word,
}

/// What an edit did to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    /// Unchanged (both sides).
    U,
    /// Deleted (original side only).
    D,
    /// Substituted (both sides, paired in order).
    S,
    /// Added (edited side only).
    A,
}
