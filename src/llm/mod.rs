//! A language model as annotator: minimal edits, preferences and word scores, by any OpenAI-compatible endpoint.
//!
//! What is asked stands in templates, one file a question; what comes back is checked, asked for again more sharply where it does
//! not hold, and flagged where it still does not. Requests, retries, budget and the memory of answers are `endpoint`'s, whose
//! responses are annotated is the stages'.

mod checks;
mod edits;
mod filling;
mod insist;
mod preferences;
mod words;

pub use checks::{fault, share};
pub use edits::{Edited, edit};
pub use insist::{Attempts, Rejection};
pub use preferences::{Pair, Preferred, prefer};
pub use words::score;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::units::{Count, Fraction};

/// `[edits.llm]`: a language model edits the less preferred response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edits {
    /// Whom to ask.
    pub endpoint: endpoint::Config,
    /// The question's template, relative to the recipe; left out, one that comes with the program. It is given `prompt`,
    /// `response`, `preferred` and `max_percent`, and when it asks again `attempt` (2, 3, ...), `problem` and `answer`. A block
    /// `system` is the instruction, a block `user` the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PathBuf>,
    /// Share of words that an edit may change: the edit distance over the longer text's words. More is a rewrite.
    #[serde(default = "half")]
    pub max_share: Fraction,
    /// How often an edit is asked for before it is flagged and left out.
    #[serde(default = "three")]
    pub attempts: Count,
}

/// `[preferences.llm]`: language models compare two samples of the policy [ALPACA-FARM].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The pool: each pair is shown to one of them, drawn by lot, in an order drawn by lot.
    pub annotators: Vec<Annotator>,
    /// Probability that a preference is recorded the wrong way round: people differ more than one model does from itself.
    #[serde(default = "quarter")]
    pub label_noise: Fraction,
    /// How often a preference is asked for before its pair is flagged and left out.
    #[serde(default = "three")]
    pub attempts: Count,
}

/// An entry of `preferences.llm.annotators`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotator {
    /// Whom to ask.
    pub endpoint: endpoint::Config,
    /// The question's template, relative to the recipe; left out, one that comes with the program. It is given `prompt`, `first`
    /// and `second`, and when it asks again `attempt`, `problem` and `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PathBuf>,
}

/// `[labels.llm_words]`: a language model scores the words of the less preferred response, and the whole [TPPO].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Whom to ask.
    pub endpoint: endpoint::Config,
    /// The question's template, relative to the recipe; left out, one that comes with the program. It is given `prompt`,
    /// `response` and `words`, and when it asks again `attempt`, `problem` and `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PathBuf>,
    /// How often scores are asked for before the response is flagged and left out.
    #[serde(default = "three")]
    pub attempts: Count,
}

/// The templates that come with the program.
pub mod prompts {
    /// Asks for a minimal edit.
    pub const EDIT: &str = include_str!("prompts/edit.jinja");
    /// Asks which of two responses is better.
    pub const PREFER: &str = include_str!("prompts/prefer.jinja");
    /// Asks for a score of every word.
    pub const WORDS: &str = include_str!("prompts/words.jinja");
}

impl Edits {
    /// Without what changes no answer, and without the template's path: its text counts.
    #[must_use]
    pub fn deciding(&self) -> Self {
        Self { endpoint: self.endpoint.deciding(), prompt: None, ..self.clone() }
    }
}

impl Preferences {
    /// Without what changes no answer, and without the templates' paths: their texts count.
    #[must_use]
    pub fn deciding(&self) -> Self {
        let annotators = self.annotators.iter();
        let annotators =
            annotators.map(|annotator| Annotator { endpoint: annotator.endpoint.deciding(), prompt: None });
        Self { annotators: annotators.collect(), ..self.clone() }
    }
}

impl Words {
    /// Without what changes no answer, and without the template's path: its text counts.
    #[must_use]
    pub fn deciding(&self) -> Self {
        Self { endpoint: self.endpoint.deciding(), prompt: None, ..self.clone() }
    }
}

fn half() -> Fraction {
    Fraction::try_from(0.5).expect("in range")
}

fn quarter() -> Fraction {
    Fraction::try_from(0.25).expect("in range")
}

fn three() -> Count {
    Count::try_from(3).expect("at least one")
}
