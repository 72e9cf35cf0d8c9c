//! Why a stage would run: compares a plan with the store and with the last plan of the same recipe.
//!
//! Decides nothing: whether a stage runs follows from its key alone, see [`Plan::demand`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::node::{Demand, Node, Plan};
use crate::store::{Error, Key, Lookup, Store, write_atomically};

/// Differences of a config that are spelled out; a stage with more of them is a different stage.
const SPELLED_OUT: usize = 3;

/// What a run would do with a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Nothing: its result is there.
    Cached,
    /// Nothing: its result is not there, but everything that is made from it is.
    Unwanted,
    /// Its work.
    Run {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cached => f.write_str("cached"),
            Self::Unwanted => f.write_str("cached (deleted, but all that is made from it is there)"),
            Self::Run { reason } => write!(f, "run: {reason}"),
        }
    }
}

/// A recipe's last plan, by label.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// What was planned under each label.
    pub nodes: BTreeMap<String, Remembered>,
    /// The labels in the plan's order.
    pub order: Vec<String>,
}

/// A node of an earlier plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// Its kind.
    pub stage: String,
    /// The version of that kind's code.
    pub version: u32,
    /// Its result's name.
    pub key: Key,
    /// Its config.
    pub config: Value,
    /// What it was made from: (role, key).
    pub inputs: Vec<(String, Key)>,
    /// Whether its result was there when the record was written.
    pub done: bool,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The last plan of the recipe `name`; none when there is none that can be read.
#[must_use]
pub fn recall(store: &Store, name: &str) -> Option<Record> {
    serde_json::from_slice(&fs::read(store.recipe_record(name)).ok()?).ok()
}

/// Records `plan` as its recipe's last one, with what is done by now and what failed: (label, error).
///
/// # Errors
/// When the store is not writable.
pub fn remember(plan: &Plan, store: &Store, failed: &[(String, String)]) -> anyhow::Result<()> {
    let nodes = plan.nodes.iter().enumerate().map(|(index, node)| {
        let identity = plan.identity(index);
        let remembered = Remembered {
            done: matches!(store.find(&identity.stage, &identity.key), Lookup::Found(_)),
            error: failed.iter().find(|(label, _)| *label == node.label).map(|(_, error)| error.clone()),
            stage: identity.stage,
            version: identity.version,
            key: identity.key,
            config: identity.config,
            inputs: identity.inputs,
        };
        (node.label.clone(), remembered)
    });
    let order = plan.nodes.iter().map(|node| node.label.clone()).collect();
    let record = Record { nodes: nodes.collect(), order };
    Ok(write_atomically(&store.recipe_record(&plan.recipe), &serde_json::to_vec(&record)?)?)
}

/// What a run of `plan` would do with each node, and why.
#[must_use]
pub fn statuses(plan: &Plan, store: &Store) -> Vec<Status> {
    let lookups: Vec<_> = plan.nodes.iter().map(|node| store.find(node.stage.name(), &node.key)).collect();
    let whole = |index: usize| matches!(lookups[index], Lookup::Found(_));
    let demands = plan.demand(whole);
    let last = recall(store, &plan.recipe);
    let status = |index: usize| match demands[index] {
        Demand::Cached => Status::Cached,
        Demand::Unwanted if whole(index) => Status::Cached,
        Demand::Unwanted => Status::Unwanted,
        Demand::Run => {
            let node = &plan.nodes[index];
            let earlier = last.as_ref().and_then(|record| record.nodes.get(&node.label));
            let reason = match &lookups[index] {
                Lookup::Damaged(Error::Damaged { file, .. }) => format!("its result is damaged: `{file}`"),
                Lookup::Damaged(error) => error.to_string(),
                _ => reason(plan, node, earlier, &demands, store.interrupted_at(&node.key)),
            };
            Status::Run { reason }
        }
    };
    (0..plan.nodes.len()).map(status).collect()
}

fn reason(plan: &Plan, node: &Node, earlier: Option<&Remembered>, demands: &[Demand], step: Option<usize>) -> String {
    let failure = earlier.filter(|earlier| earlier.key == node.key).and_then(|earlier| earlier.error.as_ref());
    let failure = failure.map(|error| error.lines().next().unwrap_or_default());
    match (failure, step) {
        (Some(error), Some(step)) => return format!("failed last time: {error}; will resume at step {step}"),
        (Some(error), None) => return format!("failed last time: {error}"),
        (None, Some(step)) => return format!("interrupted at step {step}, will resume"),
        (None, None) => {}
    }
    let Some(earlier) = earlier else { return "never run".to_owned() };
    if earlier.key == node.key {
        let runs = node.inputs.iter().find(|input| demands[input.node] == Demand::Run);
        return match runs {
            _ if earlier.done => "its result was deleted".to_owned(),
            Some(input) => format!("input `{}` runs", input.role),
            None => "never run".to_owned(),
        };
    }
    let mut changes = Vec::new();
    if earlier.version != node.version {
        changes.push(format!("version of the stage's code changed: {} -> {}", earlier.version, node.version));
    }
    changes.extend(config_changes(&earlier.config, &node.config));
    changes.extend(input_changes(plan, node, earlier, demands));
    if changes.is_empty() { "never run".to_owned() } else { changes.join("; ") }
}

fn config_changes(before: &Value, after: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    diff("", before, after, &mut changes);
    let more = changes.len().saturating_sub(SPELLED_OUT);
    changes.truncate(SPELLED_OUT);
    if more > 0 {
        changes.push(format!("{more} more keys changed"));
    }
    changes
}

fn input_changes(plan: &Plan, node: &Node, earlier: &Remembered, demands: &[Demand]) -> Vec<String> {
    let before = |role: &str, nth: usize| earlier.inputs.iter().filter(|(name, _)| name == role).nth(nth);
    let mut changes = Vec::new();
    for (index, input) in node.inputs.iter().enumerate() {
        let role = &input.role;
        let nth = node.inputs[..index].iter().filter(|other| other.role == *role).count();
        match before(role, nth) {
            None => changes.push(format!("input `{role}` is new")),
            Some((_, key)) if *key == plan.nodes[input.node].key => {}
            Some(_) if demands[input.node] == Demand::Run => changes.push(format!("input `{role}` runs")),
            Some(_) => changes.push(format!("input `{role}` changed")),
        }
    }
    let gone = earlier.inputs.iter().filter(|(role, _)| !node.inputs.iter().any(|input| input.role == *role));
    changes.extend(gone.map(|(role, _)| format!("input `{role}` is gone")));
    let more = changes.len().saturating_sub(SPELLED_OUT);
    changes.truncate(SPELLED_OUT);
    if more > 0 {
        changes.push(format!("{more} more inputs changed"));
    }
    changes
}

/// Every leaf in which the two values differ, by dotted name.
fn diff(name: &str, before: &Value, after: &Value, changes: &mut Vec<String>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<_> = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect();
            keys.sort();
            for key in keys {
                diff(&inner(key), old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), changes);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() && !old.iter().all(Value::is_number) => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                diff(&inner(&i.to_string()), old, new, changes);
            }
        }
        _ if before == after => {}
        (Value::Null, new) => changes.push(format!("`{name}` is new: {}", shortened(new))),
        (old, Value::Null) => changes.push(format!("`{name}` is gone: {}", shortened(old))),
        (old, new) => changes.push(format!("`{name}` changed: {} -> {}", shortened(old), shortened(new))),
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(37).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changes(before: &Value, after: &Value) -> Vec<String> {
        config_changes(before, after)
    }

    #[test]
    fn changes_have_dotted_names_and_both_values() {
        let before = json!({ "steps": 60, "optimizer": { "learning_rate": 0.1, "beta2": 0.9 }, "grid": [1, 2] });
        let after = json!({ "steps": 80, "optimizer": { "learning_rate": 0.2, "beta2": 0.9 }, "grid": [1, 2, 3] });
        assert_eq!(
            changes(&before, &after),
            [
                "`grid` changed: [1,2] -> [1,2,3]",
                "`optimizer.learning_rate` changed: 0.1 -> 0.2",
                "`steps` changed: 60 -> 80"
            ]
        );
    }

    #[test]
    fn keys_come_and_go() {
        assert_eq!(changes(&json!({ "a": 1 }), &json!({ "b": "x" })), ["`a` is gone: 1", "`b` is new: \"x\""]);
    }

    #[test]
    fn many_changes_are_counted() {
        let after = json!({ "a": 1, "b": 1, "c": 1, "d": 1, "e": 1 });
        assert_eq!(changes(&json!({}), &after).last().unwrap(), "2 more keys changed");
    }

    #[test]
    fn equal_configs_have_no_changes() {
        let config = json!({ "a": [ { "b": null } ] });
        assert_eq!(changes(&config, &config.clone()), Vec::<String>::new());
    }
}
