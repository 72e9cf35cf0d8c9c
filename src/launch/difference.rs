//! What tells runs from each other: the keys of their recipes, and the stages that they share.
//!
//! A sweep has several recipes, so that a key has the list of the values that it takes there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Frozen;
use crate::recipe::{Recipe, Values};

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
        recipe.values()
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
