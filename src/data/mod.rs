//! What the experiment is about: prompts, demonstrations, preference pairs, minimal edits, and where they come from.
//!
//! Reads a dataset (a simulated world or files) into plain records with splits. Turning text into ids is left to
//! `text`, comparing an original with its edit to `labels`.

pub mod annotations;
pub mod hub;
pub mod prompt;
pub mod qa_feedback;
pub mod records;
pub mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hf_hub::RepoType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Count;

/// The recipe's `[dataset]` table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The dataset's file, relative to the recipe (or to the working directory when given by `--set`).
    pub path: PathBuf,
    /// A dataset repository of the Hugging Face hub, `organisation/name`: `path` is then a file or pattern in it, or `.` for
    /// all files of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// A branch, tag or commit of that repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How to read the file.
    pub format: Format,
    /// Seed of everything that is drawn while reading: generated records, shuffling, splits.
    #[serde(default)]
    pub seed: u64,
    /// Demonstrations for supervised fine-tuning; a world generates this many, a file offers at most what it has.
    pub demonstrations: Count,
    /// Prompts for annotation and PPO rollouts; a world generates this many, a file gives those not held out.
    pub train_prompts: Count,
    /// Held-out prompts on which hyperparameters (the KL coefficient) are chosen.
    pub validation_prompts: Count,
    /// Held-out prompts on which results are reported, used for nothing else.
    pub test_prompts: Count,
    /// Longest prompt in tokens; longer ones lose tokens from their start.
    pub max_prompt_tokens: Count,
    /// Longest response in tokens, end-of-sequence token included; generation stops there.
    pub max_response_tokens: Count,
    /// What the rows of files mean (`format = "records"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<records::Config>,
}

/// File formats of `dataset.path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A simulated world: slots, values, templates and faults declared in TOML.
    World,
    /// QA-feedback (Wu et al. 2023): questions, passages, four predictions, preferences, a human correction.
    QaFeedback,
    /// Rows of JSON lines, JSON, CSV, TSV, Parquet or Arrow files; `[dataset.records]` says what they mean.
    Records,
}

/// The part of the data a prompt belongs to. No prompt is in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Annotated, and rolled out by PPO.
    Train,
    /// For choosing hyperparameters.
    Validation,
    /// For the reported result.
    Test,
}

/// One stated fact of a world record: the slot's name and its value's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fact {
    /// Name of the slot in the world file.
    pub slot: String,
    /// The value, words separated by single spaces.
    pub value: String,
}

/// Something to respond to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Position in the dataset; unique over all splits.
    pub id: u64,
    /// The rendered prompt.
    pub text: String,
    /// The record behind the prompt, where the dataset is a world; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
}

/// A prompt with a response to imitate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demonstration {
    /// What was asked.
    pub prompt: String,
    /// What to imitate, without end-of-sequence token; of a conversation the assistant's last turn.
    pub response: String,
    /// Of a conversation by a chat template: what the assistant said in prompt and response, joined; code points, half-open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<(usize, usize)>,
}

/// A response as text and, where it was sampled, as the ids that were sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The text, without end-of-sequence token.
    pub text: String,
    /// Token ids, end-of-sequence token included when `finished`.
    pub ids: Vec<u32>,
    /// Whether it ended by an end-of-sequence token rather than at the length limit.
    pub finished: bool,
}

/// What an annotator saw wrong in a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The kind's name in the world file (`rude`, `omitted`, ...).
    pub kind: String,
    /// Index of the sentence at fault; for an omitted fact, the index of the fact in the record.
    pub at: usize,
}

/// Two responses to one prompt, the better one named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// What was asked.
    pub prompt: Prompt,
    /// The preferred response.
    pub chosen: Response,
    /// The less preferred response.
    pub rejected: Response,
    /// What a simulated annotator noticed in the less preferred response; its editor repairs exactly these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noticed: Vec<Fault>,
}

/// A less preferred response and its minimal edit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// What was asked.
    pub prompt: Prompt,
    /// The response before the edit.
    pub original: Response,
    /// The response after the edit.
    pub edited: Response,
    /// What a person marked as erroneous in the original, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_spans: Vec<ErrorSpan>,
}

/// A stretch of a response that somebody marked as erroneous.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSpan {
    /// What is wrong, in the dataset's words: `Irrelevant`, `omitted`, ...
    pub kind: String,
    /// Its characters (code points, half-open). An empty span at the end of the text says that something is missing.
    pub span: [usize; 2],
}

/// A response whose errors somebody marked; none where nothing is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkedResponse {
    /// What was asked.
    pub prompt: Prompt,
    /// The response.
    pub response: Response,
    /// Its errors.
    pub error_spans: Vec<ErrorSpan>,
}

/// A response that somebody scored word by word [TPPO].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredResponse {
    /// What was asked.
    pub prompt: Prompt,
    /// The response.
    pub response: Response,
    /// Its scores.
    pub scores: WordScores,
}

/// Scores of a response: 0 is bad, 1 neither, 2 good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordScores {
    /// One for every word (a maximal run of non-white-space).
    pub words: Vec<u8>,
    /// Of the end of the response, where it was scored: 0 where something is missing.
    pub end: Option<u8>,
    /// Of the response as a whole.
    pub sentence: u8,
}

/// A dataset, read: what the data stage stores.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dataset {
    /// For supervised fine-tuning.
    pub demonstrations: Vec<Demonstration>,
    /// Prompts of the training split.
    pub train: Vec<Prompt>,
    /// Prompts of the validation split.
    pub validation: Vec<Prompt>,
    /// Prompts of the test split.
    pub test: Vec<Prompt>,
    /// Preferences that came with the data, training split.
    pub preferences: Vec<Preference>,
    /// Preferences that came with the data, held-out splits.
    pub held_out_preferences: Vec<Preference>,
    /// Edits that came with the data, training split.
    pub edits: Vec<Edit>,
    /// Edits that came with the data, held-out splits.
    pub held_out_edits: Vec<Edit>,
    /// Rows that could not be used.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What is wrong with it.
    pub kind: records::example::Kind,
    /// File and line or row.
    pub place: String,
    /// What was expected and found.
    pub message: String,
}

impl Config {
    /// Where its files are, fetched first where that is a repository.
    ///
    /// # Errors
    /// When the repository cannot be had.
    pub fn source(&self) -> Result<PathBuf> {
        let Some(name) = &self.hub else { return Ok(self.path.clone()) };
        let pattern = glob::Pattern::new(&self.path.to_string_lossy()).context("`dataset.path`")?;
        let all = self.path.as_os_str() == ".";
        let wanted = |file: &Path| records::files::has_rows(file) && (all || pattern.matches_path(file));
        let repository = hub::Repository::new(name, RepoType::Dataset, self.revision.as_deref());
        let folder = repository
            .files(wanted)
            .with_context(|| format!("cannot get the dataset `{name}` of the Hugging Face hub"))?;
        Ok(if all { folder } else { folder.join(&self.path) })
    }
}

/// Reads the dataset that `config` names.
///
/// The same configuration gives the same dataset, and a larger count a longer list with the same beginning.
///
/// # Errors
/// If the file can't be read or is malformed (with file and line), or the counts ask for more than it can give.
pub fn read(config: &Config) -> Result<Dataset> {
    match config.format {
        Format::World => world::World::load(&config.path)?.dataset(config),
        Format::QaFeedback => qa_feedback::read(config),
        Format::Records => records::read(config, &prompt::Shown::default()),
    }
}
