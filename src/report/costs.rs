//! Cost and origin of an experiment as the report holds them: the one part that differs from run to run.
//!
//! Read back from the manifests of results; nothing here looks at a clock.

use serde::{Deserialize, Serialize};

/// What one stage cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageCost {
    /// The stage's label.
    pub label: String,
    /// The stage's kind.
    pub stage: String,
    /// Wall time of the run that made its result, in seconds.
    pub wall_seconds: Option<f64>,
    /// When that began, in seconds since 1970-01-01 UTC.
    pub started: Option<u64>,
    /// Tokens that it was trained on, or that were sampled.
    pub tokens: Option<u64>,
    /// Share of what it was trained on that is no token, weighted by tokens.
    pub padding: Option<f64>,
    /// The highest memory use of the process while it was made, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Whether the result was in the store already.
    pub cached: bool,
    /// When training had done some of its steps, in seconds since it began or was resumed.
    pub marks: Vec<Mark>,
}

/// A moment of a stage's training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// Steps done.
    pub step: usize,
    /// Seconds since the stage began.
    pub seconds: f64,
}

/// A stage without a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MissingStage {
    /// The stage's label.
    pub label: String,
    /// `failed`, or `missing` where it did not run.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where, when and by what a report was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The program's version.
    pub version: String,
    /// The commit it was built from.
    pub commit: Option<String>,
    /// Whether files differed from that commit.
    pub dirty: Option<bool>,
    /// Where tensors lived.
    pub device: String,
    /// Worker threads.
    pub threads: Option<usize>,
    /// The command line.
    pub command_line: String,
    /// Date and time of the report, ISO 8601.
    pub date: String,
    /// Wall time of the run, in seconds.
    pub wall_seconds: Option<f64>,
}
