//! Chat templates in the dialect of the Hugging Face `transformers`: messages to text, and which of it the assistant said.
//!
//! Python's methods and its way of writing values stand in `python`.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail, ensure};
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, Serde, ValueKind, merge_maps};
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::python;

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

/// One thing that somebody said: an object with `role` (`system`, `user`, `assistant`, ...), `content`, and what else a template
/// may know of it (`tool_calls`, `name`, ...).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Turn(Value);

impl Turn {
    /// Plain words.
    #[must_use]
    pub fn new(role: &str, content: &str) -> Self {
        Self::of([("role", role.into()), ("content", content.into())])
    }

    /// What is said of it, in an order that a template can see.
    pub fn of<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self(Value::from_pairs(fields))
    }
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Talk {
    /// Who said what, in order.
    pub messages: Vec<Turn>,
    /// What the assistant can call, where something was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What the assistant said: code points, half-open. [`ChatTemplate::render`] knows it by `{% generation %}` blocks alone.
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

    /// Renders `conversation`, a list of objects with `role` and `content`, or an object with such a list under `messages` and
    /// beside it what else the template knows (`tools`, ...); with `prompt`, up to where the assistant answers. Objects reach
    /// the template with their keys in the order in which they are serialised.
    ///
    /// # Errors
    /// When the template is faulty, raises an exception, or `conversation` is no list of objects.
    pub fn render(&self, conversation: &impl Serialize, prompt: bool) -> Result<Rendered> {
        let conversation = Conversation::new(conversation)?;
        self.rendered(&conversation.messages, &conversation.more, prompt)
    }

    /// Renders a whole `conversation`, and says which of it the assistant said: what stands in `{% generation %}` blocks, or,
    /// in a template without them, what each of the assistant's messages adds to the text of those before it.
    ///
    /// # Errors
    /// As [`Self::render`], and when a text does not begin with that of fewer messages, so that no difference can be told.
    pub fn whole(&self, conversation: &impl Serialize) -> Result<Rendered> {
        let Conversation { messages, more } = Conversation::new(conversation)?;
        let mut whole = self.rendered(&messages, &more, false)?;
        if generation_blocks(&self.source) == self.source {
            whole.generated = self.differences(&messages, &more, &whole.text)?;
        }
        Ok(whole)
    }

    fn rendered(&self, messages: &[Value], more: &Value, prompt: bool) -> Result<Rendered> {
        let mut environment = environment().map_err(|error| shown(&error))?;
        let source = generation_blocks(&self.source);
        environment.add_template("chat_template", &source).map_err(|error| shown(&error))?;
        let given = Value::from(Serde(&self.tokens));
        let usual = context! { tools => (), documents => () };
        let own = context! { messages => messages, add_generation_prompt => prompt };
        let variables = merge_maps([given, usual, more.clone(), own]);
        let template = environment.get_template("chat_template").map_err(|error| shown(&error))?;
        Ok(unmarked(&template.render(variables).map_err(|error| shown(&error))?))
    }

    /// Where the assistant's messages stand, by rendering fewer of them.
    fn differences(&self, messages: &[Value], more: &Value, whole: &str) -> Result<Vec<(usize, usize)>> {
        let mut spans = Vec::new();
        let assistants =
            |message: &Value| message.get_attr("role").is_ok_and(|role| role.as_str() == Some("assistant"));
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| assistants(message)) {
            ensure!(i > 0, "the first message is the assistant's: nothing comes before it");
            let before = self.rendered(&messages[..i], more, true)?.text;
            let after = self.rendered(&messages[..=i], more, false)?.text;
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

/// What a template is given.
struct Conversation {
    messages: Vec<Value>,
    /// What stands beside the messages, by name.
    more: Value,
}

impl Conversation {
    fn new(conversation: &impl Serialize) -> Result<Self> {
        let value = Value::from(Serde(conversation));
        let inside = value.get_attr("messages").ok().filter(|list| !list.is_undefined());
        let (list, more) = inside.map_or_else(|| (value.clone(), context! {}), |list| (list, value.clone()));
        let is_message = |message: &Value| message.get_attr("role").is_ok_and(|role| role.as_str().is_some());
        let messages: Vec<Value> = match list.kind() {
            ValueKind::Seq => list.try_iter().map_err(|error| shown(&error))?.collect(),
            _ => Vec::new(),
        };
        ensure!(
            !messages.is_empty() && messages.iter().all(is_message),
            "expected a list of messages, each with a text as its `role`"
        );
        Ok(Self { messages, more })
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
    python::speak(&mut environment);
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

    #[test]
    fn messages_without_a_role_are_none() {
        for text in ["[]", "[1]", "{}", "3", r#"[{"content": "a"}]"#, r#"[{"role": 3, "content": "a"}]"#] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let error = Conversation::new(&value).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("expected a list of messages"), "{text}: {error}");
        }
        assert!(Conversation::new(&[Turn::new("user", "a")]).is_ok());
    }
}
