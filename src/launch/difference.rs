//! What tells runs from each other: the keys of their recipes, and the stages that they share.
//!
//! A sweep has several recipes, so that a key has the list of the values that it takes there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Frozen;
use crate::recipe::Recipe;

/// A recipe's values by dotted key; entries of lists of tables go by their `name`.
pub type Values = BTreeMap<String, Value>;

/// A key that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its dotted name.
    pub key: String,
    /// What it is in the first run: one value, or what a sweep lets it take; nothing where the key is not there.
    pub a: Vec<Value>,
    /// The same of the second run.
    pub b: Vec<Value>,
}

/// What differs between two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Keys that differ, in alphabetical order.
    pub changes: Vec<Change>,
    /// Labels of the stages that both have, as the first run calls them.
    pub shared: Vec<String>,
    /// Labels of the stages that only the first run has.
    pub only_a: Vec<String>,
    /// Labels of the stages that only the second run has.
    pub only_b: Vec<String>,
}

/// What differs between the runs `a` and `b`.
#[must_use]
pub fn difference(a: &Frozen, b: &Frozen) -> Difference {
    let (values_a, values_b) = (taken(a), taken(b));
    let keys: BTreeSet<&String> = values_a.keys().chain(values_b.keys()).collect();
    let changes = keys.into_iter().filter_map(|key| {
        let of = |values: &BTreeMap<String, Vec<Value>>| values.get(key).cloned().unwrap_or_default();
        let (a, b) = (of(&values_a), of(&values_b));
        (a != b).then(|| Change { key: key.clone(), a, b })
    });
    let keys_of = |run: &Frozen| run.plan.nodes.iter().map(|node| node.key.clone()).collect::<BTreeSet<_>>();
    let (keys_a, keys_b) = (keys_of(a), keys_of(b));
    let labels = |run: &Frozen, keep: &dyn Fn(&crate::store::Key) -> bool| {
        let nodes = run.plan.nodes.iter().filter(|node| keep(&node.key));
        nodes.map(|node| node.label.clone()).collect::<Vec<_>>()
    };
    Difference {
        changes: changes.collect(),
        shared: labels(a, &|key| keys_b.contains(key)),
        only_a: labels(a, &|key| !keys_b.contains(key)),
        only_b: labels(b, &|key| !keys_a.contains(key)),
    }
}

impl Frozen {
    /// The values of the point with index `point`; a file's value is its path with the first digits of its hash.
    ///
    /// # Panics
    /// When there is no such point.
    #[must_use]
    pub fn values(&self, point: usize) -> Values {
        let mut recipe: Recipe = self.experiment.points[point].recipe.clone();
        for (_, path) in recipe.files_mut() {
            if let Some(digits) = self.files.get(path).and_then(|hash| hash.get(..8)) {
                *path = format!("{} ({digits})", path.display()).into();
            }
        }
        let mut values = Values::new();
        // A recipe came from TOML: its keys are strings and its numbers finite.
        flatten("", &serde_json::to_value(recipe).unwrap_or_default(), &mut values);
        values
    }
}

/// For each key the values that the run's points give it, in the points' order, each once.
fn taken(run: &Frozen) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for point in 0..run.experiment.points.len() {
        for (key, value) in run.values(point) {
            let values = all.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    all
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
