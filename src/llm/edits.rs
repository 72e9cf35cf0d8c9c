//! Minimal edits.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::insist::insist;
use super::{Attempts, Edits, Rejection, fault};
use crate::data::Preference;
use crate::endpoint::{Client, Template};

/// What the model made of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edited {
    /// Nothing: it says that no edit is needed.
    Good,
    /// This.
    Text(String),
}

/// Edits of the less preferred responses, in their order.
///
/// # Errors
/// When the template or the endpoint fails.
pub fn edit(
    config: &Edits,
    client: &Client,
    template: &Template,
    preferences: &[Preference],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Attempts<Edited>>> {
    let max_share = config.max_share.get();
    let subject = |preference: &Preference| {
        json!({
            "prompt": preference.prompt.text,
            "response": preference.rejected.text,
            "preferred": preference.chosen.text,
            "max_percent": (100.0 * max_share).round(),
        })
    };
    let subjects: Vec<_> = preferences.iter().map(subject).collect();
    let read = |at: usize, answer: &str, cut: bool| {
        if is_good(answer) {
            return Ok(Edited::Good);
        }
        if cut {
            return Err(Rejection::new("cut off", "it is longer than an answer may be", answer));
        }
        let rejection = fault(&preferences[at].rejected.text, answer, max_share);
        rejection.map_or_else(|| Ok(Edited::Text(answer.to_owned())), Err)
    };
    insist(client, template, &subjects, config.attempts.get(), read, done)
}

/// Whether the answer is the word `GOOD`, whatever stands around it.
fn is_good(answer: &str) -> bool {
    answer.trim_matches(|c: char| !c.is_alphabetic()).eq_ignore_ascii_case("good")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_is_a_word_by_itself() {
        assert!(["GOOD", " good. ", "**Good**"].into_iter().all(is_good));
        assert!(!["good answer", "", "goods"].into_iter().any(is_good));
    }
}
