//! The name of a result: a hash of everything that decides its bytes.
//!
//! Labels, worker counts, paths and log levels decide nothing and are not in it; keeping them out of a stage's config is
//! the plan's duty.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Hex digits of a key: 128 bits, too many to meet by chance.
const DIGITS: usize = 32;

/// A result's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The key of what `stage` at code version `version` computes from `config` and from `inputs`, given by role.
    ///
    /// Inputs of different roles may come in any order; the order within one role counts.
    #[must_use]
    pub fn of(stage: &str, version: u32, config: &Value, inputs: &[(&str, &Self)]) -> Self {
        let mut inputs = inputs.to_vec();
        inputs.sort_by_key(|(role, _)| *role);
        let inputs: Vec<Value> = inputs.iter().map(|(role, key)| serde_json::json!([role, key.as_str()])).collect();
        let identity = serde_json::json!({ "stage": stage, "version": version, "config": config, "inputs": inputs });
        let hash = blake3::hash(canonical_json(&identity).as_bytes());
        Self(hash.to_hex()[..DIGITS].to_owned())
    }

    /// A key as it was printed, or none if `text` is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (text.len() == DIGITS && digits).then(|| Self(text.to_owned()))
    }

    /// All its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first digits, enough for a person.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `value` as JSON with sorted keys and no spaces: equal values give equal bytes, however they were built.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(&mut out, value);
    out
}

fn write_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // serde_json keeps either sorted or insertion order, as cargo features decide: sorting here depends on neither.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (i, (name, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_scalar(out, &Value::from(name.as_str()));
                out.push(':');
                write_canonical(out, item);
            }
            out.push('}');
        }
        scalar => write_scalar(out, scalar),
    }
}

fn write_scalar(out: &mut String, value: &Value) {
    write!(out, "{value}").expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(config: &Value, inputs: &[(&str, &Key)]) -> Key {
        Key::of("sft", 1, config, inputs)
    }

    #[test]
    fn canonical_json_sorts_at_every_depth() {
        let value = json!({ "b": [ { "z": 1, "a": null } ], "a": "\"", "C": 1.0 });
        assert_eq!(canonical_json(&value), r#"{"C":1.0,"a":"\"","b":[{"a":null,"z":1}]}"#);
    }

    #[test]
    fn everything_that_decides_a_result_is_in_its_key() {
        let (a, b) = (key(&json!("a"), &[]), key(&json!("b"), &[]));
        let config = json!({ "steps": 60 });
        let all = [
            key(&config, &[("data", &a)]),
            key(&json!({ "steps": 80 }), &[("data", &a)]),
            key(&json!({ "steps": 60.0 }), &[("data", &a)]),
            key(&config, &[("data", &b)]),
            key(&config, &[("text", &a)]),
            key(&config, &[("data", &a), ("data", &b)]),
            key(&config, &[("data", &b), ("data", &a)]),
            Key::of("sft", 2, &config, &[("data", &a)]),
            Key::of("ppo", 1, &config, &[("data", &a)]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn the_order_of_roles_and_of_config_keys_is_not() {
        let (a, b) = (key(&json!("a"), &[]), key(&json!("b"), &[]));
        let one = key(&json!({ "x": 1, "y": 2 }), &[("data", &a), ("text", &b)]);
        let other = key(&json!({ "y": 2, "x": 1 }), &[("text", &b), ("data", &a)]);
        assert_eq!(one, other);
    }

    proptest! {
        #[test]
        fn canonical_json_reads_back(map in prop::collection::btree_map(".*", any::<i64>(), 0..8)) {
            let value = json!(map);
            let back: Value = serde_json::from_str(&canonical_json(&value)).expect("canonical JSON is JSON");
            prop_assert_eq!(back, value);
        }

        #[test]
        fn a_printed_key_parses(text in ".*") {
            let key = key(&json!(text), &[]);
            prop_assert_eq!(Key::parse(&key.to_string()), Some(key));
            prop_assert_eq!(Key::parse(&text).is_some(), text.len() == 32 && text.bytes().all(|b| b"0123456789abcdef".contains(&b)));
        }
    }
}
