//! Chat templates in the dialect of the Hugging Face `transformers`: messages to text, and which of it the assistant said.
//!
//! Python's methods and its way of writing values stand in `python`.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, Serde, merge_maps};
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use serde_json::{Map, Value as Json};

use super::python;
use super::tokenizer::Tokenizer;

/// Around what a `{% generation %}` block says: code points for private use, which no vocabulary has a meaning for.
const START: char = '\u{f0001}';
const END: char = '\u{f0002}';

/// A chat template and what it may refer to.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// `bos_token`, `eos_token` and what else the tokenizer names.
    tokens: Map<String, Json>,
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What the assistant said, by `{% generation %}` blocks: code points, half-open.
    pub generated: Vec<(usize, usize)>,
}

impl ChatTemplate {
    /// A template and the special tokens by name (`bos_token`, `eos_token`, ...).
    #[must_use]
    pub const fn new(source: String, tokens: Map<String, Json>) -> Self {
        Self { source, tokens }
    }

    /// The template as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders `messages`, a list of objects with `role` and `content`, or an object with such a list under `messages` and
    /// beside it what else the template knows (`tools`, ...); with `prompt`, up to where the assistant answers.
    ///
    /// # Errors
    /// When the template is faulty, raises an exception, or `messages` is no list of objects.
    pub fn render(&self, messages: &Json, prompt: bool) -> Result<Rendered> {
        let no_more = Map::new();
        let (messages, more) = match messages.get("messages") {
            Some(list) => (list, messages.as_object().unwrap_or(&no_more)),
            None => (messages, &no_more),
        };
        let list = messages.as_array().filter(|list| list.iter().all(|message| message.get("role").is_some()));
        ensure!(list.is_some_and(|list| !list.is_empty()), "expected a list of messages, each with a `role`");
        let mut environment = environment().map_err(|error| shown(&error))?;
        let source = generation_blocks(&self.source);
        environment.add_template("chat_template", &source).map_err(|error| shown(&error))?;
        let given = Value::from(Serde(&self.tokens));
        let more = Value::from(Serde(more));
        let usual = context! { tools => (), documents => () };
        let own = context! { messages => Value::from(Serde(messages)), add_generation_prompt => prompt };
        let variables = merge_maps([given, usual, more, own]);
        let template = environment.get_template("chat_template").map_err(|error| shown(&error))?;
        Ok(unmarked(&template.render(variables).map_err(|error| shown(&error))?))
    }

    /// Ids of `messages`, and for each whether the assistant is to learn to say it: what stands in `{% generation %}` blocks,
    /// or, in a template without them, what an assistant's message adds to the text before it.
    ///
    /// # Errors
    /// As [`Self::render`], and when a text does not begin with that of fewer messages, so that no difference can be told.
    pub fn mask(&self, messages: &Json, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<bool>)> {
        let whole = self.render(messages, false)?;
        let spans = if self.has_generation_blocks() { whole.generated } else { self.said(messages, &whole.text)? };
        let inside = |(start, end): (usize, usize)| spans.iter().any(|&(first, last)| start < last && first < end);
        let mask = tokenizer.offsets(&whole.text).into_iter().map(inside).collect();
        Ok((tokenizer.encode(&whole.text), mask))
    }

    fn has_generation_blocks(&self) -> bool {
        generation_blocks(&self.source) != self.source
    }

    /// Where the assistant's messages stand, by rendering fewer of them.
    fn said(&self, messages: &Json, whole: &str) -> Result<Vec<(usize, usize)>> {
        let list = messages.as_array().context("expected a list of messages")?;
        let mut spans = Vec::new();
        for (i, _) in list.iter().enumerate().filter(|(_, message)| message["role"] == "assistant") {
            ensure!(i > 0, "the first message is the assistant's: nothing comes before it");
            let before = self.render(&Json::from(&list[..i]), true)?.text;
            let after = self.render(&Json::from(&list[..=i]), false)?.text;
            if !(after.starts_with(&before) && whole.starts_with(&after)) {
                bail!(
                    "message {}: its text cannot be told from the difference to the messages before, which the template \
                     renders differently; expected `{{% generation %}}` in the template",
                    i + 1
                );
            }
            spans.push((before.chars().count(), after.chars().count()));
        }
        Ok(spans)
    }
}

/// An error with its cause, as one line.
fn shown(error: &Error) -> anyhow::Error {
    let detail = error.detail().unwrap_or_default();
    let line = error.line().map_or(String::new(), |line| format!(", line {line}"));
    if error.kind() == ErrorKind::InvalidOperation && detail.starts_with(RAISED) {
        return anyhow!("the chat template refuses these messages: {}", detail.trim_start_matches(RAISED));
    }
    anyhow!("chat template{line}: {error}")
}

/// Begins the detail of an error that the template raised itself.
const RAISED: &str = "raised: ";

fn environment<'a>() -> Result<Environment<'a>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(|_, value, method, args| python::method(value, method, args));
    environment.set_formatter(|out, _, value| {
        out.write_str(&python::text(value)).map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write"))
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| python::to_json(&value, &options));
    environment.add_function("dict", |values: Kwargs| -> Value { Value::from_object(Dict(pairs(&values))) });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |format: String| strftime(&format, Utc::now()));
    environment.add_function("__generation__", |state: &mut State, options: Kwargs| -> Result<String, Error> {
        let caller: Value = options.get("caller")?;
        Ok(format!("{START}{}{END}", python::text(&caller.call(state, &[])?)))
    });
    Ok(environment)
}

/// What was given by name.
fn pairs(values: &Kwargs) -> Vec<(String, Value)> {
    values.args().filter_map(|name| Some((name.to_owned(), values.get::<Value>(name).ok()?))).collect()
}

/// What `dict(...)` makes: a map in the order of its arguments.
#[derive(Debug)]
struct Dict(Vec<(String, Value)>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

/// `datetime.now().strftime(format)`, in UTC.
fn strftime(format: &str, now: DateTime<Utc>) -> Result<String, Error> {
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("`{format}` is no format of `strftime`")));
    }
    Ok(now.format_with_items(items.into_iter()).to_string())
}

/// `{% generation %}` as a call block, which this engine knows.
fn generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = tag[2..end].trim_matches(['-', '+']).trim();
        out.push_str(&match inner {
            "generation" => tag.replacen("generation", "call __generation__()", 1),
            "endgeneration" => tag.replacen("endgeneration", "endcall", 1),
            _ => tag.to_owned(),
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The text without marks, and what stood between them.
fn unmarked(text: &str) -> Rendered {
    let mut plain = String::with_capacity(text.len());
    let (mut generated, mut count, mut start) = (Vec::new(), 0, 0);
    for c in text.chars() {
        match c {
            START => start = count,
            END => generated.push((start, count)),
            c => {
                plain.push(c);
                count += 1;
            }
        }
    }
    Rendered { text: plain, generated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            strftime("%A %d %B %Y %H:%M:%S %-d %b %y", now).unwrap()
        };
        assert_eq!(at(0), "Thursday 01 January 1970 00:00:00 1 Jan 70");
        assert_eq!(at(951_782_400), "Tuesday 29 February 2000 00:00:00 29 Feb 00");
        assert!(strftime("%Q", Utc::now()).is_err());
    }
}
