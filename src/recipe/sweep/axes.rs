//! Axes and their levels, as written: what each level lays over the recipe.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::diagnostics::{Fault, Hint, suggestion};
use super::super::experiment::{Axis, Level};
use super::super::schema::Node;
use super::super::source::{Sources, found};
use super::super::tree;
use super::draw::{Draw, Draws};
use super::{Draft, json, recipe_keys};

/// A key's segments with the place where each is written.
type Path<'s> = Vec<Spanned<DeString<'s>>>;

/// Characters of a level's name at most.
const NAME: usize = 40;

/// The name of the axis whose levels are the cases.
const CASE: &str = "case";

/// One axis, with what each of its levels lays over the recipe.
pub struct Factor<'s> {
    /// The dotted key, or the name that the sweep gives it.
    pub key: String,
    /// Whether `key` is a name that the sweep gives.
    pub named: bool,
    pub levels: Vec<Level>,
    overlays: Vec<DeTable<'s>>,
    sampled: bool,
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
    level: Level,
    overlay: DeTable<'s>,
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
        let mut seen = BTreeSet::new();
        for factor in groups.iter().flat_map(|group| &group.factors) {
            if !seen.insert(&factor.key) {
                let span = tree::get(sweep, &["product".to_owned()]).map_or(0..0, |(place, _)| place.key);
                self.fault(&span, format!("two axes vary `{}`", factor.key), "");
            }
        }
        groups.retain(|group| !group.factors.is_empty());
        groups
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
                factors.push(Factor { key, named: false, levels, overlays, sampled: false });
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
        Some(Factor { key: name, named: true, levels, overlays, sampled: false })
    }

    fn drawn<'s>(&mut self, sweep: &DeTable<'s>, axis: &'s super::draw::Axis) -> Factor<'s> {
        let path: Vec<String> = std::iter::once("random".to_owned()).chain(axis.path.iter().cloned()).collect();
        let written = tree::get(sweep, &path);
        let span = written.as_ref().map_or(0..0, |(place, _)| place.value.clone());
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
        }
    }
}

/// The axes of `groups` and `cases`, under the shortest names that tell them apart.
pub fn axes(groups: &[Group], cases: &[Case]) -> Vec<Axis> {
    let factors: Vec<&Factor> = groups.iter().flat_map(|group| &group.factors).collect();
    let name = |factor: &Factor| {
        let parts: Vec<&str> = factor.key.split('.').collect();
        let ends = (1..parts.len()).map(|n| parts[parts.len() - n..].join("."));
        let unique = |end: &String| {
            factors.iter().filter(|other| other.key == *end || other.key.ends_with(&format!(".{end}"))).count() == 1
        };
        if factor.named { factor.key.clone() } else { ends.into_iter().find(unique).unwrap_or(factor.key.clone()) }
    };
    let mut axes: Vec<Axis> = factors
        .iter()
        .map(|factor| Axis { name: name(factor), levels: factor.levels.clone(), sampled: factor.sampled })
        .collect();
    if !cases.is_empty() {
        let levels = cases.iter().map(|case| case.level.clone()).collect();
        axes.push(Axis { name: CASE.to_owned(), levels, sampled: false });
    }
    axes
}

/// The combination with that number; the last group varies fastest.
pub fn combination<'s>(base: &DeTable<'s>, groups: &[Group<'s>], axes: &[Axis], number: usize) -> Draft<'s> {
    let mut table = base.clone();
    let mut levels = Vec::with_capacity(axes.len());
    let mut rest = groups.iter().map(Group::len).product::<usize>();
    let mut number = number;
    for group in groups {
        rest /= group.len();
        let level = number / rest;
        number %= rest;
        for factor in &group.factors {
            lay(&mut table, factor.overlays[level].clone());
            levels.push(Some(level));
        }
    }
    levels.resize(axes.len(), None);
    Draft { name: point_name(axes, &levels), levels, table }
}

/// The points that the cases are.
pub fn case_drafts<'s>(base: &DeTable<'s>, cases: &[Case<'s>], axes: &[Axis]) -> Vec<Draft<'s>> {
    let draft = |(i, case): (usize, &Case<'s>)| {
        let mut table = base.clone();
        lay(&mut table, case.overlay.clone());
        let mut levels = vec![None; axes.len()];
        if let Some(last) = levels.last_mut() {
            *last = Some(i);
        }
        Draft { name: point_name(axes, &levels), levels, table }
    };
    cases.iter().enumerate().map(draft).collect()
}

fn point_name(axes: &[Axis], levels: &[Option<usize>]) -> String {
    let named = axes.iter().zip(levels).filter_map(|(axis, level)| Some((axis, (*level)?)));
    named.map(|(axis, level)| format!("{}={}", axis.name, axis.levels[level].name)).collect::<Vec<_>>().join(" ")
}

/// Lays `over` on `base`, as a recipe lies on what it extends.
pub fn lay<'s>(base: &mut DeTable<'s>, over: DeTable<'s>) {
    let mut unmatched = Vec::new();
    tree::merge(base, over, Some(Node::root()), &mut unmatched);
}

/// A key's segments: `"ppo.gamma"` in quotes is two, like `ppo.gamma` without.
pub fn segments<'s>(key: &Spanned<DeString<'s>>) -> Path<'s> {
    let segment = |part: &str| Spanned::new(key.span(), part.to_owned().into());
    key.get_ref().split('.').map(segment).collect()
}

/// A table that sets `value` at `path` and nothing else.
pub fn nested<'s>(path: &[Spanned<DeString<'s>>], value: Spanned<DeValue<'s>>) -> DeTable<'s> {
    let mut table = DeTable::new();
    let Some((first, rest)) = path.split_first() else { return table };
    // With the span of its key a table only passes through: see `tree::merge`.
    let value = if rest.is_empty() { value } else { Spanned::new(first.span(), DeValue::Table(nested(rest, value))) };
    table.insert(first.clone(), value);
    table
}

fn dotted(path: &[Spanned<DeString<'_>>]) -> String {
    path.iter().map(|segment| segment.get_ref().as_ref()).collect::<Vec<_>>().join(".")
}

/// The tables in the list `key`.
pub fn tables<'t, 's>(sweep: &'t DeTable<'s>, key: &str) -> impl Iterator<Item = &'t DeTable<'s>> {
    let list = sweep.get(key).and_then(|list| list.get_ref().as_array());
    list.into_iter().flatten().filter_map(|entry| entry.get_ref().as_table())
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
