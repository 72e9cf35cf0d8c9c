//! The keys in which the variants of a recipe differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::recipe::{Recipe, Values, Variant};
use crate::report::KeyDifference;

/// Every key below `variants` that is not the same in all of them, in alphabetical order.
pub(super) fn differences(recipe: &Recipe) -> Vec<KeyDifference> {
    let leaves: Vec<Values> = recipe.variants.iter().map(Variant::values).collect();
    let keys: BTreeSet<&String> = leaves.iter().flat_map(BTreeMap::keys).collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let difference = |key: &&String| {
        let values: Vec<Option<String>> = leaves.iter().map(|leaves| leaves.get(*key).map(text)).collect();
        let differs = values.iter().any(|value| value != &values[0]);
        differs.then(|| KeyDifference { key: (*key).clone(), values: values.clone() })
    };
    keys.iter().filter_map(difference).collect()
}
