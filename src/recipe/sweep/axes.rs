//! Axes and their levels, as written: what each level lays over the recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::diagnostics::{Fault, Hint, suggestion};
use super::super::experiment::Level;
use super::super::source::{Sources, found};
use super::super::tree::{self, Place};
use super::draw::{Draw, Draws};
use super::overlay::{Path, dotted, lay, leaves, nested, segments, tables};
use super::{json, recipe_keys};

/// Characters of a level's name at most.
const NAME: usize = 40;

/// One axis, with what each of its levels lays over the recipe.
pub struct Factor<'s> {
    /// The dotted key, or the name that the sweep gives it.
    pub key: String,
    /// Whether `key` is a name that the sweep gives.
    pub named: bool,
    pub levels: Vec<Level>,
    pub overlays: Vec<DeTable<'s>>,
    pub sampled: bool,
    /// Where it is written.
    span: Range<usize>,
}

/// Axes that vary together.
pub struct Group<'s> {
    pub factors: Vec<Factor<'s>>,
}

impl Group<'_> {
    /// How many settings it has.
    pub fn len(&self) -> usize {
        self.factors.first().map_or(0, |factor| factor.levels.len())
    }
}

/// A point of its own.
pub struct Case<'s> {
    pub level: Level,
    pub overlay: DeTable<'s>,
}

/// Reads a `[sweep]` table and collects what is wrong with it.
pub struct Reader<'a> {
    sources: &'a Sources,
    pub faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub const fn new(sources: &'a Sources) -> Self {
        Self { sources, faults: Vec::new() }
    }

    /// A fault at `span`, not yet noted.
    pub fn fault_at(&self, span: &Range<usize>, message: String, label: impl Into<String>) -> Fault {
        Fault::error(message).at(self.sources.mark(span, label)).hint(Hint::Explain("sweep".to_owned()))
    }

    /// A warning at `span`, not yet noted.
    pub fn warning_at(&self, span: &Range<usize>, message: String) -> Fault {
        Fault::warning(message).at(self.sources.mark(span, ""))
    }

    fn fault(&mut self, span: &Range<usize>, message: String, label: impl Into<String>) {
        self.faults.push(self.fault_at(span, message, label));
    }

    /// The groups of `product`, `zip` and `random`, in this order.
    pub fn groups<'s>(&mut self, sweep: &DeTable<'s>, draws: &'s Draws) -> Vec<Group<'s>> {
        let mut groups = Vec::new();
        if let Some(DeValue::Table(product)) = sweep.get("product").map(Spanned::get_ref) {
            groups.extend(self.factors(product).into_iter().map(|factor| Group { factors: vec![factor] }));
        }
        for zip in tables(sweep, "zip") {
            let factors = self.factors(zip);
            let mut lengths = factors.iter().map(|factor| (factor.key.clone(), factor.levels.len()));
            if let Some((first, length)) = lengths.next()
                && let Some((other, found)) = lengths.find(|(_, other)| *other != length)
            {
                let span = zip.keys().next().map_or(0..0, Spanned::span);
                let message = format!(
                    "axes that are zipped need equally many levels: `{first}` has {length}, `{other}` has {found}"
                );
                self.fault(&span, message, "");
            }
            groups.push(Group { factors });
        }
        let random = draws.axes().map(|axis| self.drawn(sweep, axis)).collect::<Vec<_>>();
        if !random.is_empty() {
            groups.push(Group { factors: random });
        }
        self.conflicts(sweep, &groups);
        groups.retain(|group| !group.factors.is_empty());
        groups
    }

    /// Two axes that set one key: one of them would have levels that no point takes.
    fn conflicts(&mut self, sweep: &DeTable<'_>, groups: &[Group]) {
        let seeds = sweep.contains_key("seeds").then(|| ("seeds".to_owned(), "sweep.seeds".to_owned()));
        let mut owners: BTreeMap<String, String> = seeds.into_iter().collect();
        for factor in groups.iter().flat_map(|group| &group.factors) {
            let keys: BTreeSet<String> = factor.overlays.iter().flat_map(leaves).collect();
            if let Some((key, owner)) = keys.iter().find_map(|key| Some((key, owners.get(key)?))) {
                let message = if factor.key == *owner {
                    format!("two axes vary `{key}`")
                } else {
                    format!("`{key}` is set by `{owner}` and by `{}`", factor.key)
                };
                self.fault(&factor.span, message, "would hide what the other sets");
            }
            for key in keys {
                owners.entry(key).or_insert_with(|| factor.key.clone());
            }
        }
    }

    /// The cases in the order in which they are written.
    pub fn cases<'s>(&mut self, sweep: &DeTable<'s>) -> Vec<Case<'s>> {
        let mut cases: Vec<Case<'s>> = Vec::new();
        for table in tables(sweep, "cases") {
            let mut overlay = DeTable::new();
            let mut name = None;
            for (key, value) in table {
                match (key.get_ref().as_ref(), value.get_ref()) {
                    ("name", DeValue::String(text)) => name = Some(text.to_string()),
                    ("name", other) => {
                        let label = format!("expected a string, found {}", found(other, ""));
                        self.fault(&value.span(), "`name` of a case has the wrong type".to_owned(), label);
                    }
                    _ => lay(&mut overlay, nested(&segments(key), value.clone())),
                }
            }
            if let Some((key, _)) = overlay.get_key_value("seeds").filter(|_| sweep.contains_key("seeds")) {
                self.fault(&key.span(), "`seeds` is set by `sweep.seeds` and by a case".to_owned(), "would be hidden");
            }
            let value = json(&Spanned::new(0..0, DeValue::Table(overlay.clone())));
            let name = name.unwrap_or_else(|| if overlay.is_empty() { "base".to_owned() } else { shown(&value) });
            if cases.iter().any(|case| case.level.name == name) {
                let span = table.keys().next().map_or(0..0, Spanned::span);
                self.fault(&span, format!("two cases are named `{name}`"), "give each case a `name` of its own");
            }
            cases.push(Case { level: Level { name, value }, overlay });
        }
        cases
    }

    fn factors<'s>(&mut self, table: &DeTable<'s>) -> Vec<Factor<'s>> {
        let known = recipe_keys();
        let mut factors = Vec::new();
        for (key, value) in table {
            let path = segments(key);
            let first = path.first().map_or("", |segment| segment.get_ref());
            if known.contains(&first) {
                self.walk(&path, value, &mut factors);
            } else {
                factors.extend(self.named(key, value, &known));
            }
        }
        factors
    }

    /// Axes below a key of the recipe: the first list on every way down holds the levels.
    fn walk<'s>(
        &mut self,
        path: &[Spanned<DeString<'s>>],
        value: &Spanned<DeValue<'s>>,
        factors: &mut Vec<Factor<'s>>,
    ) {
        let key = dotted(path);
        match value.get_ref() {
            DeValue::Table(table) => {
                for (inner, value) in table {
                    self.walk(&[path, &segments(inner)].concat(), value, factors);
                }
            }
            DeValue::Array(entries) => {
                if entries.is_empty() {
                    self.fault(&value.span(), format!("the axis `{key}` has no levels"), "expected at least one value");
                }
                let levels = levels(entries.iter().map(json));
                if let Some(twice) = twice(&levels) {
                    self.fault(&value.span(), format!("the axis `{key}` has the level `{twice}` twice"), "");
                }
                let overlays = entries.iter().map(|entry| nested(path, entry.clone())).collect();
                let span = path.last().map_or(0..0, Spanned::span);
                factors.push(Factor { key, named: false, levels, overlays, sampled: false, span });
            }
            other => {
                let label = format!("expected a list of values, found {}", found(other, ""));
                self.fault(&value.span(), format!("the axis `{key}` has the wrong type"), label);
            }
        }
    }

    /// An axis with a name of its own, and a table for each level.
    fn named<'s>(
        &mut self,
        key: &Spanned<DeString<'s>>,
        value: &Spanned<DeValue<'s>>,
        known: &[&str],
    ) -> Option<Factor<'s>> {
        let name = key.get_ref().to_string();
        let levels = value.get_ref().as_table().filter(|table| table.values().all(|level| level.get_ref().is_table()));
        let Some(table) = levels.filter(|table| !table.is_empty()) else {
            let message =
                format!("`{name}` is no key of a recipe, and as an axis of that name it needs a table for each level");
            self.fault(&key.span(), message, suggestion(&name, known));
            return None;
        };
        let mut levels = Vec::new();
        let mut overlays = Vec::new();
        for (level, keys) in table {
            levels.push(Level { name: level.get_ref().to_string(), value: json(keys) });
            let mut overlay = DeTable::new();
            for (key, value) in keys.get_ref().as_table().into_iter().flatten() {
                lay(&mut overlay, nested(&segments(key), value.clone()));
            }
            overlays.push(overlay);
        }
        Some(Factor { key: name, named: true, levels, overlays, sampled: false, span: key.span() })
    }

    fn drawn<'s>(&mut self, sweep: &DeTable<'s>, axis: &'s super::draw::Axis) -> Factor<'s> {
        let path: Vec<String> = std::iter::once("random".to_owned()).chain(axis.path.iter().cloned()).collect();
        let written = tree::get(sweep, &path);
        let place = written.as_ref().map_or(Place { key: 0..0, value: 0..0 }, |(place, _)| place.clone());
        let span = place.value;
        if let Some(message) = &axis.fault {
            self.fault(&span, format!("the distribution of `{}` is none: {message}", axis.path.join(".")), "");
        }
        let choices = written.and_then(|(_, value)| value.get("choice")).and_then(|list| list.get_ref().as_array());
        let value = |draw: &'s Draw| match draw {
            Draw::Number(text) => DeValue::parse(text).map(|value| Spanned::new(span.clone(), value.into_inner())).ok(),
            Draw::Choice(index) => choices.and_then(|choices| choices.get(*index)).cloned(),
        };
        let values: Vec<_> = axis.draws.iter().filter_map(value).collect();
        let path: Path<'s> = axis.path.iter().map(|key| Spanned::new(span.clone(), key.as_str().into())).collect();
        Factor {
            key: axis.path.join("."),
            named: false,
            // Equal draws of a choice are one level each: a draw is a point.
            levels: values.iter().map(json).map(|value| Level { name: shown(&value), value }).collect(),
            overlays: values.into_iter().map(|value| nested(&path, value)).collect(),
            sampled: true,
            span: place.key,
        }
    }
}

/// Levels with these values; long values that look alike when shortened are numbered.
fn levels(values: impl Iterator<Item = Value>) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for value in values {
        let name = shown(&value);
        let alike = levels.iter().filter(|other| other.name.starts_with(&name) && other.value != value).count();
        let name = if alike > 0 && name.ends_with('…') { format!("{name} ({})", alike + 1) } else { name };
        levels.push(Level { name, value });
    }
    levels
}

fn twice(levels: &[Level]) -> Option<&str> {
    let twice = levels.iter().enumerate().find(|(i, level)| levels[..*i].iter().any(|other| other.name == level.name));
    twice.map(|(_, level)| level.name.as_str())
}

/// A value as a level's name: words and numbers as they are, a table as `loss=tlcr,...`.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => {
            let mut leaves = Vec::new();
            collect_leaves("", value, &mut leaves);
            leaves.join(",")
        }
        other => other.to_string(),
    };
    if text.chars().count() <= NAME { text } else { text.chars().take(NAME - 1).chain(['…']).collect() }
}

/// Leaves under the last segment of their keys: what is long is the way there.
fn collect_leaves(key: &str, value: &Value, leaves: &mut Vec<String>) {
    match value {
        Value::Object(table) if table.is_empty() => leaves.push(key.to_owned()),
        Value::Object(table) => table.iter().for_each(|(inner, value)| collect_leaves(inner, value, leaves)),
        Value::String(text) => leaves.push(format!("{key}={text}")),
        other => leaves.push(format!("{key}={other}")),
    }
}
