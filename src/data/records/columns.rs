//! The columns of a row, by the names that layouts and recipes give them: texts, conversations, labels, pairs.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::example::{Example, Fault, Kind};
use super::rows::{Row, items, named};
use crate::text::{Talk, Turn};

pub(super) const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// A row seen through the recipe's names for columns.
pub(super) struct View<'a> {
    pub(super) row: &'a Row,
    pub(super) columns: &'a BTreeMap<String, String>,
}

impl View<'_> {
    fn name<'b>(&'b self, name: &'b str) -> &'b str {
        self.columns.get(name).map_or(name, String::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.row.get(self.name(name)).filter(|value| !value.is_none())
    }

    pub(super) fn need(&self, name: &str) -> Result<&Value, Fault> {
        self.get(name).ok_or_else(|| {
            let column = self.name(name);
            let found = if self.row.contains_key(column) { "null".to_owned() } else { columns_of(self.row) };
            (Kind::MissingField, format!("expected a column `{column}`, found {found}"))
        })
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Fault {
        (Kind::WrongType, format!("expected {expected} in `{}`, found {}", self.name(name), named(found)))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Fault> {
        let value = self.need(name)?;
        value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, "a text", value))
    }

    /// A prompt, as a text or as the messages before the response.
    pub(super) fn prompt(&self) -> Result<String, Fault> {
        if self.get("prompt").is_none() && self.get("instruction").is_some() {
            return self.instruction();
        }
        let value = self.need("prompt")?;
        match (value.as_str(), items(value)) {
            (Some(text), _) => Ok(text.to_owned()),
            (_, Some(messages)) => transcript(self.name("prompt"), &messages),
            _ => Err(self.wrong("prompt", "a text or a conversation", value)),
        }
    }

    /// A response, as a text or as the last message of a conversation.
    pub(super) fn response(&self, name: &str) -> Result<String, Fault> {
        let value = self.need(name)?;
        match (value.as_str(), value.kind()) {
            (Some(text), _) => Ok(text.to_owned()),
            (_, ValueKind::Seq) => Ok(conversation(self.name(name), value)?.1),
            _ => Err(self.wrong(name, "a text or a conversation", value)),
        }
    }

    /// The messages before the response, where the row is a conversation; `prompt` is what they were made of.
    pub(super) fn talk(&self, prompt: &str) -> Option<Talk> {
        let list = |name: &str| self.get(name).and_then(items);
        if let Some(messages) = list("prompt") {
            return self.talked("prompt", &messages);
        }
        // What stands before the response, unless that is all there is and the prompt a text.
        for name in ["chosen", "messages"] {
            if let Some([before @ .., _]) = list(name).as_deref()
                && !before.is_empty()
            {
                return self.talked(name, before);
            }
        }
        let is_transcript = prompt.starts_with(HUMAN.trim_start()) && prompt.ends_with(ASSISTANT);
        is_transcript.then(|| Talk { messages: turns(prompt), tools: None })
    }

    /// All of a conversation that is to be imitated.
    pub(super) fn whole_talk(&self) -> Option<Talk> {
        self.talked("messages", &items(self.get("messages")?)?)
    }

    fn talked(&self, name: &str, messages: &[Value]) -> Option<Talk> {
        let messages = messages.iter().map(|message| turn(name, message)).collect::<Option<_>>()?;
        // Parquet has no column of any objects: they are written as text there.
        let parsed = |text: &str| serde_json::from_str(text).ok();
        let tools = self.get("tools").map(|tools| tools.as_str().and_then(parsed).unwrap_or_else(|| tools.clone()));
        Some(Talk { messages, tools })
    }

    pub(super) fn flag(&self, name: &str, value: &Value) -> Result<bool, Fault> {
        let said = match value.kind() {
            ValueKind::Bool | ValueKind::Number | ValueKind::String => value.to_string().to_ascii_lowercase(),
            _ => return Err(self.wrong(name, "true or false", value)),
        };
        match said.as_str() {
            "true" | "1" | "1.0" => Ok(true),
            "false" | "0" | "0.0" => Ok(false),
            _ => Err((Kind::WrongType, format!("expected true or false in `{}`, found `{said}`", self.name(name)))),
        }
    }

    pub(super) fn instruction(&self) -> Result<String, Fault> {
        let instruction = self.text("instruction")?;
        let input = self.get("input").and_then(Value::as_str).unwrap_or_default();
        Ok(if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") })
    }

    pub(super) fn preference(&self) -> Result<Example, Fault> {
        let (chosen, rejected) = (self.need("chosen")?, self.need("rejected")?);
        if [chosen, rejected].iter().all(|side| side.kind() == ValueKind::Seq) {
            let (before, chosen) = conversation(self.name("chosen"), chosen)?;
            let (other, rejected) = conversation(self.name("rejected"), rejected)?;
            // A prompt in text is also the first of the messages, where there are any: these say more.
            let only_here =
                before.is_empty() || self.get("prompt").is_some_and(|prompt| prompt.kind() == ValueKind::Seq);
            let prompt = if only_here && self.get("prompt").is_some() { self.prompt()? } else { before.clone() };
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

    pub(super) fn stepwise(&self) -> Result<Example, Fault> {
        let list = |name: &str| -> Result<Vec<Value>, Fault> {
            let value = self.need(name)?;
            items(value).ok_or_else(|| self.wrong(name, "a list", value))
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

    pub(super) fn alpaca_farm(&self) -> Result<Example, Fault> {
        let [first, second] = [self.text("output_1")?, self.text("output_2")?];
        let value = self.need("preference")?;
        let said = value.to_string().trim().to_ascii_lowercase();
        let pair = match said.as_str() {
            "1" | "1.0" | "a" | "output_1" => [first, second],
            "2" | "2.0" | "b" | "output_2" => [second, first],
            "0" | "0.0" | "1.5" | "tie" => return Err((Kind::Undecided, format!("neither is preferred: `{said}`"))),
            _ => return Err((Kind::WrongType, format!("expected a preference of 1 or 2, found `{value}`"))),
        };
        Ok(Example { prompt: self.instruction()?, pair: Some(pair), ..Example::default() })
    }

    pub(super) fn transcripts(&self) -> Result<Example, Fault> {
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

/// A message by the names that chat templates know.
fn turn(name: &str, value: &Value) -> Option<Turn> {
    let (role, content) = message(name, value).ok()?;
    let role = match role.as_str() {
        "human" => "user".to_owned(),
        "gpt" => "assistant".to_owned(),
        _ => role,
    };
    let fields: Vec<(Value, Value)> = value.as_object()?.try_iter_pairs()?.collect();
    let known = fields.iter().filter_map(|(key, value)| match key.as_str()? {
        "role" | "from" => Some(("role", role.as_str().into())),
        "content" | "value" => Some(("content", content.as_str().into())),
        key => (!value.is_none()).then(|| (key, value.clone())),
    });
    Some(Turn::of(known))
}

/// The turns of one of Anthropic's transcripts, up to where the assistant answers.
fn turns(transcript: &str) -> Vec<Turn> {
    let whole = format!("\n\n{}", transcript.strip_suffix(ASSISTANT).unwrap_or(transcript));
    let mut turns = Vec::new();
    for turn in whole.split(HUMAN).skip(1) {
        let mut said = turn.split(ASSISTANT);
        turns.extend(said.next().map(|text| Turn::new("user", text.trim())));
        turns.extend(said.map(|text| Turn::new("assistant", text.trim())));
    }
    turns
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
pub(super) fn conversation(name: &str, value: &Value) -> Result<(String, String), Fault> {
    let messages = items(value).filter(|messages| !messages.is_empty());
    let messages =
        messages.ok_or_else(|| (Kind::WrongType, format!("expected messages in `{name}`, found {}", named(value))))?;
    let (last, before) = messages.split_last().expect("not empty");
    let (role, response) = message(name, last)?;
    if ["user", "human", "system", "tool"].contains(&role.as_str()) {
        return Err((
            Kind::WrongType,
            format!("expected a response as the last message in `{name}`, found `{role}`'s"),
        ));
    }
    Ok((transcript(name, before)?, response))
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
    let field = |key: &&str| value.get_attr(key).ok().filter(|field| !field.is_undefined() && !field.is_none());
    let text = |keys: [&str; 2]| keys.iter().find_map(field)?.as_str().map(str::to_owned);
    text(["role", "from"]).zip(text(["content", "value"])).ok_or_else(|| {
        (Kind::WrongType, format!("expected messages with `role` and `content` in `{name}`, found {}", named(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_has_turns() {
        let found = turns("Human: hi\n\nAssistant: yes?\n\nHuman: why\n\nAssistant:");
        assert_eq!(found, [Turn::new("user", "hi"), Turn::new("assistant", "yes?"), Turn::new("user", "why")]);
    }

    #[test]
    fn a_common_prefix_never_cuts_a_character() {
        assert_eq!(common_prefix("né", "nè"), 1);
        assert_eq!(common_prefix("a b", "a c"), 1);
        assert_eq!(common_prefix("same", "same"), 4);
    }
}
