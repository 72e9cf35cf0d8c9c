//! What may stand in a recipe: the JSON schema that is derived from the config structs, made easy to walk.
//!
//! The structs and their doc comments are the only source; nothing is declared here. Values are judged by serde.

use std::sync::OnceLock;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Recipe;

/// A position in the schema: the recipe itself, a table, a key, an entry of a list.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// What stands at the key: its own documentation and default.
    declared: &'static Value,
    /// What its type says, references followed.
    body: &'static Value,
}

/// One alternative of a choice.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// As written in a recipe.
    pub name: &'static str,
    /// Its documentation.
    pub description: &'static str,
    /// The table that belongs to it; none for a bare word.
    pub table: Option<Node>,
}

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| schemars::schema_for!(Recipe).to_value())
}

fn string(value: &'static Value, key: &str) -> &'static str {
    value[key].as_str().unwrap_or_default()
}

impl Node {
    /// The whole recipe.
    #[must_use]
    pub fn root() -> Self {
        Self::new(document())
    }

    fn new(declared: &'static Value) -> Self {
        let mut body = declared;
        loop {
            if let Some(name) = body["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
                body = &document()["$defs"][name];
            } else if let Some(some) = body["anyOf"].as_array().and_then(|all| all.first()) {
                // An optional key: its type, or null.
                body = some;
            } else {
                return Self { declared, body };
            }
        }
    }

    /// The node at `path`; entries of lists are named by any number, or passed over.
    #[must_use]
    pub fn at(self, path: &[String]) -> Option<Self> {
        path.iter().try_fold(self, |node, key| node.child(key))
    }

    /// The node of `key` in this table or choice; in a list, of an entry or of a key of its entries.
    #[must_use]
    pub fn child(self, key: &str) -> Option<Self> {
        if let Some(item) = self.item() {
            return if key.bytes().all(|b| b.is_ascii_digit()) { Some(item) } else { item.child(key) };
        }
        if let Some(choices) = self.choices() {
            return choices.into_iter().find(|choice| choice.name == key).and_then(|choice| choice.table);
        }
        self.body["properties"].get(key).map(Self::new)
    }

    /// The entries' node, where this is a list.
    #[must_use]
    pub fn item(self) -> Option<Self> {
        self.body.get("items").map(Self::new)
    }

    /// The keys of this table: those without a default in the order of their declaration, then the others by name.
    #[must_use]
    pub fn keys(self) -> Option<Vec<&'static str>> {
        if self.kind() != "object" {
            return None;
        }
        let mut keys = self.required();
        let all = self.body["properties"].as_object().into_iter().flat_map(serde_json::Map::keys);
        let optional: Vec<_> = all.map(String::as_str).filter(|key| !keys.contains(key)).collect();
        keys.extend(optional);
        Some(keys)
    }

    /// Whether it takes keys beyond those that it declares.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.body.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false))
    }

    /// The keys without a default.
    #[must_use]
    pub fn required(self) -> Vec<&'static str> {
        self.body["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The alternatives, where exactly one must be taken.
    #[must_use]
    pub fn choices(self) -> Option<Vec<Choice>> {
        let alternatives = self.body["oneOf"].as_array()?;
        Some(alternatives.iter().filter_map(choice).collect())
    }

    /// The documentation of the key, else of its type.
    #[must_use]
    pub fn description(self) -> String {
        let own = string(self.declared, "description");
        let text = if own.is_empty() { string(self.body, "description") } else { own };
        text.replace('\n', " ")
    }

    /// The default; none where the key must be given or is off when left out.
    #[must_use]
    pub fn default(self) -> Option<&'static Value> {
        self.declared.get("default").filter(|default| !default.is_null())
    }

    /// The name of its JSON type; of an optional key, which may also be null, that of its value.
    fn kind(self) -> &'static str {
        let kind = &self.body["type"];
        kind.as_str().or_else(|| kind[0].as_str()).unwrap_or_default()
    }

    /// What is expected, as a noun phrase: "a number above 0".
    #[must_use]
    pub fn type_text(self) -> String {
        if let Some(choices) = self.choices() {
            let names: Vec<_> = choices.iter().map(|choice| choice.name).collect();
            return super::diagnostics::one_of(&names);
        }
        // A ranged number says its range as the description of its type; a bare type has none.
        let named = !std::ptr::eq(self.declared, self.body);
        match self.kind() {
            "object" => "a table".to_owned(),
            _ if named && self.body.get("description").is_some() => string(self.body, "description").to_owned(),
            "array" => self.item().map_or_else(|| "a list".to_owned(), Self::list_text),
            "integer" => "a whole number of at least 0".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            other => format!("a {other}"),
        }
    }

    fn list_text(item: Self) -> String {
        if item.keys().is_some() { "a list of tables".to_owned() } else { format!("a list, each {}", item.type_text()) }
    }

    /// Some value that deserialises: it takes the place of a faulty one, so that the search for faults can go on.
    #[must_use]
    pub fn sample(self) -> Spanned<DeValue<'static>> {
        let table = |entries: Vec<(&'static str, Node)>| {
            let entries = entries.into_iter().map(|(key, node)| (Spanned::new(0..0, key.into()), node.sample()));
            DeValue::Table(entries.collect::<DeTable<'static>>())
        };
        let value = if let Some(first) = self.choices().and_then(|choices| choices.first().copied()) {
            match first.table {
                Some(node) => table(vec![(first.name, node)]),
                None => DeValue::String(first.name.into()),
            }
        } else {
            match self.kind() {
                "object" => table(self.required().into_iter().filter_map(|k| Some((k, self.child(k)?))).collect()),
                "array" => {
                    let mut array = toml::de::DeArray::new();
                    if let Some(item) = self.item() {
                        array.push(item.sample());
                    }
                    DeValue::Array(array)
                }
                "boolean" => DeValue::Boolean(false),
                "string" => DeValue::String("".into()),
                _ => DeValue::parse("1").expect("a number").into_inner(),
            }
        };
        Spanned::new(0..0, value)
    }
}

fn choice(alternative: &'static Value) -> Option<Choice> {
    let description = string(alternative, "description");
    if let Some(name) = alternative["const"].as_str() {
        return Some(Choice { name, description, table: None });
    }
    let (name, table) = alternative["properties"].as_object()?.iter().next()?;
    Some(Choice { name, description, table: Some(Node::new(table)) })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn at(path: &str) -> Node {
        Node::root().at(&path.split('.').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn types_are_said_in_words() {
        assert_eq!(at("ppo.gamma").type_text(), "a number between 0 and 1");
        assert_eq!(at("ppo.value_clip_range").type_text(), "a number above 0");
        assert_eq!(at("ppo.kl_control").type_text(), "`fixed` or `adaptive`");
        assert_eq!(at("seeds").type_text(), "a list, each a whole number of at least 0");
        assert_eq!(at("variants").type_text(), "a list of tables");
        assert_eq!(at("dataset.path").type_text(), "a string");
        assert_eq!(at("launch.slurm.requeue").type_text(), "`true` or `false`");
        assert_eq!(at("launch.slurm.setup").type_text(), "a list, each a line of text");
        assert_eq!(at("launch.stages.ppo.memory").type_text(), "a size such as `512M` or `4G`");
    }

    #[test]
    fn a_path_leads_through_choices_and_lists() {
        assert_eq!(at("variants.0.reward.token.anchor").default(), Some(&Value::from(1.0)));
        assert_eq!(at("variants.reward.token.anchor").default(), Some(&Value::from(1.0)));
        assert!(Node::root().at(&["ppo".into(), "clip_rang".into()]).is_none());
    }

    #[test]
    fn the_sample_recipe_deserialises() {
        let DeValue::Table(table) = Node::root().sample().into_inner() else { panic!("not a table") };
        let recipe = Recipe::deserialize(toml::de::Deserializer::from(Spanned::new(0..0, table))).unwrap();
        assert_eq!(recipe.variants.len(), 1);
    }
}
