//! Questions as templates: a file with a block `system` and a block `user`, or all of it what the user says.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::Request;

/// A question with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
    text: String,
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

    /// The file at `path`, or where there is none `default`, a text that comes with the program.
    ///
    /// # Errors
    /// When it cannot be read or its syntax is wrong.
    pub fn read(path: Option<&Path>, default: &str) -> Result<Self> {
        let Some(path) = path else { return Self::new("prompt.jinja", default) };
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read template `{shown}`"))?;
        Self::new(&shown.to_string(), &text)
    }

    /// Its text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
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
    pub fn request<T: Serialize>(&self, values: &T) -> Result<Request> {
        let environment = self.environment()?;
        let template = environment.get_template(&self.name)?;
        let rendered = template.render_captured(Serde(values));
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

    use super::*;

    #[test]
    fn a_template_has_blocks_or_is_what_the_user_says() {
        let prompt =
            Template::new("mine", "{% block system %}\nBe fair.\n{% endblock %}{% block user %}{{ x }}{% endblock %}");
        let request = prompt.unwrap().request(&json!({ "x": "<a> & \"b\"" })).unwrap();
        let said: Vec<(&str, &str)> = request.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(said, [("system", "Be fair."), ("user", "<a> & \"b\"")]);
        let request = Template::read(None, "Judge {{ x }}").unwrap().request(&json!({ "x": 1 })).unwrap();
        assert_eq!(request.messages.len(), 1);
        assert_eq!(request.messages[0].content, "Judge 1");
    }

    #[test]
    fn mistakes_in_templates_are_named() {
        let error = Template::new("mine", "{% if %}").unwrap_err().to_string();
        assert!(error.contains("mine"), "{error}");
        let template = Template::new("mine", "{{ respons }}").unwrap();
        let error = template.request(&json!({ "response": "x" })).unwrap_err();
        assert!(error.to_string().starts_with("template `mine`: undefined value"), "{error}");
        let error = Template::read(Some(Path::new("nowhere.jinja")), "").unwrap_err();
        assert!(error.to_string().starts_with("cannot read template `nowhere.jinja`"), "{error}");
    }
}
