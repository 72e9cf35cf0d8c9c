//! Files for other programs, from the templates beside this one.

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

/// `template` with the values of `view`; `for_whom` says in an error whom the file is for. The filter `json` writes a text, a
/// list or a number so that TOML and YAML read it too.
pub(super) fn render(template: &str, view: Value, for_whom: &str) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?;
    environment.set_syntax(syntax);
    environment.add_filter("json", json);
    environment.render_str(template, view).with_context(|| format!("cannot render the file for {for_whom}"))
}

/// Not the template engine's own filter, which escapes what means something in HTML.
fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}
