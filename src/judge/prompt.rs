//! Prompts as templates: a file with a block `system` and a block `user`, or all of it what the user says.

use std::path::Path;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::endpoint::Request;

/// A prompt template.
pub(super) struct Prompt {
    environment: Environment<'static>,
    name: String,
}

impl Prompt {
    /// The template at `path`, else `text`, the one that comes with the program.
    ///
    /// # Errors
    /// When the file cannot be read or is no template.
    pub(super) fn new(path: Option<&Path>, text: &str) -> Result<Self> {
        let (name, text) = match path {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read prompt `{name}`"))?;
                (name, text)
            }
            None => ("prompt.jinja".to_owned(), text.to_owned()),
        };
        let mut environment = Environment::new();
        // Responses are texts, not markup; a name that is misspelt is an error and no empty text.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_template_owned(name.clone(), text).with_context(|| format!("prompt `{name}`"))?;
        Ok(Self { environment, name })
    }

    /// The prompt with `values` filled in.
    ///
    /// # Errors
    /// When the template asks for what there is not.
    pub(super) fn request(&self, values: impl Serialize) -> Result<Request> {
        let template = self.environment.get_template(&self.name)?;
        let mut rendered = template.render_captured(Serde(values))?;
        let mut block = |name: &str| rendered.with_state_mut(|state| state.render_block(name)).ok();
        let (system, user) = (block("system"), block("user"));
        let user = user.unwrap_or_else(|| rendered.into_output());
        Ok(Request::of(system.as_deref().unwrap_or_default().trim(), user.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_has_blocks_or_is_what_the_user_says() {
        let prompt =
            Prompt::new(None, "{% block system %}\nBe fair.\n{% endblock %}{% block user %}{{ x }}{% endblock %}");
        let request = prompt.unwrap().request(json!({ "x": "<a> & \"b\"" })).unwrap();
        let said: Vec<(&str, &str)> = request.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(said, [("system", "Be fair."), ("user", "<a> & \"b\"")]);
        let request = Prompt::new(None, "Judge {{ x }}").unwrap().request(json!({ "x": 1 })).unwrap();
        assert_eq!(request.messages.len(), 1);
        assert_eq!(request.messages[0].content, "Judge 1");
    }

    #[test]
    fn what_a_template_misspells_is_an_error() {
        let prompt = Prompt::new(None, "{{ respones }}").unwrap();
        assert!(prompt.request(json!({ "responses": [] })).is_err());
        assert!(Prompt::new(None, "{% block %}").is_err());
        assert!(Prompt::new(Some(Path::new("nowhere.jinja")), "").is_err());
    }
}
