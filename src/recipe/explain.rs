//! `runner explain`: what a key of the recipe means, its type and its default.
//!
//! Everything comes from the schema, hence from the doc comments beside the mathematics.

use serde::Serialize;
use serde_json::Value;

use super::check::{split, table_name};
use super::diagnostics::{did_you_mean, one_of};
use super::schema::Node;

/// What is known of one key.
#[derive(Debug, Serialize)]
struct Explanation {
    /// The dotted key; empty for the recipe as a whole.
    key: String,
    description: String,
    #[serde(rename = "type")]
    kind: String,
    /// Whether it must be given.
    required: bool,
    default: Option<&'static Value>,
    /// The keys of a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Explanation>,
    /// The alternatives of a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Alternative>,
}

#[derive(Debug, Serialize)]
struct Alternative {
    name: &'static str,
    description: String,
    /// Whether it is written as a table rather than as a word.
    table: bool,
}

/// What `key` (dotted; empty for the whole recipe) means, as text for a terminal.
///
/// # Errors
/// A key that is not in the recipe: a message with the probable one.
pub fn explain(key: &str) -> Result<String, String> {
    let found = explanation(key)?;
    let mut blocks = vec![paragraph(&heading(&found), &found.description)];
    blocks.extend(found.keys.iter().map(|key| paragraph(&heading(key), &key.description)));
    for choice in &found.choices {
        let name = choice.name;
        let way = if choice.table { format!("[{key}.{name}]") } else { format!("{key} = \"{name}\"") };
        blocks.push(paragraph(&way, &choice.description));
    }
    Ok(blocks.join("\n\n") + "\n")
}

/// The same as data: `key`, `description`, `type`, `required`, `default`, `keys`, `choices`.
///
/// # Errors
/// As `explain`.
pub fn explain_json(key: &str) -> Result<Value, String> {
    serde_json::to_value(explanation(key)?).map_err(|error| error.to_string())
}

fn paragraph(heading: &str, text: &str) -> String {
    if text.is_empty() { heading.to_owned() } else { format!("{heading}\n    {text}") }
}

fn heading(of: &Explanation) -> String {
    if of.key.is_empty() {
        return of.kind.clone();
    }
    let default = match of.default {
        Some(default) if default.is_object() => "defaults below".to_owned(),
        // A table that is left out where it has its defaults.
        None if !of.keys.is_empty() && of.keys.iter().all(|key| !key.required) => "defaults below".to_owned(),
        Some(default) => format!("default `{}`", plain(default)),
        None if of.required => "required".to_owned(),
        None => "off by default".to_owned(),
    };
    format!("{}  ({}; {default})", of.key, of.kind)
}

fn plain(default: &Value) -> String {
    default.as_str().map_or_else(|| default.to_string(), |word| format!("\"{word}\""))
}

fn explanation(key: &str) -> Result<Explanation, String> {
    let path = if key.is_empty() { Vec::new() } else { split(key) };
    let mut node = Node::root();
    let mut required = true;
    for (depth, word) in path.iter().enumerate() {
        let parent = node;
        let Some(child) = node.child(word) else { return Err(unknown(node, word, &path[..depth])) };
        let holder = parent.item().unwrap_or(parent);
        required = holder.keys().is_none() || holder.required().contains(&word.as_str());
        node = child;
    }
    let table = node.item().filter(|item| item.keys().is_some()).unwrap_or(node);
    let mut found = described(key.to_owned(), node, required);
    for name in table.keys().unwrap_or_default() {
        if let Some(child) = table.child(name) {
            let is_required = table.required().contains(&name);
            found.keys.push(described(name.to_owned(), child, is_required));
        }
    }
    for choice in node.choices().unwrap_or_default() {
        let description = choice.description.replace('\n', " ");
        found.choices.push(Alternative { name: choice.name, description, table: choice.table.is_some() });
    }
    Ok(found)
}

fn described(key: String, node: Node, required: bool) -> Explanation {
    let kind = if key.is_empty() { "the recipe".to_owned() } else { node.type_text() };
    let (keys, choices) = (Vec::new(), Vec::new());
    Explanation { key, description: node.description(), kind, required, default: node.default(), keys, choices }
}

fn unknown(node: Node, word: &str, parents: &[String]) -> String {
    let table = node.item().unwrap_or(node);
    let known = table
        .keys()
        .or_else(|| table.choices().map(|all| all.into_iter().map(|choice| choice.name).collect()))
        .unwrap_or_default();
    let message = format!("unknown key `{word}` in {}", table_name(parents));
    let nearest = did_you_mean(word, known.iter().copied());
    let elsewhere = || found_in_a_table(word).filter(|_| parents.is_empty());
    match nearest.map(str::to_owned).or_else(elsewhere) {
        Some(nearest) => format!("{message}: did you mean `{nearest}`?"),
        None if known.is_empty() => format!("{message}: it has no keys"),
        None => format!("{message}: expected {}", one_of(&known)),
    }
}

/// `clip_range` was probably meant as `ppo.clip_range`.
fn found_in_a_table(word: &str) -> Option<String> {
    let root = Node::root();
    root.keys()?
        .into_iter()
        .find(|table| root.child(table).and_then(|t| t.child(word)).is_some())
        .map(|t| format!("{t}.{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_type_default_and_sentence() {
        let text = explain("ppo.clip_range").unwrap();
        assert_eq!(
            text,
            "ppo.clip_range  (a number above 0; default `0.2`)\n    Half-width of the clipping of the probability ratio [PPO].\n"
        );
        assert!(explain("ppo.value_clip_range").unwrap().contains("off by default"));
        assert!(explain("ppo.steps").unwrap().contains("required"));
    }

    #[test]
    fn every_table_explains_every_key_with_a_sentence() {
        let root = explain_json("").unwrap();
        for table in root["keys"].as_array().unwrap() {
            let key = table["key"].as_str().unwrap();
            let found = explain_json(key).unwrap();
            assert!(!found["description"].as_str().unwrap().is_empty(), "{key}");
            for inner in found["keys"].as_array().into_iter().flatten() {
                assert!(!inner["description"].as_str().unwrap().is_empty(), "{key}: {inner}");
            }
        }
    }

    #[test]
    fn a_choice_lists_its_alternatives() {
        let text = explain("ppo.kl_control").unwrap();
        assert!(text.contains("ppo.kl_control = \"fixed\"\n    It stays."), "{text}");
        assert!(text.contains("[ppo.kl_control.adaptive]\n"), "{text}");
        assert!(explain("variants.reward.token").unwrap().contains("pairwise_edited_anchored"));
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_probable_one() {
        assert_eq!(
            explain("ppo.clip_rang").unwrap_err(),
            "unknown key `clip_rang` in `[ppo]`: did you mean `clip_range`?"
        );
        assert_eq!(
            explain("clip_range").unwrap_err(),
            "unknown key `clip_range` in the recipe: did you mean `ppo.clip_range`?"
        );
        assert!(explain("ppo.steps.more").unwrap_err().contains("it has no keys"));
    }
}
