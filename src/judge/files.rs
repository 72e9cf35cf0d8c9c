//! Verdicts that were made elsewhere: people's, or another program's.
//!
//! Two forms are read, told apart by their keys. The plain one is JSON lines, written by whoever lets people judge:
//!
//! ```json
//! {"prompt": "...", "responses": ["...", "..."], "winner": 0, "annotator": "ada"}
//! ```
//!
//! `winner` is the place of the better response (0 or 1) or `"tie"`; null where the annotator gave none. The other is
//! AlpacaEval's (`instruction`, `output_1`, `output_2`, `preference` from 1 to 2; 1.5, and 0 in older files, a draw).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ballot::{Ballot, Duel, Vote};

/// The verdicts of a file, found by prompt and responses.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// By prompt and the two responses in alphabetical order; preferences are for the first of these.
    votes: BTreeMap<(String, [String; 2]), Vec<Known>>,
}

/// How far the first response is preferred, and by whom.
type Known = (Option<f64>, Option<String>);

impl Annotations {
    /// Reads the file at `path`: JSON lines, or one JSON list.
    ///
    /// # Errors
    /// When it cannot be read, or a row is of neither form: the row is named.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
        Self::parse(&text).with_context(|| format!("verdicts in `{name}`"))
    }

    fn parse(text: &str) -> Result<Self> {
        // Python writes a missing number as NaN, which is no JSON.
        let text = text.replace(": NaN", ": null");
        let rows: Vec<Value> = if text.trim_start().starts_with('[') {
            serde_json::from_str(&text)?
        } else {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            lines
                .map(|(i, line)| serde_json::from_str(line).with_context(|| format!("line {}", i + 1)))
                .collect::<Result<_>>()?
        };
        ensure!(!rows.is_empty(), "expected at least one verdict, found none");
        let mut annotations = Self::default();
        for (i, row) in rows.iter().enumerate() {
            annotations.add(row).with_context(|| format!("row {} (from 1)", i + 1))?;
        }
        Ok(annotations)
    }

    fn add(&mut self, row: &Value) -> Result<()> {
        let text = |key: &str| {
            row[key].as_str().with_context(|| format!("expected a text `{key}`, found {}", row[key])).map(str::to_owned)
        };
        let (prompt, responses, preference) = if row.get("instruction").is_some() {
            (text("instruction")?, [text("output_1")?, text("output_2")?], alpaca_eval(&row["preference"])?)
        } else {
            let responses = row["responses"].as_array().filter(|list| list.len() == 2);
            let responses: Option<Vec<&str>> = responses.and_then(|list| list.iter().map(Value::as_str).collect());
            let Some(&[one, other]) = responses.as_deref() else {
                bail!("expected a list of two texts `responses`, found {}", row["responses"]);
            };
            (text("prompt")?, [one.to_owned(), other.to_owned()], plain(&row["winner"])?)
        };
        let (responses, preference) = in_order(responses, preference);
        let annotator = row["annotator"].as_str().map(str::to_owned);
        self.votes.entry((prompt, responses)).or_default().push((preference, annotator));
        Ok(())
    }

    /// What the file says of `duel`; an empty ballot where it says nothing.
    #[must_use]
    pub fn ballot(&self, duel: Duel) -> Ballot {
        let [ours, theirs] = duel.responses.map(str::to_owned);
        if ours == theirs {
            // Nobody has to say which of two equal texts is better.
            return Ballot(vec![Vote { preference: Some(0.5), first: None, annotator: None }]);
        }
        let is_first = ours < theirs;
        let (responses, _) = in_order([ours, theirs], None);
        let votes = self.votes.get(&(duel.prompt.to_owned(), responses));
        let vote = |(preference, annotator): &Known| Vote {
            preference: preference.map(|preference| if is_first { preference } else { 1.0 - preference }),
            first: None,
            annotator: annotator.clone(),
        };
        Ballot(votes.into_iter().flatten().map(vote).collect())
    }
}

/// The responses in alphabetical order, and the preference for the first of them.
fn in_order(responses: [String; 2], preference: Option<f64>) -> ([String; 2], Option<f64>) {
    let [one, other] = responses;
    if one <= other {
        ([one, other], preference)
    } else {
        ([other, one], preference.map(|preference| 1.0 - preference))
    }
}

/// How far the first response is preferred.
fn plain(winner: &Value) -> Result<Option<f64>> {
    Ok(match (winner.as_u64(), winner.as_str()) {
        (Some(0), _) => Some(1.0),
        (Some(1), _) => Some(0.0),
        (_, Some("tie")) => Some(0.5),
        _ if winner.is_null() => None,
        _ => bail!("expected `winner` to be 0, 1, \"tie\" or null, found {winner}"),
    })
}

/// The same of AlpacaEval's preference, which is for the second output.
fn alpaca_eval(preference: &Value) -> Result<Option<f64>> {
    Ok(match preference.as_f64() {
        Some(0.0) => Some(0.5),
        Some(between) if (1.0..=2.0).contains(&between) => Some(2.0 - between),
        None if preference.is_null() => None,
        _ => bail!("expected `preference` to be a number from 1 to 2, 0 or null, found {preference}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duel<'a>(ours: &'a str, theirs: &'a str) -> Duel<'a> {
        Duel { prompt: "p", responses: [ours, theirs] }
    }

    #[test]
    fn pairs_are_found_in_either_order_with_all_who_judged_them() {
        let text = r#"
            {"prompt": "p", "responses": ["x", "y"], "winner": 0, "annotator": "ada"}
            {"prompt": "p", "responses": ["y", "x"], "winner": "tie", "annotator": "bob"}
            {"prompt": "p", "responses": ["z", "x"], "winner": 1}"#;
        let found = Annotations::parse(text).unwrap();
        let preference = |ours, theirs| found.ballot(duel(ours, theirs)).preference();
        assert_eq!([preference("x", "y"), preference("y", "x")], [Some(0.75), Some(0.25)]);
        assert_eq!([preference("x", "z"), preference("z", "x"), preference("y", "z")], [Some(1.0), Some(0.0), None]);
        assert_eq!(preference("same", "same"), Some(0.5));
        assert_eq!(found.ballot(duel("x", "y")).0[1].annotator.as_deref(), Some("bob"));
    }

    #[test]
    fn alpaca_evals_preference_is_for_the_second_output() {
        let row = |preference: &str| {
            format!(r#"{{"instruction": "p", "output_1": "x", "output_2": "y", "preference": {preference}}}"#)
        };
        let of = |preference: &str| {
            let found = Annotations::parse(&format!("[{}]", row(preference))).unwrap();
            found.ballot(duel("y", "x")).preference()
        };
        assert_eq!([of("2"), of("1"), of("1.5"), of("0")], [Some(1.0), Some(0.0), Some(0.5), Some(0.5)]);
        assert_eq!([of("1.75"), of("null"), of("NaN")], [Some(0.75), None, None]);
    }

    #[test]
    fn rows_of_neither_form_are_named() {
        let error = |text: &str| format!("{:#}", Annotations::parse(text).unwrap_err());
        assert!(error("").contains("at least one verdict"));
        assert!(
            error(r#"{"prompt": "p", "responses": ["x"], "winner": 0}"#)
                .contains("row 1 (from 1): expected a list of two")
        );
        assert!(error(r#"{"prompt": "p", "responses": ["x", "y"], "winner": 2}"#).contains("`winner` to be 0, 1"));
        assert!(
            error(r#"{"instruction": "p", "output_1": "x", "output_2": "y", "preference": 3}"#).contains("from 1 to 2")
        );
        assert!(error("{").contains("line 1"));
    }
}
