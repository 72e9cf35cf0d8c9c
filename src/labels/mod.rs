//! Edit diff to token labels: which tokens an edit deleted, substituted, added or kept.
//!
//! Works on ids (or words); who made the edit is `data`'s concern, what a label is worth `reward`'s.

mod diff;
mod hunks;
mod reliability;
mod render;
pub mod scores;
pub mod spans;
mod words;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use diff::{Diff, diff};
pub use hunks::{Hunk, Span, hunks};
pub use reliability::{Matches, alpha};
pub use render::render;
pub use words::{Agreement, Word, agreement, diff_words, error_words, word_pieces, words};

use crate::data::{Edit, ErrorSpan, Prompt, Response};
use crate::text::Tokenizer;

/// How an edit becomes token labels.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// What the diff aligns.
    pub unit: Unit,
}

/// What the diff aligns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Token ids.
    #[default]
    Token,
    /// Maximal runs of non-white-space; a word's label goes to every token that overlaps it.
    Word,
}

/// What an edit did to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    /// Unchanged (both sides).
    U,
    /// Deleted (original side only).
    D,
    /// Substituted (both sides, paired in order).
    S,
    /// Added (edited side only).
    A,
}

impl Label {
    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::U => 'U',
            Self::D => 'D',
            Self::S => 'S',
            Self::A => 'A',
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

impl TryFrom<char> for Label {
    type Error = String;

    fn try_from(letter: char) -> Result<Self, String> {
        match letter {
            'U' => Ok(Self::U),
            'D' => Ok(Self::D),
            'S' => Ok(Self::S),
            'A' => Ok(Self::A),
            other => Err(format!("expected a label `U`, `D`, `S` or `A`, found `{other}`")),
        }
    }
}

/// Labels as a string of their letters.
#[must_use]
pub fn spell(labels: &[Label]) -> String {
    labels.iter().map(|label| label.letter()).collect()
}

/// Serialises labels as one string of letters: `#[serde(with = "letters")]`.
pub mod letters {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Label, spell};

    /// Writes the letters.
    pub fn serialize<S: Serializer>(labels: &[Label], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&spell(labels))
    }

    /// Reads the letters.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Label>, D::Error> {
        let letters = String::deserialize(deserializer)?;
        letters.chars().map(|letter| Label::try_from(letter).map_err(D::Error::custom)).collect()
    }
}

/// The labels of both sides of an edit, one a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLabels {
    /// One of U, D, S for every original token.
    #[serde(with = "letters")]
    pub original: Vec<Label>,
    /// One of U, A, S for every edited token.
    #[serde(with = "letters")]
    pub edited: Vec<Label>,
}

/// An edit as reward models see it: ids and labels, end-of-sequence tokens included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledEdit {
    /// What was asked.
    pub prompt: Prompt,
    /// Token ids before the edit.
    pub original_ids: Vec<u32>,
    /// Token ids after the edit.
    pub edited_ids: Vec<u32>,
    /// One label for each of `original_ids`.
    #[serde(with = "letters")]
    pub original_labels: Vec<Label>,
    /// One label for each of `edited_ids`.
    #[serde(with = "letters")]
    pub edited_labels: Vec<Label>,
    /// Whether a person marked the token as erroneous, one for each of `original_ids`; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub original_errors: Vec<bool>,
    /// Changes in units of the diff (tokens or words).
    pub distance: usize,
}

impl LabelledEdit {
    /// Cuts both sides, ids with labels, to `max_tokens`; a side that is cut ends without end-of-sequence token, as a
    /// response that was sampled up to the limit does. `distance` stays that of the whole edit.
    pub fn truncate(&mut self, max_tokens: usize) {
        self.original_ids.truncate(max_tokens);
        self.original_labels.truncate(max_tokens);
        self.original_errors.truncate(max_tokens);
        self.edited_ids.truncate(max_tokens);
        self.edited_labels.truncate(max_tokens);
    }
}

/// Labels the tokens of both sides of `edit`.
///
/// A finished response ends with the end-of-sequence id, which is an item of the diff (a word of its own in the word
/// unit): an edit that finishes an unfinished response adds it.
#[must_use]
pub fn label_edit(edit: &Edit, tokenizer: &Tokenizer, unit: Unit) -> LabelledEdit {
    let original_ids = response_ids(&edit.original, tokenizer);
    let edited_ids = response_ids(&edit.edited, tokenizer);
    let (distance, labels) = label_ids(&original_ids, &edited_ids, tokenizer, unit);
    let original_errors = if edit.error_spans.is_empty() {
        Vec::new()
    } else {
        error_tokens(&edit.original.text, &edit.error_spans, &original_ids, tokenizer).unwrap_or_default()
    };
    LabelledEdit {
        prompt: edit.prompt.clone(),
        original_ids,
        edited_ids,
        original_labels: labels.original,
        edited_labels: labels.edited,
        original_errors,
        distance,
    }
}

/// Which of the tokens `ids` of `text` overlap a word of one of `spans`; an empty span at the text's end is about the last
/// token. None where the tokenizer sees other words than the text has.
fn error_tokens(text: &str, spans: &[ErrorSpan], ids: &[u32], tokenizer: &Tokenizer) -> Option<Vec<bool>> {
    let (worded, errors) = (Worded::new(ids, tokenizer), error_words(text, spans));
    if words(&worded.text).len() != errors.len() {
        return None;
    }
    let marked = |error: bool| if error { Label::S } else { Label::U };
    let marks: Vec<Label> = errors.into_iter().map(marked).chain(worded.finished.then_some(Label::U)).collect();
    let mut tokens: Vec<bool> = worded.spread(&marks).into_iter().map(|mark| mark != Label::U).collect();
    let end = text.chars().count();
    if let (Some(last), true) = (tokens.last_mut(), spans.iter().any(|error| error.span == [end, end])) {
        *last = true;
    }
    Some(tokens)
}

/// Distance in units, and labels of the tokens, between two responses given as ids.
#[must_use]
pub fn label_ids(original: &[u32], edited: &[u32], tokenizer: &Tokenizer, unit: Unit) -> (usize, TokenLabels) {
    match unit {
        Unit::Token => {
            let Diff { distance, original, edited } = diff(original, edited);
            (distance, TokenLabels { original, edited })
        }
        Unit::Word => {
            let (a, b) = (Worded::new(original, tokenizer), Worded::new(edited, tokenizer));
            let diff = diff(&a.items(), &b.items());
            let labels = TokenLabels { original: a.spread(&diff.original), edited: b.spread(&diff.edited) };
            (diff.distance, labels)
        }
    }
}

/// The ids of a response: those that were sampled, or its text's with an end-of-sequence id where it finished.
#[must_use]
pub fn response_ids(response: &Response, tokenizer: &Tokenizer) -> Vec<u32> {
    if !response.ids.is_empty() {
        return response.ids.clone();
    }
    let mut ids = tokenizer.encode(&response.text);
    ids.extend(response.finished.then(|| tokenizer.eos()));
    ids
}

/// A response's text, where its tokens stand in it, and whether it ends by an end-of-sequence token.
struct Worded {
    text: String,
    spans: Vec<(usize, usize)>,
    finished: bool,
}

impl Worded {
    fn new(ids: &[u32], tokenizer: &Tokenizer) -> Self {
        let finished = ids.last() == Some(&tokenizer.eos());
        let pieces = tokenizer.pieces(&ids[..ids.len() - usize::from(finished)]);
        let spans = pieces.iter().scan(0, |end, piece| {
            let start = *end;
            *end += piece.chars().count();
            Some((start, *end))
        });
        Self { spans: spans.collect(), text: pieces.concat(), finished }
    }

    /// The words, and `None` for the end of the sequence, which no word equals.
    fn items(&self) -> Vec<Option<&str>> {
        let words = words(&self.text).into_iter().map(|word| Some(word.text));
        words.chain(self.finished.then_some(None)).collect()
    }

    fn spread(&self, labels: &[Label]) -> Vec<Label> {
        let mut spread = words::spread(&words(&self.text), labels, &self.spans);
        spread.extend(self.finished.then(|| labels[labels.len() - 1]));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    fn tokenizer() -> Tokenizer {
        let config = text::Config::WordLevel(text::WordLevel {});
        Tokenizer::train(&config, ["it is cheap . ugh , near".to_owned()].into_iter()).unwrap()
    }

    fn edit(original: &str, finished: bool, edited: &str) -> Edit {
        let response = |text: &str, finished| Response { text: text.to_owned(), ids: vec![], finished };
        Edit {
            prompt: Prompt { id: 0, text: "p".into(), facts: vec![] },
            original: response(original, finished),
            edited: response(edited, true),
            error_spans: vec![],
        }
    }

    #[test]
    fn an_edit_is_labelled_with_its_end() {
        let tokenizer = tokenizer();
        for unit in [Unit::Token, Unit::Word] {
            let labelled = label_edit(&edit("ugh , it is cheap .", true, "it is near ."), &tokenizer, unit);
            assert_eq!(
                (spell(&labelled.original_labels), spell(&labelled.edited_labels)),
                ("DDUUSUU".into(), "UUSUU".into())
            );
            assert_eq!(labelled.original_ids.last(), Some(&tokenizer.eos()));
            assert_eq!(labelled.distance, 3);
            let mut cut = labelled.clone();
            cut.truncate(5);
            assert_eq!((spell(&cut.original_labels), spell(&cut.edited_labels)), ("DDUUS".into(), "UUSUU".into()));
            assert_eq!((&cut.original_ids[..], &cut.edited_ids), (&labelled.original_ids[..5], &labelled.edited_ids));
            let unfinished = label_edit(&edit("it is", false, "it is"), &tokenizer, unit);
            assert_eq!(
                (spell(&unfinished.original_labels), spell(&unfinished.edited_labels)),
                ("UU".into(), "UUA".into())
            );
        }
    }

    #[test]
    fn a_token_is_an_error_where_a_person_marked_a_part_of_its_word() {
        let tokenizer = tokenizer();
        let mut given = edit("ugh , it is  cheap .", true, "it is cheap .");
        let errors = |given: &Edit| label_edit(given, &tokenizer, Unit::Token).original_errors;
        assert!(errors(&given).is_empty(), "nobody marked anything");
        // The comma, and two letters of `cheap`, which two spaces precede.
        given.error_spans = [[4, 5], [14, 16]].map(|span| ErrorSpan { kind: "any".to_owned(), span }).into();
        assert_eq!(errors(&given), [false, true, false, false, true, false, false]);
        let mut cut = label_edit(&given, &tokenizer, Unit::Token);
        cut.truncate(2);
        assert_eq!(cut.original_errors, [false, true]);
        // Sampled ids that spell other words than the text.
        given.original.ids = tokenizer.encode("it is");
        assert!(errors(&given).is_empty());
    }

    #[test]
    fn sampled_ids_are_taken_as_they_are() {
        let mut given = edit("it is cheap .", true, "it is .");
        given.original.ids = vec![7, 7, 9];
        assert_eq!(label_edit(&given, &tokenizer(), Unit::Token).original_ids, [7, 7, 9]);
    }

    #[test]
    fn word_labels_cover_all_tokens_of_a_word() {
        let config = text::Config::ByteLevelBpe(text::ByteLevelBpe { vocab_size: 260.try_into().unwrap() });
        let bytes = Tokenizer::train(&config, ["x".to_owned()].into_iter()).unwrap();
        let labelled = label_edit(&edit("ab cd é", true, "ab xyz é"), &bytes, Unit::Word);
        assert_eq!(spell(&labelled.original_labels), "UUUSSUUUU");
        assert_eq!(spell(&labelled.edited_labels), "UUUSSSUUUU");
        assert_eq!(labelled.distance, 1);
    }

    #[test]
    fn labels_are_letters_in_json() {
        let labels = TokenLabels { original: vec![Label::U, Label::D], edited: vec![Label::A, Label::S] };
        let json = serde_json::to_string(&labels).unwrap();
        assert_eq!(json, r#"{"original":"UD","edited":"AS"}"#);
        assert_eq!(serde_json::from_str::<TokenLabels>(&json).unwrap(), labels);
        let error = serde_json::from_str::<TokenLabels>(r#"{"original":"UX","edited":""}"#).unwrap_err();
        assert!(error.to_string().starts_with("expected a label `U`, `D`, `S` or `A`, found `X`"), "{error}");
    }
}
