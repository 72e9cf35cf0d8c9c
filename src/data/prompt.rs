//! How a record becomes what the model is shown: as it is, by a plain template over its fields, by the checkpoint's chat
//! template.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::{Environment, UndefinedBehavior, Value as Jinja};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::rows::Row;
use crate::text::{ChatTemplate, Rendered, Talk, Turn, python};

/// The recipe's `[prompt]` table, for `format = "records"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The prompt as a template over the record's columns (`"Question: {{ question }}\nAnswer:"`, also `{{ prompt }}`, what the
    /// layout makes of them), or the path of a file with one: text without `{` is a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Whether the prompt is then shown by the checkpoint's chat template, up to where the assistant answers; conversations
    /// keep their messages, anything else is what a user says.
    pub chat: bool,
}

impl Config {
    /// Whether prompts are shown as they are, so that the table need not be written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A template, here or in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Template {
    /// Its text.
    Text(String),
    /// The file that holds it.
    File(PathBuf),
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        if text.contains('{') { Self::Text(text) } else { Self::File(text.into()) }
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        match template {
            Template::Text(text) => text,
            Template::File(path) => path.display().to_string(),
        }
    }
}

impl Template {
    /// Its text.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn text(&self) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read template `{}`", path.display()))
            }
        }
    }
}

/// Templates, ready for use.
#[derive(Default)]
pub struct Shown {
    plain: Option<Environment<'static>>,
    chat: Option<ChatTemplate>,
}

impl Shown {
    /// By `config`; `chat` is the checkpoint's chat template.
    ///
    /// # Errors
    /// When a template cannot be read or is faulty.
    pub fn new(config: &Config, chat: Option<ChatTemplate>) -> Result<Self> {
        let plain = config.template.as_ref().map(|template| -> Result<_> {
            let mut environment = Environment::new();
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            python::speak(&mut environment);
            environment.add_template_owned("prompt", template.text()?).map_err(faulty)?;
            Ok(environment)
        });
        Ok(Self { plain: plain.transpose()?, chat })
    }

    /// What is shown of a row whose layout makes `prompt` and, of a conversation, `talk` of it.
    ///
    /// # Errors
    /// When the template needs a column that is not there, or refuses the messages.
    pub fn prompt(&self, row: &Row, prompt: &str, talk: Option<Talk>) -> Result<String> {
        let mut prompt = prompt.to_owned();
        let mut talk = talk;
        if let Some(environment) = &self.plain {
            let mut fields = row.clone();
            fields.insert("prompt".to_owned(), prompt.into());
            let template = environment.get_template("prompt").map_err(faulty)?;
            prompt = template.render(Jinja::from_pairs(fields)).map_err(faulty)?;
            talk = None;
        }
        let Some(chat) = &self.chat else { return Ok(prompt) };
        let talk = talk.unwrap_or_else(|| Talk { messages: vec![Turn::new("user", &prompt)], tools: None });
        Ok(chat.render(&talk, true)?.text)
    }

    /// A conversation as the chat template writes all of it, and which of it the assistant said; none where conversations are
    /// not shown as such.
    ///
    /// # Errors
    /// When the template refuses the messages, or does not tell what the assistant said.
    pub fn conversation(&self, talk: &Talk) -> Result<Option<Rendered>> {
        let Some(chat) = self.chat.as_ref().filter(|_| self.plain.is_none()) else { return Ok(None) };
        let whole = chat.whole(talk)?;
        ensure!(!whole.generated.is_empty(), "expected something that the assistant says, found nothing");
        Ok(Some(whole))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn faulty(error: minijinja::Error) -> anyhow::Error {
    anyhow!("`prompt.template`: {error}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(template: &str, row: &Value) -> Result<String> {
        let config = Config { template: Some(Template::from(template.to_owned())), chat: false };
        Shown::new(&config, None)?.prompt(&serde_json::from_value(row.clone())?, "as it is", None)
    }

    #[test]
    fn a_template_sees_columns_and_the_layouts_prompt() {
        let row = json!({ "question": "Why?", "tags": ["a", "b"] });
        assert_eq!(shown("Q: {{ question }}{% for t in tags %} #{{ t }}{% endfor %}", &row).unwrap(), "Q: Why? #a #b");
        assert_eq!(shown("<{{ prompt }}>", &row).unwrap(), "<as it is>");
        assert_eq!(shown("{{ question.rstrip('?') }} {{ tags }}", &row).unwrap(), "Why ['a', 'b']");
        let error = shown("{{ answer }}", &row).unwrap_err().to_string();
        assert!(error.contains("prompt.template") && error.contains("undefined"), "{error}");
        assert!(shown("{{ question", &row).is_err());
        assert!(shown("nowhere.jinja", &row).unwrap_err().to_string().contains("`nowhere.jinja`"));
    }
}
