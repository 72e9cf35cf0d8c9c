//! Questions as templates: a file with a block `system` and a block `user`, or all of it what the user says.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::endpoint::Request;

/// A question with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
    text: String,
}

/// What a template is filled with: what it is asked about, and what was wrong with the last answer.
#[derive(Debug, Serialize)]
pub(super) struct Filling<'a, T: Serialize> {
    #[serde(flatten)]
    pub about: &'a T,
    pub attempt: usize,
    pub problem: Option<&'a str>,
    pub answer: Option<&'a str>,
}

impl Template {
    /// A template called `name` in messages.
    ///
    /// # Errors
    /// When its syntax is wrong.
    pub fn new(name: &str, text: &str) -> Result<Self> {
        let template = Self { name: name.to_owned(), text: text.to_owned() };
        template.environment()?;
        Ok(template)
    }

    /// The text of the file at `path`, or where there is none `default`.
    ///
    /// # Errors
    /// When it cannot be read or its syntax is wrong.
    pub fn text_of(path: Option<&Path>, default: &str) -> Result<String> {
        let Some(path) = path else { return Ok(default.to_owned()) };
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read template `{shown}`"))?;
        Ok(Self::new(&shown.to_string(), &text)?.text)
    }

    fn environment(&self) -> Result<Environment<'_>> {
        let mut environment = Environment::new();
        // Responses are texts, not markup; a name that is misspelt is an error and no empty text.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_template(&self.name, &self.text).map_err(|error| anyhow!("{error:#}"))?;
        Ok(environment)
    }

    /// The question, filled in.
    ///
    /// # Errors
    /// When it asks for what it is not given.
    pub(super) fn request<T: Serialize>(&self, filling: &Filling<T>) -> Result<Request> {
        let environment = self.environment()?;
        let template = environment.get_template(&self.name)?;
        let rendered = template.render_captured(Serde(filling));
        let mut rendered = rendered.map_err(|error| anyhow!("template `{}`: {error:#}", self.name))?;
        let mut block = |name: &str| rendered.with_state_mut(|state| state.render_block(name)).ok();
        let (system, user) = (block("system"), block("user"));
        let user = user.unwrap_or_else(|| rendered.into_output());
        Ok(Request::of(system.as_deref().unwrap_or_default().trim(), user.trim()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::prompts;
    use super::*;

    #[test]
    fn instruction_and_question_are_parted_and_a_second_attempt_says_what_was_wrong() {
        let template = Template::new("edit", prompts::EDIT).unwrap();
        let about = json!({ "prompt": "what?", "response": "<b> & co", "preferred": null, "max_percent": 30 });
        let first = template.request(&Filling { about: &about, attempt: 1, problem: None, answer: None }).unwrap();
        let [system, user] = first.messages.as_slice() else { panic!("{first:?}") };
        assert!(system.role == "system" && system.content.contains("as little as possible"), "{system:?}");
        assert!(user.content.starts_with("Question:\nwhat?") && user.content.ends_with("<b> & co"), "{user:?}");
        let filling = Filling { about: &about, attempt: 2, problem: Some("it is empty"), answer: Some("") };
        let second = template.request(&filling).unwrap();
        let question = &second.messages[1].content;
        assert!(question.contains("cannot be used: it is empty.") && question.contains("at most 30 %"), "{question}");
    }

    #[test]
    fn mistakes_in_templates_are_named() {
        let error = Template::new("mine", "{% if %}").unwrap_err().to_string();
        assert!(error.contains("mine"), "{error}");
        let template = Template::new("mine", "{{ respons }}").unwrap();
        let about = json!({ "response": "x" });
        let error = template.request(&Filling { about: &about, attempt: 1, problem: None, answer: None }).unwrap_err();
        assert!(error.to_string().starts_with("template `mine`: undefined value"), "{error}");
    }
}
