//! From merged tables to a `Recipe`: finds every unknown key, missing key, wrong choice, wrong type and bad range.
//!
//! A faulty value is reported and then gives way to its default, or to a sample where it has none, so that the search goes on
//! and no fault is reported twice.
//! Rules across keys are left to `rules`.

use std::fs::Metadata;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Recipe;
use super::diagnostics::{Fault, Hint, did_you_mean, one_of, suggestion};
use super::schema::{Choice, Node};
use super::source::{Sources, found};
use super::tree::{self, KeyPath, Place};
use crate::data::Format;
use crate::data::records::files;

/// A check in progress.
pub struct Check<'s> {
    sources: &'s Sources,
    table: DeTable<'s>,
    /// Faults with the place they sort by.
    faults: Vec<(usize, Fault)>,
    /// Paths whose values were faulty.
    replaced: Vec<KeyPath>,
}

impl<'s> Check<'s> {
    /// Checks `table`; the recipe is missing only where a value defies replacement.
    #[must_use]
    pub fn run(sources: &'s Sources, mut table: DeTable<'s>) -> (Self, Option<Recipe>) {
        let mut check = Self { sources, table: DeTable::new(), faults: Vec::new(), replaced: Vec::new() };
        check.table_of(&mut table, 0..0, Node::root(), &mut KeyPath::new());
        check.table = table;
        let recipe = check.values();
        (check, recipe)
    }

    /// The texts behind the tables.
    #[must_use]
    pub const fn sources(&self) -> &'s Sources {
        self.sources
    }

    /// Where `path` stands, else where the nearest table around it stands; 0..0 for the recipe as a whole.
    #[must_use]
    pub fn place(&self, path: &[String]) -> Place {
        let nearest = (1..=path.len()).rev().find_map(|n| tree::get(&self.table, &path[..n]));
        nearest.map_or(Place { key: 0..0, value: 0..0 }, |(place, _)| place)
    }

    /// Whether `path` stands in the recipe as written.
    #[must_use]
    pub fn is_written(&self, path: &[String]) -> bool {
        tree::get(&self.table, path).is_some()
    }

    /// Whether the value at `path`, or a part or the whole of it, was faulty.
    #[must_use]
    pub fn is_replaced(&self, path: &[String]) -> bool {
        self.replaced.iter().any(|other| other.starts_with(path) || path.starts_with(other))
    }

    /// Adds a fault that was found at `place`.
    pub fn add(&mut self, place: &Place, fault: Fault) {
        self.faults.push((place.key.start, fault));
    }

    /// All faults in the order of their places.
    #[must_use]
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|(start, _)| *start);
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }

    /// Makes every `path` key relative to the working directory and reports those that name no file.
    pub fn resolve_paths(&mut self, recipe: &mut Recipe) {
        let rows = recipe.dataset.format == Format::Records;
        let is = |path: &Path, what: &str, kind: fn(&Metadata) -> bool| match std::fs::metadata(path) {
            Ok(data) if kind(&data) => None,
            Ok(_) => Some(format!("it is no {what}")),
            Err(error) => Some(super::source::reason(&error)),
        };
        let folders: Vec<String> = recipe.folders_mut().into_iter().map(|(key, _)| key).collect();
        for key in folders {
            self.resolve(&key, recipe.folders_mut(), |path| is(path, "folder", Metadata::is_dir));
        }
        let files: Vec<String> = recipe.files_mut().into_iter().map(|(key, _)| key).collect();
        for key in files {
            self.resolve(&key, recipe.files_mut(), |path| {
                if rows && key == "dataset.path" && !path.is_file() {
                    return files::expand(path).err().map(|error| error.to_string());
                }
                is(path, "file", Metadata::is_file)
            });
        }
    }

    fn resolve(&mut self, key: &str, slots: Vec<(String, &mut PathBuf)>, refuse: impl Fn(&Path) -> Option<String>) {
        for (_, slot) in slots.into_iter().filter(|(name, _)| *name == key) {
            let path = split(key);
            if self.is_replaced(&path) {
                continue;
            }
            let place = self.place(&path);
            *slot = self.sources.resolve(slot, &place.value);
            let Some(error) = refuse(slot) else { continue };
            let fault = Fault::error(format!("cannot read `{}`: {error}", slot.display()));
            let base =
                if self.sources.is_set(&place.value) { "the working directory" } else { "the file it stands in" };
            let label = format!("paths are relative to {base}");
            self.add(&place, fault.at(self.sources.mark(&place.value, label)));
        }
    }

    fn report(&mut self, span: &Range<usize>, message: String, label: String, path: &[String]) {
        let mark = self.sources.mark(span, label);
        let fault = Fault::error(message).at(mark).hint(Hint::Explain(explained(path)));
        self.faults.push((span.start, fault));
    }

    fn replace(&mut self, value: &mut Spanned<DeValue<'s>>, node: Node, path: &[String]) {
        *value = node.sample();
        self.replaced.push(path.to_vec());
    }

    /// Unknown and missing keys of one table, then its values.
    fn table_of(&mut self, table: &mut DeTable<'s>, span: Range<usize>, node: Node, path: &mut KeyPath) {
        let known = node.keys().unwrap_or_default();
        let mut meant = Vec::new();
        let is_unknown =
            |key: &&Spanned<toml::de::DeString<'s>>| !node.is_open() && !known.contains(&key.get_ref().as_ref());
        let unknown: Vec<_> = table.keys().filter(is_unknown).cloned().collect();
        for key in unknown {
            let word = key.get_ref();
            meant.extend(did_you_mean(word, known.iter().copied()));
            let message = format!("unknown key `{word}` in {}", table_name(path));
            let label = out_of_scope(word).map_or_else(|| suggestion(word, &known), str::to_owned);
            self.report(&key.span(), message, label, path);
            table.remove(word.as_ref());
        }
        for key in node.required() {
            let Some(child) = node.child(key).filter(|_| !table.contains_key(key)) else { continue };
            path.push(key.to_owned());
            if !meant.contains(&key) {
                let parent = &path[..path.len() - 1];
                let (message, label) = missing(path, parent, child);
                self.report(&span, message, label, parent);
            }
            table.insert(Spanned::new(0..0, key.into()), child.sample());
            self.replaced.push(path.clone());
            path.pop();
        }
        for (key, value) in table.iter_mut() {
            let Some(child) = node.child(key.get_ref()) else { continue };
            path.push(key.get_ref().to_string());
            self.value_of(value, child, path);
            path.pop();
        }
    }

    fn value_of(&mut self, value: &mut Spanned<DeValue<'s>>, node: Node, path: &mut KeyPath) {
        if self.replaced.contains(path) {
            return;
        }
        let span = value.span();
        if let Some(choices) = node.choices() {
            self.choice_of(value, node, &choices, path);
            return;
        }
        match value.get_mut() {
            DeValue::Table(table) if node.keys().is_some() => self.table_of(table, span, node, path),
            // serde would take a list for a table, key by key.
            DeValue::Array(_) if node.keys().is_some() => {
                let message = format!("{} has the wrong type", key_name(path));
                self.report(&span, message, "expected a table, found a list".to_owned(), path);
                self.replace(value, node, path);
            }
            DeValue::Array(entries) => {
                let Some(item) = node.item() else { return };
                for (i, entry) in entries.iter_mut().enumerate() {
                    path.push(i.to_string());
                    self.value_of(entry, item, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn choice_of(&mut self, value: &mut Spanned<DeValue<'s>>, node: Node, choices: &[Choice], path: &mut KeyPath) {
        let names: Vec<_> = choices.iter().map(|choice| choice.name).collect();
        let span = value.span();
        let chosen = |word: &str| choices.iter().find(|choice| choice.name == word).copied();
        let (span, message, label) = match value.get_mut() {
            DeValue::String(word) => match chosen(word) {
                Some(Choice { table: None, .. }) => return,
                Some(choice) => {
                    let header = table_name(&[path.as_slice(), &[choice.name.to_owned()]].concat());
                    (span, format!("`{word}` is a table, not a word"), format!("write {header} instead"))
                }
                None => (span, format!("unknown choice `{word}` for {}", key_name(path)), suggestion(word, &names)),
            },
            DeValue::Table(table) => {
                let words: Vec<_> = table.keys().map(|key| key.get_ref().to_string()).collect();
                let [word] = words.as_slice() else {
                    let found = if words.is_empty() { "none".to_owned() } else { words.join("`, `") };
                    let label = format!("expected {}, found `{found}`", one_of(&names)).replace("`none`", "none");
                    self.report(&span, format!("{} takes exactly one choice", table_name(path)), label, path);
                    self.replace(value, node, path);
                    return;
                };
                let key = table.keys().next().map_or(span.clone(), Spanned::span);
                match chosen(word) {
                    Some(Choice { table: Some(inner), .. }) => {
                        path.push(word.clone());
                        if let Some(value) = table.get_mut(word.as_str()) {
                            self.value_of(value, inner, path);
                        }
                        path.pop();
                        return;
                    }
                    Some(_) => (key, format!("`{word}` is a word, not a table"), format!("write `\"{word}\"`")),
                    None => {
                        (key, format!("unknown choice `{word}` for {}", table_name(path)), suggestion(word, &names))
                    }
                }
            }
            _ => return,
        };
        self.report(&span, message, label, path);
        self.replace(value, node, path);
    }

    /// Types and ranges: serde is the judge; what it rejects is replaced until it rejects nothing.
    fn values(&mut self) -> Option<Recipe> {
        loop {
            let error = match deserialized(&self.table) {
                Ok(recipe) => return Some(recipe),
                Err(error) => error,
            };
            let mut path = tree::find(&self.table, &error.span().unwrap_or_default()).unwrap_or_default();
            path.extend(self.entry_at_fault(&path, &error));
            let span = tree::get(&self.table, &path).map_or(0..0, |(place, _)| place.value);
            let node = Node::root().at(&path);
            let (message, label) = self.rejected(&path, &span, node, &error);
            self.report(&span, message, label, &path[..path.len().saturating_sub(1)]);
            if self.replaced.contains(&path) {
                return None;
            }
            // A key that can be left out has a default, which is no worse than a sample and always in range.
            if let Some(node) = node.filter(|_| is_required(&path)) {
                *tree::get_mut(&mut self.table, &path)? = node.sample();
            } else if !tree::remove(&mut self.table, &path) {
                return None;
            }
            self.replaced.push(path);
        }
    }

    /// serde names a list when an entry is out of range: the entry is the last of the shortest beginning of the list that
    /// fails in the same way.
    fn entry_at_fault(&self, path: &[String], error: &toml::de::Error) -> Option<String> {
        let entries = tree::get(&self.table, path)?.1.as_array()?;
        (1..=entries.len()).find_map(|n| {
            let mut shorter = DeArray::new();
            entries.iter().take(n).for_each(|entry| shorter.push(entry.clone()));
            let mut table = self.table.clone();
            *tree::get_mut(&mut table, path)?.get_mut() = DeValue::Array(shorter);
            let same = deserialized(&table).is_err_and(|other| other == *error);
            same.then(|| (n - 1).to_string()).filter(|_| error.message().starts_with("expected "))
        })
    }

    fn rejected(
        &self,
        path: &[String],
        span: &Range<usize>,
        node: Option<Node>,
        error: &toml::de::Error,
    ) -> (String, String) {
        let message = error.message();
        let (Some((_, value)), Some(node)) = (tree::get(&self.table, path), node) else {
            return ("the recipe cannot be read".to_owned(), message.to_owned());
        };
        let what = if message.starts_with("invalid type") || message.starts_with("wanted ") {
            "has the wrong type"
        } else if value.is_str() {
            "has an invalid value"
        } else {
            "is out of range"
        };
        let label = if message.starts_with("expected ") {
            message.to_owned()
        } else {
            format!("expected {}, found {}", node.type_text(), found(value, self.sources.written(span)))
        };
        (format!("{} {what}", key_name(path)), label)
    }
}

/// Whether something has to stand at `path`: a key without a default, an entry of a list, the one key of a choice.
fn is_required(path: &[String]) -> bool {
    let Some((key, parent)) = path.split_last() else { return false };
    let parent = Node::root().at(parent);
    parent.is_some_and(|node| {
        node.item().is_some() || node.choices().is_some() || node.required().contains(&key.as_str())
    })
}

fn deserialized(table: &DeTable<'_>) -> Result<Recipe, toml::de::Error> {
    Recipe::deserialize(toml::de::Deserializer::from(Spanned::new(0..0, table.clone())))
}

fn missing(path: &[String], parent: &[String], child: Node) -> (String, String) {
    let key = path.last().map(String::as_str).unwrap_or_default();
    let is_table = child.keys().is_some() || child.choices().is_some_and(|all| all.iter().all(|c| c.table.is_some()));
    if parent.is_empty() && is_table {
        return (format!("missing table `[{key}]`"), String::new());
    }
    if parent.is_empty() {
        return (format!("missing key `{key}`: expected {}", child.type_text()), String::new());
    }
    let label = format!("needs `{key}`: {}", child.type_text());
    (format!("missing key `{key}` in {}", table_name(parent)), label)
}

/// Why there is no such key, where people look for it.
fn out_of_scope(word: &str) -> Option<&'static str> {
    let quantised =
        ["load_in_4bit", "load_in_8bit", "qlora", "quantization", "quantization_config", "bits", "bnb_4bit_quant_type"];
    quantised.contains(&word).then_some(
        "QLoRA is out of scope: a base is kept in `f32`; `[policy.lora]` without quantisation trains adapters on it",
    )
}

/// A dotted key as a path.
#[must_use]
pub fn split(key: &str) -> KeyPath {
    key.split('.').map(str::to_owned).collect()
}

/// A table as a recipe writes its header: `` `[ppo.watch]` ``.
#[must_use]
pub fn table_name(path: &[String]) -> String {
    let is_entry = path.last().is_some_and(|last| is_number(last));
    let keys: Vec<_> = path.iter().filter(|key| !is_number(key)).map(String::as_str).collect();
    match keys.join(".") {
        name if name.is_empty() => "the recipe".to_owned(),
        name if is_entry => format!("`[[{name}]]`"),
        name => format!("`[{name}]`"),
    }
}

fn key_name(path: &[String]) -> String {
    let Some((last, parent)) = path.split_last() else { return "the recipe".to_owned() };
    let (key, parent) = match parent.split_last() {
        Some((name, rest)) if is_number(last) => (format!("`{name}[{last}]`"), rest),
        _ => (format!("`{last}`"), parent),
    };
    if parent.is_empty() { key } else { format!("{key} in {}", table_name(parent)) }
}

fn explained(path: &[String]) -> String {
    path.iter().filter(|key| !is_number(key)).map(String::as_str).collect::<Vec<_>>().join(".")
}

fn is_number(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_digit())
}
