//! The texts that make up a recipe: the file, what it `extends`, the `--set` arguments; read, parsed, merged.
//!
//! Each text gets its own range of offsets, so that a span alone says in which text it lies, also after merging.
//! Whether the keys make sense is left to `check`.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Fault, Faults, Hint, Mark, SourceText, suggestion};
use super::schema::Node;
use super::tree::{self, NoEntry};

/// The texts, in the order in which they were named: the recipe, its bases, the `--set` arguments.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    text: Arc<SourceText>,
    /// What relative paths in it are relative to.
    folder: PathBuf,
    /// Offset of its first byte.
    start: usize,
    /// Spaces up to `start`, then the text: parsing this gives spans with the offset in them.
    padded: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File,
    /// A `--set` argument; where its value is no TOML, it is taken as this string.
    Set(Option<String>),
}

impl Sources {
    fn add(&mut self, name: String, text: String, folder: PathBuf, kind: Kind) -> usize {
        // Offset 0 belongs to nothing; one byte stays free after each text, for "at the end".
        let start = self.0.last().map_or(1, |last| last.start + last.text.text.len() + 1);
        let padded = " ".repeat(start) + &text;
        self.0.push(Source { text: Arc::new(SourceText { name, text }), folder, start, padded, kind });
        self.0.len() - 1
    }

    fn holding(&self, span: &Range<usize>) -> Option<&Source> {
        self.0.iter().rev().find(|source| source.start <= span.start)
    }

    /// A mark at `span`; the recipe as a whole, when `span` lies in no text.
    #[must_use]
    pub fn mark(&self, span: &Range<usize>, label: impl Into<String>) -> Option<Mark> {
        let Some(source) = self.holding(span) else {
            return self.0.first().map(|main| Mark::new(main.text.clone(), None, label));
        };
        let (start, end) = (span.start - source.start, span.end - source.start);
        let length = source.text.text.len();
        Some(Mark::new(source.text.clone(), Some(start.min(length)..end.min(length)), label))
    }

    /// What was written at `span`.
    #[must_use]
    pub fn written(&self, span: &Range<usize>) -> &str {
        self.holding(span)
            .and_then(|source| source.text.text.get(span.start - source.start..span.end - source.start))
            .unwrap_or_default()
    }

    /// `path`, written at `span`, as seen from the working directory.
    #[must_use]
    pub fn resolve(&self, path: &Path, span: &Range<usize>) -> PathBuf {
        self.holding(span).map_or_else(|| path.to_owned(), |source| join(&source.folder, path))
    }

    /// Whether `span` lies in a `--set` argument.
    #[must_use]
    pub fn is_set(&self, span: &Range<usize>) -> bool {
        self.holding(span).is_some_and(|source| matches!(source.kind, Kind::Set(_)))
    }

    /// All texts laid over each other, bases first, `--set` arguments last.
    pub fn merged(&self) -> Result<DeTable<'_>, Faults> {
        let (files, sets): (Vec<_>, Vec<_>) = self.0.iter().partition(|source| matches!(source.kind, Kind::File));
        let mut faults = Vec::new();
        let mut merged = DeTable::new();
        for source in files.into_iter().rev().chain(sets) {
            let Ok(mut table) = DeTable::parse(&source.padded).map(Spanned::into_inner) else { continue };
            match &source.kind {
                Kind::File => drop(table.remove("extends")),
                Kind::Set(Some(bare)) => set_leaf(&mut table, bare, source),
                Kind::Set(None) => {}
            }
            let mut unmatched = Vec::new();
            tree::merge(&mut merged, table, Some(Node::root()), &mut unmatched);
            faults.extend(unmatched.iter().map(|no_entry| self.no_entry(no_entry)));
        }
        if faults.is_empty() { Ok(merged) } else { Err(Faults(faults)) }
    }

    fn no_entry(&self, NoEntry { span, list, entry, names }: &NoEntry) -> Fault {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Fault::error(format!("`{list}` has no entry `{entry}`")).at(self.mark(span, suggestion(entry, &names)))
    }
}

/// Reads the recipe at `path` with everything that it extends, and takes in the `--set` arguments.
///
/// # Errors
/// Files that cannot be read, texts that are not TOML, files that extend each other in a circle.
pub fn gather(path: &Path, overrides: &[String]) -> Result<Sources, Faults> {
    let mut sources = Sources::default();
    let mut faults = Vec::new();
    gather_files(&mut sources, path, &mut faults);
    for argument in overrides {
        gather_set(&mut sources, argument, &mut faults);
    }
    if faults.is_empty() { Ok(sources) } else { Err(Faults(faults)) }
}

fn gather_files(sources: &mut Sources, path: &Path, faults: &mut Vec<Fault>) {
    let mut chain: Vec<PathBuf> = Vec::new();
    let mut next = Some((path.to_owned(), None));
    while let Some((path, cited)) = next.take() {
        let cited: Option<Range<usize>> = cited;
        let mark = |label: &str| cited.as_ref().and_then(|span| sources.mark(span, label));
        if let Some(at) = chain.iter().position(|former| same_file(former, &path)) {
            let names = chain[at..].iter().chain([&path]).map(|p| format!("`{}`", p.display()));
            let circle = names.collect::<Vec<_>>().join(" -> ");
            faults.push(
                Fault::error(format!("recipes extend each other in a circle: {circle}")).at(mark("closes the circle")),
            );
            return;
        }
        let text = match fs::read_to_string(&path) {
            // Some editors begin a text with a mark of its encoding.
            Ok(text) => text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text),
            Err(error) => {
                let message = format!("cannot read recipe `{}`: {}", path.display(), reason(&error));
                faults.push(Fault::error(message).at(mark("named here")));
                return;
            }
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let index = sources.add(path.display().to_string(), text, folder, Kind::File);
        let table = match DeTable::parse(&sources.0[index].padded) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                faults.push(syntax(sources, index, &error));
                return;
            }
        };
        if let Some(base) = table.get("extends") {
            let span = base.span();
            match base.get_ref().as_str() {
                Some(name) => next = Some((join(&sources.0[index].folder, Path::new(name)), Some(span))),
                None => faults.push(
                    Fault::error("`extends` has the wrong type")
                        .at(sources.mark(&span, format!("expected a path, found {}", found(base.get_ref(), "")))),
                ),
            }
        }
        chain.push(path);
    }
}

fn gather_set(sources: &mut Sources, argument: &str, faults: &mut Vec<Fault>) {
    let index = sources.add("--set".to_owned(), argument.to_owned(), PathBuf::new(), Kind::Set(None));
    let Err(error) = DeTable::parse(&sources.0[index].padded) else { return };
    let source = &mut sources.0[index];
    if let Some((key, value)) = argument.split_once('=') {
        // `--set dataset.path=foo.json`: no TOML value, so a string. What begins like a value must be one.
        let bare = value.trim();
        let placeholder = format!("{}{key}=0", " ".repeat(source.start));
        if !bare.starts_with(['"', '\'', '[', '{']) && DeTable::parse(&placeholder).is_ok() {
            source.padded = placeholder;
            source.kind = Kind::Set(Some(bare.to_owned()));
            return;
        }
        faults.push(syntax(sources, index, &error));
    } else {
        let span = source.start..source.start + argument.len();
        let fault = Fault::error(format!("expected `KEY=VALUE` after `--set`, found `{argument}`"));
        let hint = Hint::Action("write for example `--set ppo.gamma=0.99`".to_owned());
        faults.push(fault.at(sources.mark(&span, "there is no `=`")).hint(hint));
    }
}

/// Puts the bare string in the place of the placeholder at the end of a `--set` argument's only path.
fn set_leaf(table: &mut DeTable<'_>, bare: &str, source: &Source) {
    let text = &source.text.text;
    let value = text.find('=').map_or(0, |at| text[at + 1..].find(bare).map_or(at + 1, |offset| at + 1 + offset));
    let start = source.start + value;
    let mut current = table;
    loop {
        let Some(key) = current.keys().next().map(|key| key.get_ref().to_string()) else { return };
        let Some(slot) = current.get_mut(key.as_str()) else { return };
        if !slot.get_ref().is_table() {
            *slot = Spanned::new(start..start + bare.len(), DeValue::String(bare.to_owned().into()));
            return;
        }
        let DeValue::Table(inner) = slot.get_mut() else { return };
        current = inner;
    }
}

fn syntax(sources: &Sources, index: usize, error: &toml::de::Error) -> Fault {
    let source = &sources.0[index];
    let end = source.start + source.text.text.len();
    let span = error.span().map_or(end..end, |span| span.start.max(source.start)..span.end.max(source.start));
    let what = if matches!(source.kind, Kind::File) { "file" } else { "`--set` argument" };
    let fault = Fault::error(format!("this {what} is not valid TOML")).at(sources.mark(&span, error.message()));
    let before = source.text.text.get(..span.start - source.start).unwrap_or_default();
    if before.ends_with("..") || before.ends_with('.') && sources.written(&(span.start..end)).starts_with('.') {
        return fault.hint(Hint::Action("a range of seeds stands in quotes, as in `seeds = \"0..10\"`".to_owned()));
    }
    fault
}

/// A value as an error names it: its type, and what was written where that is short.
#[must_use]
pub fn found(value: &DeValue<'_>, written: &str) -> String {
    let kind = match value {
        DeValue::String(_) => "the string",
        DeValue::Integer(_) | DeValue::Float(_) => "the number",
        DeValue::Boolean(_) => "the boolean",
        DeValue::Datetime(_) => "the date",
        DeValue::Array(entries) if entries.is_empty() => return "an empty list".to_owned(),
        DeValue::Array(_) => return "a list".to_owned(),
        DeValue::Table(_) => return "a table".to_owned(),
    };
    if written.is_empty() || written.len() > 40 { kind.replacen("the", "a", 1) } else { format!("{kind} `{written}`") }
}

/// Why a file could not be read, in a few words.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// `path` as seen from where `folder` is seen, without `a/..` in it where that leads to the same file.
fn join(folder: &Path, path: &Path) -> PathBuf {
    let joined = folder.join(path);
    let mut short = PathBuf::new();
    for component in joined.components() {
        match (component, short.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                short.pop();
            }
            _ => short.push(component),
        }
    }
    // Behind a symbolic link `..` is another folder than the text suggests.
    let differs = fs::canonicalize(&joined).is_ok_and(|real| fs::canonicalize(&short).map_or(true, |s| s != real));
    if differs { joined } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_says_in_which_text_it_lies() {
        let mut sources = Sources::default();
        sources.add("a".into(), "x = 1".into(), "one".into(), Kind::File);
        sources.add("b".into(), "y = 'p'".into(), "two".into(), Kind::File);
        let table = sources.merged().unwrap();
        let (place, _) = tree::get(&table, &["y".to_owned()]).unwrap();
        assert_eq!(sources.written(&place.value), "'p'");
        assert_eq!(sources.resolve(Path::new("p"), &place.value), Path::new("two/p"));
    }

    #[test]
    fn paths_lose_their_detours() {
        assert_eq!(join(Path::new("recipes"), Path::new("../datasets/x.toml")), Path::new("datasets/x.toml"));
        assert_eq!(join(Path::new("a/b"), Path::new("../../../x")), Path::new("../x"));
        assert_eq!(join(Path::new("a"), Path::new("/x")), Path::new("/x"));
    }

    #[test]
    fn a_set_value_that_is_no_toml_is_a_string() {
        let mut sources = Sources::default();
        let mut faults = Vec::new();
        for argument in ["dataset.path=data/x.json", "ppo.gamma=0.5", "seeds=[1"] {
            gather_set(&mut sources, argument, &mut faults);
        }
        assert_eq!(faults.len(), 1);
        sources.0.pop();
        let table = sources.merged().unwrap();
        let (place, value) = tree::get(&table, &["dataset".to_owned(), "path".to_owned()]).unwrap();
        assert_eq!((value.as_str(), sources.written(&place.value)), (Some("data/x.json"), "data/x.json"));
        assert!(tree::get(&table, &["ppo".to_owned(), "gamma".to_owned()]).unwrap().1.is_float());
    }
}
