//! A recipe as a flat list: every value under its dotted key, as `--set` would name it.
//!
//! For tables that show in which keys recipes differ. Which recipes are compared is left to `launch` and `stage`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Recipe, Variant};

/// A recipe's values by dotted key; entries of lists of tables go by their `name`.
pub type Values = BTreeMap<String, Value>;

impl Recipe {
    /// Every value, defaults included; a list of numbers or texts is one value, a key that is off has none.
    #[must_use]
    pub fn values(&self) -> Values {
        flat(self)
    }
}

impl Variant {
    /// Every value but its name.
    #[must_use]
    pub fn values(&self) -> Values {
        let mut values = flat(self);
        values.remove("name");
        values
    }
}

fn flat(table: &impl Serialize) -> Values {
    let mut values = Values::new();
    // A recipe came from TOML: its keys are strings and its numbers finite.
    flatten("", &serde_json::to_value(table).unwrap_or_default(), &mut values);
    values
}

fn flatten(name: &str, value: &Value, values: &mut Values) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    let named = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&inner(key), value, values));
        }
        Value::Array(entries) if !entries.is_empty() && entries.iter().all(|entry| named(entry).is_some()) => {
            for entry in entries {
                let fields = entry.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
                let name = inner(&named(entry).unwrap_or_default());
                fields.for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, values));
            }
        }
        Value::Null => {}
        value => {
            values.insert(name.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_of_a_list_go_by_their_names() {
        let mut values = Values::new();
        let recipe = json!({
            "seeds": [0, 1],
            "ppo": { "kl_coef": 0.1, "target": null },
            "judge": { "oracle": {} },
            "variants": [{ "name": "token", "reward": { "token": { "loss": "tlcr" } } }],
        });
        flatten("", &recipe, &mut values);
        let found: Vec<_> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            found,
            ["judge.oracle={}", "ppo.kl_coef=0.1", "seeds=[0,1]", "variants.token.reward.token.loss=\"tlcr\""]
        );
    }
}
