//! Which combinations of a sweep are points: `exclude` and `when`.

use std::cell::Cell;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::diagnostics::Fault;
use super::super::tree;
use super::axes::{Group, Reader};
use super::overlay::{segments, tables};
use super::{Draft, json};

/// What a combination is compared with.
struct Condition {
    /// The axis with a name of its own, or the key's segments.
    subject: Subject,
    /// Values that satisfy it.
    values: Vec<Value>,
    fault: Fault,
}

enum Subject {
    /// The axis with this index.
    Axis(usize),
    Key(Vec<String>),
}

/// An entry of `exclude` or `when`: all of its conditions together.
struct Entry {
    conditions: Vec<Condition>,
    /// Whether any combination met it.
    met: Cell<bool>,
    /// What to say where none does.
    warning: Fault,
}

/// The filters of a sweep.
pub struct Filters {
    exclude: Vec<Entry>,
    when: Vec<Entry>,
    /// For every axis the names of its levels.
    levels: Vec<Vec<String>>,
}

impl Filters {
    /// Reads `[[sweep.exclude]]` and `[[sweep.when]]`.
    pub fn read(reader: &Reader, sweep: &DeTable<'_>, groups: &[Group]) -> Self {
        let factors: Vec<_> = groups.iter().flat_map(|group| &group.factors).collect();
        let named: Vec<Option<&str>> = factors.iter().map(|f| f.named.then_some(f.key.as_str())).collect();
        let read = |key: &str, effect: &str| {
            let entry = |table: &DeTable<'_>| {
                let mut conditions = Vec::new();
                for (key, value) in table {
                    let path = segments(key).iter().map(|part| part.get_ref().to_string()).collect();
                    collect(reader, &named, path, &key.span(), value, &mut conditions);
                }
                let span = table.keys().next().map_or(0..0, Spanned::span);
                let message = format!("no combination of this sweep has these values: nothing is {effect}");
                Entry { conditions, met: Cell::new(false), warning: reader.warning_at(&span, message) }
            };
            tables(sweep, key).map(entry).collect::<Vec<_>>()
        };
        let (exclude, when) = (read("exclude", "left out"), read("when", "kept for them"));
        let levels = factors.iter().map(|f| f.levels.iter().map(|level| level.name.clone()).collect()).collect();
        Self { exclude, when, levels }
    }

    /// Whether `draft` is a point.
    ///
    /// # Errors
    /// A condition on a key that the recipe does not have.
    pub fn keep(&self, draft: &Draft, resolved: &Value) -> Result<bool, Box<Fault>> {
        let any = |entries: &[Entry]| -> Result<bool, Box<Fault>> {
            entries.iter().try_fold(false, |any, entry| Ok(self.all(entry, draft, resolved)? || any))
        };
        let (kept, excluded) = (self.when.is_empty() || any(&self.when)?, any(&self.exclude)?);
        Ok(kept && !excluded)
    }

    /// A warning for each entry that no combination met: a value in it may be mistyped.
    pub fn idle(&self) -> Vec<Fault> {
        let idle = self.exclude.iter().chain(&self.when).filter(|entry| !entry.met.get());
        idle.map(|entry| entry.warning.clone()).collect()
    }

    fn all(&self, entry: &Entry, draft: &Draft, resolved: &Value) -> Result<bool, Box<Fault>> {
        for condition in &entry.conditions {
            let found = match &condition.subject {
                Subject::Axis(axis) => draft.levels[*axis].map(|level| Value::from(self.levels[*axis][level].as_str())),
                Subject::Key(path) => {
                    let value = written(&draft.table, path).or_else(|| default(resolved, path));
                    Some(value.ok_or_else(|| Box::new(condition.fault.clone()))?)
                }
            };
            if !condition.values.iter().any(|value| found.as_ref().is_some_and(|found| equal(found, value))) {
                return Ok(false);
            }
        }
        entry.met.set(true);
        Ok(true)
    }
}

fn collect(
    reader: &Reader,
    named: &[Option<&str>],
    path: Vec<String>,
    span: &std::ops::Range<usize>,
    value: &Spanned<DeValue<'_>>,
    conditions: &mut Vec<Condition>,
) {
    if let DeValue::Table(table) = value.get_ref() {
        for (key, value) in table {
            let more = segments(key).iter().map(|part| part.get_ref().to_string()).collect();
            collect(reader, named, [path.clone(), more].concat(), &key.span(), value, conditions);
        }
        return;
    }
    let values = match value.get_ref() {
        DeValue::Array(alternatives) => alternatives.iter().map(json).collect(),
        _ => vec![json(value)],
    };
    let axis = named.iter().position(|name| name.is_some_and(|name| path == [name]));
    let message = format!("`{}` is no key of this recipe and no axis of this sweep", path.join("."));
    let fault = reader.fault_at(span, message, "");
    conditions.push(Condition { subject: axis.map_or(Subject::Key(path), Subject::Axis), values, fault });
}

/// The value at `path` as it is written; entries of lists by name or number.
fn written(table: &DeTable<'_>, path: &[String]) -> Option<Value> {
    let mut exact = Vec::new();
    for segment in path {
        let entries = (!exact.is_empty()).then(|| tree::get(table, &exact)).flatten();
        let list = entries.and_then(|(_, value)| value.as_array());
        let by_name = list.and_then(|list| {
            list.iter()
                .position(|entry| entry.get_ref().get("name").is_some_and(|n| n.get_ref().as_str() == Some(segment)))
        });
        exact.push(by_name.map_or_else(|| segment.clone(), |index| index.to_string()));
    }
    let (place, value) = tree::get(table, &exact)?;
    Some(json(&Spanned::new(place.value, value.clone())))
}

/// The value at `path` of the recipe with all defaults.
fn default(resolved: &Value, path: &[String]) -> Option<Value> {
    path.iter()
        .try_fold(resolved, |value, segment| match value {
            Value::Array(list) => list
                .iter()
                .find(|entry| entry["name"].as_str() == Some(segment))
                .or_else(|| list.get(segment.parse::<usize>().ok()?)),
            value => value.get(segment),
        })
        .cloned()
}

/// Equal as a person reads it: 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
