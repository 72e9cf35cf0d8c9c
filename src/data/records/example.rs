//! What a row says, whatever its layout, and what can be wrong with it.

use serde::{Deserialize, Serialize};

use crate::text::Rendered;

/// A row, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// What was asked.
    pub prompt: String,
    /// A response to imitate.
    pub response: Option<String>,
    /// A whole conversation by a chat template, in which the assistant's turns are imitated: `response` is its last.
    pub conversation: Option<Rendered>,
    /// A better and a worse response.
    pub pair: Option<[String; 2]>,
    /// The worse one, edited.
    pub revised: Option<String>,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is no row: broken JSON, a wrong number of values.
    Unreadable,
    /// It has bytes that are no UTF-8.
    InvalidUtf8,
    /// A column that the layout needs is not there, or null.
    MissingField,
    /// A column holds something else than the layout says.
    WrongType,
    /// A response without text.
    EmptyResponse,
    /// Both sides are the same.
    IdenticalPair,
    /// Neither side is preferred.
    Undecided,
    /// The sides do not answer the same prompt.
    PromptsDiffer,
    /// A template cannot be filled in from it.
    Template,
    /// A text longer than `max_characters`.
    TooLong,
}

impl Kind {
    /// In words, for tables and messages.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::MissingField => "missing field",
            Self::WrongType => "wrong type",
            Self::EmptyResponse => "empty response",
            Self::IdenticalPair => "identical pair",
            Self::Undecided => "undecided pair",
            Self::PromptsDiffer => "prompts differ",
            Self::Template => "no prompt by the template",
            Self::TooLong => "too long",
        }
    }
}

/// A fault of a row: its kind, and what was found.
pub type Fault = (Kind, String);

impl Example {
    /// The example, if its responses say something, and not the same.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked(mut self) -> Result<Self, Fault> {
        if let Some([chosen, rejected]) = &self.pair {
            for (side, text) in [("preferred", chosen), ("less preferred", rejected)] {
                filled(side, text)?;
            }
            if chosen.trim() == rejected.trim() {
                return Err((Kind::IdenticalPair, "expected two responses, found the same twice".to_owned()));
            }
            self.response.get_or_insert_with(|| chosen.clone());
        }
        for (what, text) in [("response", &self.response), ("revised", &self.revised)] {
            if let Some(text) = text {
                filled(what, text)?;
            }
        }
        Ok(self)
    }
}

fn filled(what: &str, text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err((Kind::EmptyResponse, format!("expected a {what} response with text, found none")));
    }
    Ok(())
}
