//! What a row means: the layouts in which preference data is passed around, each turned into one [`Example`].

use std::collections::BTreeMap;

use minijinja::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{HUMAN, View, conversation};
use super::example::{Example, Fault, Kind};
use super::rows::Row;
use crate::data::qa_feedback;

/// How the columns of a row are to be understood. A text column may hold a conversation instead: a list of
/// `{role, content}`, whose last message is the response and whose others are the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Guessed from the columns' names.
    #[default]
    Auto,
    /// `text`, or `messages`: something to imitate.
    LanguageModeling,
    /// `prompt`.
    PromptOnly,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `chosen`, `rejected`, and `prompt` unless both begin with it.
    Preference,
    /// `prompt`, `completion`, `label`: imitated where the label is true.
    UnpairedPreference,
    /// `prompt`, `completions`, `labels`: imitated where all steps are right.
    Stepwise,
    /// `AlpacaFarm`: `instruction`, `input`, `output_1`, `output_2`, `preference` (1 or 2).
    AlpacaFarm,
    /// Outputs as `AlpacaEval` takes them: `instruction`, `output`.
    AlpacaEval,
    /// Anthropic's transcripts: `chosen`, `rejected`, equal up to the last `\n\nAssistant:`.
    HhRlhf,
    /// `prompt`, `chosen`, `rejected`, `revised`: the less preferred response as somebody edited it.
    Revised,
    /// QA-feedback: `question`, `passages`, `gold`, four predictions, `preference`, `feedback`. A row gives one pair, that of the
    /// corrected prediction where it lost one; `format = "qa_feedback"` has all six, and the error spans.
    QaFeedback,
}

/// The columns that a layout needs, most telling layouts first: the first whose columns are all there is the guess.
const TELLING: [(Layout, &[&str]); 12] = [
    (Layout::QaFeedback, &["question", "passages", "prediction 1", "feedback"]),
    (Layout::Revised, &["chosen", "rejected", "revised"]),
    (Layout::AlpacaFarm, &["instruction", "output_1", "output_2", "preference"]),
    (Layout::Stepwise, &["prompt", "completions", "labels"]),
    (Layout::UnpairedPreference, &["prompt", "completion", "label"]),
    (Layout::Preference, &["chosen", "rejected"]),
    (Layout::PromptCompletion, &["prompt", "completion"]),
    (Layout::AlpacaEval, &["instruction", "output"]),
    (Layout::LanguageModeling, &["messages"]),
    (Layout::LanguageModeling, &["text"]),
    (Layout::PromptOnly, &["prompt"]),
    (Layout::PromptOnly, &["instruction"]),
];

impl Layout {
    /// Whether its rows can have two responses, one preferred.
    #[must_use]
    pub const fn has_pairs(self) -> bool {
        matches!(
            self,
            Self::Auto | Self::Preference | Self::AlpacaFarm | Self::HhRlhf | Self::Revised | Self::QaFeedback
        )
    }

    /// Whether its rows can have an edit of the less preferred response.
    #[must_use]
    pub const fn has_edits(self) -> bool {
        matches!(self, Self::Auto | Self::Revised | Self::QaFeedback)
    }

    /// The layout that the columns of `row` suggest.
    #[must_use]
    pub fn guess(row: &Row, columns: &BTreeMap<String, String>) -> Option<Self> {
        let view = View { row, columns };
        let (layout, _) = TELLING.iter().find(|(_, names)| names.iter().all(|name| view.get(name).is_some()))?;
        let transcript = |name| view.get(name).and_then(Value::as_str).is_some_and(|text| text.contains(HUMAN));
        let is_hh = *layout == Self::Preference && view.get("prompt").is_none() && transcript("chosen");
        Some(if is_hh { Self::HhRlhf } else { *layout })
    }

    /// How telling its columns are: the lower, the more.
    pub(super) fn rank(self) -> Option<usize> {
        let like = if self == Self::HhRlhf { Self::Preference } else { self };
        TELLING.iter().position(|(known, _)| *known == like)
    }

    /// The row in this layout; `columns` says where a column has another name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn example(self, row: &Row, columns: &BTreeMap<String, String>) -> Result<Example, Fault> {
        let view = View { row, columns };
        let example = match self {
            Self::Auto => {
                let names: Vec<_> = row.keys().map(|name| format!("`{name}`")).collect();
                let layout = Self::guess(row, columns).ok_or_else(|| {
                    (Kind::MissingField, format!("expected the columns of a known layout, found {}", names.join(", ")))
                })?;
                return layout.example(row, columns);
            }
            Self::LanguageModeling => match view.get("messages") {
                Some(messages) => {
                    let (prompt, response) = conversation("messages", messages)?;
                    Example { prompt, response: Some(response), ..Example::default() }
                }
                None => Example { response: Some(view.text("text")?), ..Example::default() },
            },
            Self::PromptOnly => Example { prompt: view.prompt()?, ..Example::default() },
            Self::PromptCompletion => {
                Example { prompt: view.prompt()?, response: Some(view.response("completion")?), ..Example::default() }
            }
            Self::Preference => view.preference()?,
            Self::UnpairedPreference => {
                let response = view.response("completion")?;
                let label = view.flag("label", view.need("label")?)?;
                Example { prompt: view.prompt()?, response: label.then_some(response), ..Example::default() }
            }
            Self::Stepwise => view.stepwise()?,
            Self::AlpacaFarm => view.alpaca_farm()?,
            Self::AlpacaEval => {
                Example { prompt: view.instruction()?, response: Some(view.text("output")?), ..Example::default() }
            }
            Self::HhRlhf => view.transcripts()?,
            Self::Revised => Example { revised: Some(view.response("revised")?), ..view.preference()? },
            Self::QaFeedback => qa_feedback::example(row)?,
        };
        example.checked()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(value: Value) -> Row {
        serde_json::from_value(value).unwrap()
    }

    fn understood(value: &Value) -> Result<(Layout, Example), Fault> {
        let (row, columns) = (row(value.clone()), BTreeMap::new());
        let layout = Layout::guess(&row, &columns).unwrap();
        Ok((layout, layout.example(&row, &columns)?))
    }

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Example {
        Example {
            prompt: prompt.to_owned(),
            response: Some(chosen.to_owned()),
            pair: Some([chosen.to_owned(), rejected.to_owned()]),
            ..Example::default()
        }
    }

    #[test]
    fn every_layout_is_guessed_and_understood() {
        let talk = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        let long = |answer: &str| {
            json!([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes?"}, {"from": "human", "value": "q"},
                {"from": "gpt", "value": answer}])
        };
        let imitated = |prompt: &str, response: &str| Example {
            prompt: prompt.to_owned(),
            response: Some(response.to_owned()),
            ..Example::default()
        };
        let cases = [
            (json!({"text": "all"}), Layout::LanguageModeling, imitated("", "all")),
            (json!({"messages": talk("a")}), Layout::LanguageModeling, imitated("q", "a")),
            (json!({"prompt": "q"}), Layout::PromptOnly, Example { prompt: "q".into(), ..Example::default() }),
            (json!({"prompt": "q", "completion": "a"}), Layout::PromptCompletion, imitated("q", "a")),
            (
                json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}),
                Layout::PromptCompletion,
                imitated("q", "a"),
            ),
            (json!({"prompt": "q", "chosen": "a", "rejected": "b"}), Layout::Preference, pair("q", "a", "b")),
            (
                json!({"chosen": "the sky is blue", "rejected": "the sky is green"}),
                Layout::Preference,
                pair("the sky is", " blue", " green"),
            ),
            (
                json!({"prompt": "q", "chosen": talk("a"), "rejected": talk("b")}),
                Layout::Preference,
                pair("q", "a", "b"),
            ),
            (
                json!({"chosen": long("a"), "rejected": long("b")}),
                Layout::Preference,
                pair("human: hi\n\ngpt: yes?\n\nhuman: q\n\nassistant: ", "a", "b"),
            ),
            (json!({"prompt": "q", "completion": "a", "label": true}), Layout::UnpairedPreference, imitated("q", "a")),
            (
                json!({"prompt": "q", "completion": "a", "label": 0}),
                Layout::UnpairedPreference,
                Example { prompt: "q".into(), ..Example::default() },
            ),
            (
                json!({"prompt": "q", "completions": ["one", "two"], "labels": [true, true]}),
                Layout::Stepwise,
                imitated("q", "one\ntwo"),
            ),
            (
                json!({"instruction": "do", "input": "it", "output_1": "a", "output_2": "b", "preference": 2}),
                Layout::AlpacaFarm,
                pair("do\n\nit", "b", "a"),
            ),
            (
                json!({"instruction": "do", "input": "", "output_1": "a", "output_2": "b", "preference": "1"}),
                Layout::AlpacaFarm,
                pair("do", "a", "b"),
            ),
            (json!({"instruction": "do", "output": "a", "generator": "g"}), Layout::AlpacaEval, imitated("do", "a")),
            (
                json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
                Layout::HhRlhf,
                pair("Human: q\n\nAssistant:", "a", "b"),
            ),
            (
                json!({"prompt": "q", "chosen": "a", "rejected": "b", "revised": "b!"}),
                Layout::Revised,
                Example { revised: Some("b!".into()), ..pair("q", "a", "b") },
            ),
            (
                json!({"question": "q", "passages": [["t", "s"]], "gold": "g", "prediction 1": "b", "prediction 2": "a",
                    "prediction 3": "c", "prediction 4": "d", "preference": [2, 1, 0, 1, 0, 0],
                    "feedback": {"errors": [], "corrected-prediction": "b!"}}),
                Layout::QaFeedback,
                Example {
                    response: Some("g".into()),
                    revised: Some("b!".into()),
                    ..pair("context: t: s\nquestion: q\nanswer: ", "a", "b")
                },
            ),
        ];
        for (row, layout, example) in cases {
            assert_eq!(understood(&row), Ok((layout, example)), "{row}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said() {
        let cases = [
            (json!({"prompt": "q", "chosen": "a", "rejected": " a"}), Kind::IdenticalPair),
            (json!({"prompt": "q", "chosen": "", "rejected": "a"}), Kind::EmptyResponse),
            (json!({"prompt": "q", "completion": " \n"}), Kind::EmptyResponse),
            (json!({"prompt": 3, "completion": "a"}), Kind::WrongType),
            (json!({"prompt": "q", "chosen": "a", "rejected": 7}), Kind::WrongType),
            (json!({"instruction": "q", "output_1": "a", "output_2": "b", "preference": 0}), Kind::Undecided),
            (json!({"instruction": "q", "output_1": "a", "output_2": "b", "preference": 3}), Kind::WrongType),
            (json!({"prompt": "q", "completions": ["a"], "labels": []}), Kind::WrongType),
            (
                json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: r\n\nAssistant: b"}),
                Kind::PromptsDiffer,
            ),
            (json!({"question": "q", "passages": [], "prediction 1": "a", "feedback": {}}), Kind::MissingField),
            (json!({"question": "q", "passages": [], "prediction 1": "a", "feedback": 3}), Kind::WrongType),
        ];
        for (row, kind) in cases {
            assert_eq!(understood(&row).map_err(|(kind, _)| kind), Err(kind), "{row}");
        }
        let row = row(json!({"prompt": null, "completion": "a"}));
        let fault = Layout::PromptCompletion.example(&row, &BTreeMap::new()).unwrap_err();
        assert_eq!(fault, (Kind::MissingField, "expected a column `prompt`, found null".to_owned()));
    }

    #[test]
    fn columns_may_have_other_names() {
        let columns = BTreeMap::from([("prompt".to_owned(), "question".to_owned())]);
        let row = row(json!({"question": "q", "completion": "a"}));
        assert_eq!(Layout::guess(&row, &columns), Some(Layout::PromptCompletion));
        assert_eq!(Layout::Auto.example(&row, &columns).unwrap().prompt, "q");
    }
}
