//! How faults in a recipe are shown: file, line, column, caret, and what to do.
//!
//! Knows nothing of recipes: a fault is a message with marks on source texts. What is a fault, `check` and `rules` say.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use strsim::damerau_levenshtein;

/// A text that faults can point into: a file, or one `--set` argument.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The file as it was named, or `--set`.
    pub name: String,
    /// Its whole content.
    pub text: String,
}

/// A place in a source text.
#[derive(Clone, Debug)]
pub struct Mark {
    source: Arc<SourceText>,
    span: Option<Range<usize>>,
    label: String,
}

impl Mark {
    /// A mark under the bytes `span` of `source`; `None` names the source as a whole.
    #[must_use]
    pub fn new(source: Arc<SourceText>, span: Option<Range<usize>>, label: impl Into<String>) -> Self {
        Self { source, span, label: label.into() }
    }
}

/// Whether a fault stops the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing runs.
    Error,
    /// A person should look at it; everything runs.
    Warning,
}

/// What to do about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Read what `runner explain` says of this key.
    Explain(String),
    /// A sentence.
    Action(String),
}

/// One thing that is wrong, with the places concerned: the first is the culprit, the others are context.
#[derive(Clone, Debug)]
pub struct Fault {
    severity: Severity,
    message: String,
    marks: Vec<Mark>,
    hint: Option<Hint>,
}

impl Fault {
    /// A fault that stops the command.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), marks: Vec::new(), hint: None }
    }

    /// A fault that stops nothing.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// The same fault with further places.
    #[must_use]
    pub fn at(mut self, marks: impl IntoIterator<Item = Mark>) -> Self {
        self.marks.extend(marks);
        self
    }

    /// The same fault with what to do.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same fault with what to do, where it does not say so yet.
    #[must_use]
    pub fn or_hint(mut self, hint: Hint) -> Self {
        self.hint.get_or_insert(hint);
        self
    }

    /// The message without its places.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it stops the command.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        let mut shown: Vec<&Arc<SourceText>> = Vec::new();
        for mark in &self.marks {
            if shown.iter().any(|source| Arc::ptr_eq(source, &mark.source)) {
                continue;
            }
            shown.push(&mark.source);
            group = match self.snippet(&mark.source) {
                Some(snippet) => group.element(snippet),
                None => group.element(Origin::path(mark.source.name.as_str())),
            };
        }
        group
    }

    /// All marks that lie in `source`; none where only the source as a whole is meant.
    fn snippet<'a>(&'a self, source: &'a Arc<SourceText>) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let annotations: Vec<_> = self
            .marks
            .iter()
            .enumerate()
            .filter(|(_, mark)| Arc::ptr_eq(&mark.source, source))
            .filter_map(|(i, mark)| {
                let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let annotation = kind.span(mark.span.clone()?);
                Some(if mark.label.is_empty() { annotation } else { annotation.label(mark.label.as_str()) })
            })
            .collect();
        if annotations.is_empty() {
            return None;
        }
        Some(Snippet::source(source.text.as_str()).path(source.name.as_str()).annotations(annotations))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(std::slice::from_ref(self), false))
    }
}

/// Faults that were found together, in the order of their places.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A single fault.
    #[must_use]
    pub fn one(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.0, false))
    }
}

impl std::error::Error for Faults {}

/// The faults as text for a terminal, a blank line between any two, at most one `hint:` at the end.
#[must_use]
pub fn render(faults: &[Fault], color: bool) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut blocks: Vec<String> = faults
        .iter()
        .map(|fault| {
            let text = renderer.render(&[fault.group()]);
            // Spaces at line ends say nothing and make snapshots fragile.
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        })
        .collect();
    blocks.extend(hint_line(faults));
    blocks.join("\n\n") + "\n"
}

fn hint_line(faults: &[Fault]) -> Option<String> {
    let mut keys: Vec<&str> = Vec::new();
    let mut action = None;
    for hint in faults.iter().filter_map(|fault| fault.hint.as_ref()) {
        match hint {
            Hint::Explain(key) if !keys.contains(&key.as_str()) => keys.push(key),
            Hint::Explain(_) => {}
            Hint::Action(sentence) => action = action.or(Some(sentence)),
        }
    }
    let text = match (keys.as_slice(), action) {
        ([], None) => return None,
        ([], Some(sentence)) => sentence.clone(),
        ([key], _) => format!("`{}` lists every key with its default", command(key)),
        ([first, second], _) => {
            format!("`{}` and `{}` list every key with its default", command(first), command(second))
        }
        _ => "`runner explain KEY` lists every key of a table with its default".to_owned(),
    };
    Some(format!("hint: {text}"))
}

fn command(key: &str) -> String {
    format!("runner explain {key}").trim_end().to_owned()
}

/// The candidate that was probably meant by `word`: at most a third of its letters away, and nearer than any
/// other.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut near: Vec<_> = candidates
        .into_iter()
        .map(|candidate| (damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    match near.as_slice() {
        [(best, _), (second, _), ..] if best == second => None,
        [(_, candidate), ..] => Some(candidate),
        [] => None,
    }
}

/// What to write under a wrong word: the probable candidate, else all of them when they are ten or fewer.
#[must_use]
pub fn suggestion(word: &str, candidates: &[&str]) -> String {
    match did_you_mean(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => "no key is expected here".to_owned(),
        None if candidates.len() <= 10 => format!("expected {}", one_of(candidates)),
        None => "not a key of this table".to_owned(),
    }
}

/// "`a`", "`a` or `b`", "one of `a`, `b`, `c`".
#[must_use]
pub fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [a, b] => format!("{a} or {b}"),
        [only] => only.clone(),
        _ => format!("one of {}", quoted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shown_as_the_house_shows_messages() {
        let text = "[ppo]\nclip_rang = 0.2\n".to_owned();
        let source = Arc::new(SourceText { name: "recipes/x.toml".to_owned(), text });
        let fault = Fault::error("unknown key `clip_rang` in `[ppo]`")
            .at([Mark::new(source, Some(6..15), "did you mean `clip_range`?")])
            .hint(Hint::Explain("ppo".to_owned()));
        let expected = "\
error: unknown key `clip_rang` in `[ppo]`
 --> recipes/x.toml:2:1
  |
2 | clip_rang = 0.2
  | ^^^^^^^^^ did you mean `clip_range`?

hint: `runner explain ppo` lists every key with its default
";
        assert_eq!(Faults::one(fault).to_string(), expected);
    }

    #[test]
    fn a_word_is_corrected_only_when_it_is_near() {
        assert_eq!(did_you_mean("clip_rang", ["gamma", "clip_range"]), Some("clip_range"));
        assert_eq!(did_you_mean("tokne", ["token", "word"]), Some("token"));
        assert_eq!(did_you_mean("k4", ["k1", "k2", "k3"]), None);
        assert_eq!(did_you_mean("temperature", ["gamma", "clip_range"]), None);
    }

    #[test]
    fn many_tables_still_give_one_hint() {
        let faults: Vec<_> = ["a", "b", "c", "a"].map(|key| Fault::error("x").hint(Hint::Explain(key.into()))).into();
        assert_eq!(render(&faults, false).matches("hint:").count(), 1);
        assert!(render(&faults[..2], false).contains("`runner explain a` and `runner explain b`"));
    }
}
