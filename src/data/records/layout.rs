//! What a row means: the layouts in which preference data is passed around, each turned into one [`Example`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{Row, named};

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
    /// AlpacaFarm: `instruction`, `input`, `output_1`, `output_2`, `preference` (1 or 2).
    AlpacaFarm,
    /// AlpacaEval's outputs: `instruction`, `output`.
    AlpacaEval,
    /// Anthropic's transcripts: `chosen`, `rejected`, equal up to the last `\n\nAssistant:`.
    HhRlhf,
    /// `prompt`, `chosen`, `rejected`, `revised`: the less preferred response as somebody edited it.
    Revised,
}

/// A row, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// What was asked.
    pub prompt: String,
    /// A response to imitate.
    pub response: Option<String>,
    /// A better and a worse response.
    pub pair: Option<[String; 2]>,
    /// The worse one, edited.
    pub revised: Option<String>,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is no row: broken JSON, a wrong number of values, bytes that are no UTF-8.
    Unreadable,
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
    /// A text longer than `max_characters`.
    TooLong,
}

impl Kind {
    /// In words, for tables and messages.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::MissingField => "missing field",
            Self::WrongType => "wrong type",
            Self::EmptyResponse => "empty response",
            Self::IdenticalPair => "identical pair",
            Self::Undecided => "undecided pair",
            Self::PromptsDiffer => "prompts differ",
            Self::TooLong => "too long",
        }
    }
}

/// A fault of a row: its kind, and what was found.
pub type Fault = (Kind, String);

/// The columns that a layout needs, most telling layouts first: the first whose columns are all there is the guess.
const TELLING: [(Layout, &[&str]); 11] = [
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

/// A row seen through the recipe's names for columns.
struct View<'a> {
    row: &'a Row,
    columns: &'a BTreeMap<String, String>,
}

impl Layout {
    /// Whether its rows can have two responses, one preferred.
    #[must_use]
    pub const fn has_pairs(self) -> bool {
        matches!(self, Self::Auto | Self::Preference | Self::AlpacaFarm | Self::HhRlhf | Self::Revised)
    }

    /// Whether its rows can have an edit of the less preferred response.
    #[must_use]
    pub const fn has_edits(self) -> bool {
        matches!(self, Self::Auto | Self::Revised)
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
        };
        checked(example)
    }
}

/// An example whose responses say something, and not the same.
fn checked(mut example: Example) -> Result<Example, Fault> {
    if let Some([chosen, rejected]) = &example.pair {
        for (side, text) in [("preferred", chosen), ("less preferred", rejected)] {
            filled(side, text)?;
        }
        if chosen.trim() == rejected.trim() {
            return Err((Kind::IdenticalPair, "expected two responses, found the same twice".to_owned()));
        }
        example.response.get_or_insert_with(|| chosen.clone());
    }
    for (what, text) in [("response", &example.response), ("revised", &example.revised)] {
        if let Some(text) = text {
            filled(what, text)?;
        }
    }
    Ok(example)
}

fn filled(what: &str, text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err((Kind::EmptyResponse, format!("expected a {what} response with text, found none")));
    }
    Ok(())
}

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

impl View<'_> {
    fn name<'b>(&'b self, name: &'b str) -> &'b str {
        self.columns.get(name).map_or(name, String::as_str)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.row.get(self.name(name)).filter(|value| !value.is_null())
    }

    fn need(&self, name: &str) -> Result<&Value, Fault> {
        self.get(name).ok_or_else(|| {
            let column = self.name(name);
            let found = if self.row.contains_key(column) { "null".to_owned() } else { columns_of(self.row) };
            (Kind::MissingField, format!("expected a column `{column}`, found {found}"))
        })
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Fault {
        (Kind::WrongType, format!("expected {expected} in `{}`, found {}", self.name(name), named(found)))
    }

    fn text(&self, name: &str) -> Result<String, Fault> {
        let value = self.need(name)?;
        value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, "a text", value))
    }

    /// A prompt, as a text or as the messages before the response.
    fn prompt(&self) -> Result<String, Fault> {
        if self.get("prompt").is_none() && self.get("instruction").is_some() {
            return self.instruction();
        }
        match self.need("prompt")? {
            Value::String(text) => Ok(text.clone()),
            Value::Array(messages) => transcript(self.name("prompt"), messages),
            other => Err(self.wrong("prompt", "a text or a conversation", other)),
        }
    }

    /// A response, as a text or as the last message of a conversation.
    fn response(&self, name: &str) -> Result<String, Fault> {
        match self.need(name)? {
            Value::String(text) => Ok(text.clone()),
            list @ Value::Array(_) => Ok(conversation(self.name(name), list)?.1),
            other => Err(self.wrong(name, "a text or a conversation", other)),
        }
    }

    fn flag(&self, name: &str, value: &Value) -> Result<bool, Fault> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(n) if n.as_f64() == Some(0.0) => Ok(false),
            Value::Number(n) if n.as_f64() == Some(1.0) => Ok(true),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err((Kind::WrongType, format!("expected true or false in `{}`, found `{text}`", self.name(name)))),
            },
            other => Err(self.wrong(name, "true or false", other)),
        }
    }

    fn instruction(&self) -> Result<String, Fault> {
        let instruction = self.text("instruction")?;
        let input = self.get("input").and_then(Value::as_str).unwrap_or_default();
        Ok(if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") })
    }

    fn preference(&self) -> Result<Example, Fault> {
        let (chosen, rejected) = (self.need("chosen")?, self.need("rejected")?);
        if let (Value::Array(_), Value::Array(_)) = (chosen, rejected) {
            let (before, chosen) = conversation(self.name("chosen"), chosen)?;
            let (other, rejected) = conversation(self.name("rejected"), rejected)?;
            let prompt = if self.get("prompt").is_some() { self.prompt()? } else { before.clone() };
            if before != other {
                return Err((Kind::PromptsDiffer, "expected the same messages before both responses".to_owned()));
            }
            return Ok(Example { prompt, pair: Some([chosen, rejected]), ..Example::default() });
        }
        let (chosen, rejected) = (self.text("chosen")?, self.text("rejected")?);
        if self.get("prompt").is_some() {
            return Ok(Example { prompt: self.prompt()?, pair: Some([chosen, rejected]), ..Example::default() });
        }
        let shared = common_prefix(&chosen, &rejected);
        let (prompt, chosen) = chosen.split_at(shared);
        let pair = Some([chosen.to_owned(), rejected[shared..].to_owned()]);
        Ok(Example { prompt: prompt.to_owned(), pair, ..Example::default() })
    }

    fn stepwise(&self) -> Result<Example, Fault> {
        let list = |name: &str| -> Result<&Vec<Value>, Fault> {
            let value = self.need(name)?;
            value.as_array().ok_or_else(|| self.wrong(name, "a list", value))
        };
        let (steps, labels) = (list("completions")?, list("labels")?);
        if steps.len() != labels.len() {
            let found = format!("expected a label for each of {} completions, found {}", steps.len(), labels.len());
            return Err((Kind::WrongType, found));
        }
        let texts = steps.iter().map(|step| step.as_str().ok_or_else(|| self.wrong("completions", "texts", step)));
        let response = texts.collect::<Result<Vec<_>, _>>()?.join("\n");
        let right = labels.iter().map(|label| self.flag("labels", label)).collect::<Result<Vec<_>, _>>()?;
        let all = right.into_iter().all(|right| right);
        Ok(Example { prompt: self.prompt()?, response: all.then_some(response), ..Example::default() })
    }

    fn alpaca_farm(&self) -> Result<Example, Fault> {
        let [first, second] = [self.text("output_1")?, self.text("output_2")?];
        let value = self.need("preference")?;
        let said =
            value.as_f64().map_or_else(|| value.as_str().unwrap_or_default().trim().to_owned(), |x| x.to_string());
        let pair = match said.to_ascii_lowercase().as_str() {
            "1" | "a" | "output_1" => [first, second],
            "2" | "b" | "output_2" => [second, first],
            "0" | "1.5" | "tie" => return Err((Kind::Undecided, format!("neither is preferred: `{said}`"))),
            _ => return Err((Kind::WrongType, format!("expected a preference of 1 or 2, found `{value}`"))),
        };
        Ok(Example { prompt: self.instruction()?, pair: Some(pair), ..Example::default() })
    }

    fn transcripts(&self) -> Result<Example, Fault> {
        let split = |name: &str| -> Result<(String, String), Fault> {
            let text = self.text(name)?;
            let at = text.rfind(ASSISTANT).ok_or_else(|| {
                (
                    Kind::WrongType,
                    format!("expected a transcript with `Assistant:` in `{}`, found none", self.name(name)),
                )
            })?;
            let (prompt, response) = text.split_at(at + ASSISTANT.len());
            Ok((prompt.trim_start().to_owned(), response.trim().to_owned()))
        };
        let ((prompt, chosen), (other, rejected)) = (split("chosen")?, split("rejected")?);
        if prompt != other {
            return Err((Kind::PromptsDiffer, "expected transcripts that differ in the last response only".to_owned()));
        }
        Ok(Example { prompt, pair: Some([chosen, rejected]), ..Example::default() })
    }
}

fn columns_of(row: &Row) -> String {
    let names: Vec<_> = row.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Bytes that both begin with; a blank at the end belongs to the responses.
fn common_prefix(a: &str, b: &str) -> usize {
    let shared = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    let end = shared.map(|(a, _)| a.len_utf8()).sum();
    a[..end].strip_suffix(' ').map_or(end, str::len)
}

/// The messages before the last one as a prompt, and the last one.
fn conversation(name: &str, value: &Value) -> Result<(String, String), Fault> {
    let messages = value.as_array().filter(|messages| !messages.is_empty());
    let messages =
        messages.ok_or_else(|| (Kind::WrongType, format!("expected messages in `{name}`, found {}", named(value))))?;
    let (last, before) = messages.split_last().expect("not empty");
    Ok((transcript(name, before)?, message(name, last)?.1))
}

/// A single message as it is; several as a transcript that ends where the assistant begins.
fn transcript(name: &str, messages: &[Value]) -> Result<String, Fault> {
    let messages: Vec<(String, String)> = messages.iter().map(|m| message(name, m)).collect::<Result<_, _>>()?;
    if let [(_, content)] = messages.as_slice() {
        return Ok(content.clone());
    }
    let turns = messages.iter().map(|(role, content)| format!("{role}: {content}\n\n"));
    let text: String = turns.collect();
    Ok(if text.is_empty() { text } else { text + "assistant: " })
}

/// Role and content of a message, by the names that are in use.
fn message(name: &str, value: &Value) -> Result<(String, String), Fault> {
    let text = |keys: [&str; 2]| keys.iter().find_map(|key| value.get(key)).and_then(Value::as_str).map(str::to_owned);
    text(["role", "from"]).zip(text(["content", "value"])).ok_or_else(|| {
        (Kind::WrongType, format!("expected messages with `role` and `content` in `{name}`, found {}", named(value)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn understood(row: &Value) -> Result<(Layout, Example), Fault> {
        let (row, columns) = (row.as_object().unwrap(), BTreeMap::new());
        let layout = Layout::guess(row, &columns).unwrap();
        Ok((layout, layout.example(row, &columns)?))
    }

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Example {
        Example {
            prompt: prompt.to_owned(),
            response: Some(chosen.to_owned()),
            pair: Some([chosen.to_owned(), rejected.to_owned()]),
            revised: None,
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
        ];
        for (row, kind) in cases {
            assert_eq!(understood(&row).map_err(|(kind, _)| kind), Err(kind), "{row}");
        }
        let row = json!({"prompt": null, "completion": "a"});
        let fault = Layout::PromptCompletion.example(row.as_object().unwrap(), &BTreeMap::new()).unwrap_err();
        assert_eq!(fault, (Kind::MissingField, "expected a column `prompt`, found null".to_owned()));
    }

    #[test]
    fn columns_may_have_other_names() {
        let columns = BTreeMap::from([("prompt".to_owned(), "question".to_owned())]);
        let row = json!({"question": "q", "completion": "a"});
        let row = row.as_object().unwrap();
        assert_eq!(Layout::guess(row, &columns), Some(Layout::PromptCompletion));
        assert_eq!(Layout::Auto.example(row, &columns).unwrap().prompt, "q");
    }

    #[test]
    fn a_common_prefix_never_cuts_a_character() {
        assert_eq!(common_prefix("né", "nè"), 1);
        assert_eq!(common_prefix("a b", "a c"), 1);
        assert_eq!(common_prefix("same", "same"), 4);
    }
}
