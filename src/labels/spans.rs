//! Error spans by category: where spans of text end, and which of them have an error [FG-RLHF].
//!
//! A response is cut into spans by its punctuation, so that spans exist where nobody marked anything: in what a policy
//! samples. Who marked the errors is `data`'s concern, what a span is worth `reward`'s.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{error_tokens, response_ids};
use crate::data::{ErrorSpan, MarkedResponse, Prompt};
use crate::text::Tokenizer;
use crate::units::Positive;

/// `[labels.spans]`: a reward model for each category of errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The categories.
    pub categories: Vec<Category>,
}

/// A category of errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Its name in labels and tables.
    pub name: String,
    /// The kinds of error that belong to it, in the dataset's words.
    pub errors: Vec<String>,
    /// The spans that are judged, and at whose ends its reward is paid.
    #[serde(default)]
    pub segment: Segment,
    /// What its reward counts in the sum over categories.
    #[serde(default = "one")]
    pub weight: Positive,
}

fn one() -> Positive {
    Positive::try_from(1.0).expect("above zero")
}

/// Where a span of text ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// At `.`, `!`, `?`, `,`, `;` and `:` and at line breaks.
    SubSentence,
    /// At `.`, `!` and `?` and at line breaks.
    #[default]
    Sentence,
    /// At the end of the response.
    Response,
}

impl Segment {
    /// Whether a token with this text may be the last of a span; quotes and brackets may follow the mark.
    fn closes(self, piece: &str) -> bool {
        let marks: &[char] = match self {
            Self::SubSentence => &['.', '!', '?', ',', ';', ':', '\u{3002}', '\u{ff01}', '\u{ff1f}', '\u{ff0c}'],
            Self::Sentence => &['.', '!', '?', '\u{3002}', '\u{ff01}', '\u{ff1f}'],
            Self::Response => return false,
        };
        let core = piece.trim().trim_end_matches(['"', '\'', ')', ']', '\u{201d}', '\u{2019}']);
        piece.contains('\n') || core.ends_with(marks)
    }
}

/// Where spans end, told from token ids alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// Ids that may be the last of a span.
    closes: BTreeSet<u32>,
    /// Ids that may be the first of one: those that begin with white space, and the end of the sequence.
    opens: BTreeSet<u32>,
}

impl Segments {
    /// The ids of `tokenizer` at which spans of the kind `segment` end and begin.
    #[must_use]
    pub fn of(segment: Segment, tokenizer: &Tokenizer) -> Self {
        let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        // A token shows its leading space in company only.
        let in_company = |id: u32| tokenizer.pieces(&[id, id]).pop().unwrap_or_default();
        let closes: BTreeSet<u32> = ids.clone().filter(|&id| segment.closes(&in_company(id))).collect();
        if closes.is_empty() {
            return Self::default();
        }
        let opens = |id: &u32| *id == tokenizer.eos() || in_company(*id).starts_with(char::is_whitespace);
        Self { closes, opens: ids.filter(opens).collect() }
    }

    /// Whether each of `ids` is the last of a span; the last of all always is. A mark within a word (`3.5`) ends nothing.
    #[must_use]
    pub fn ends(&self, ids: &[u32]) -> Vec<bool> {
        let ends = |(at, id): (usize, &u32)| match ids.get(at + 1) {
            Some(next) => self.closes.contains(id) && self.opens.contains(next),
            None => true,
        };
        ids.iter().enumerate().map(ends).collect()
    }
}

/// A response as ids, cut into spans, of each of which is known whether it has an error of one category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The index of its last token.
    pub last: usize,
    /// Whether a token of it was marked.
    pub error: bool,
}

/// A response as ids and spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkedTokens {
    /// What was asked.
    pub prompt: Prompt,
    /// Token ids, the end-of-sequence token included.
    pub ids: Vec<u32>,
    /// Its spans in order; every token is in one.
    pub spans: Vec<Span>,
}

/// Cuts a response into spans and marks those with an error of `category`.
///
/// None where the tokenizer sees other words than the text has. What is beyond `max_tokens` is cut off first.
#[must_use]
pub fn mark_tokens(
    marked: &MarkedResponse,
    category: &Category,
    segments: &Segments,
    tokenizer: &Tokenizer,
    max_tokens: usize,
) -> Option<MarkedTokens> {
    let is_mine = |error: &&ErrorSpan| category.errors.contains(&error.kind);
    let errors: Vec<ErrorSpan> = marked.error_spans.iter().filter(is_mine).cloned().collect();
    let mut ids = response_ids(&marked.response, tokenizer);
    let wrong = error_tokens(&marked.response.text, &errors, &ids, tokenizer)?;
    ids.truncate(max_tokens);
    let mut spans = Vec::new();
    let mut first = 0;
    for (last, _) in segments.ends(&ids).into_iter().enumerate().filter(|(_, ends)| *ends) {
        spans.push(Span { last, error: wrong[first..=last].contains(&true) });
        first = last + 1;
    }
    Some(MarkedTokens { prompt: marked.prompt.clone(), ids, spans })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Response;
    use crate::text;

    fn category(segment: Segment) -> Category {
        Category { name: "any".into(), errors: vec!["Irrelevant".into()], segment, weight: one() }
    }

    fn marked(text: &str, errors: &[(&str, [usize; 2])]) -> MarkedResponse {
        let error = |(kind, span): &(&str, [usize; 2])| ErrorSpan { kind: (*kind).to_owned(), span: *span };
        MarkedResponse {
            prompt: Prompt { id: 0, text: "p".into(), facts: vec![] },
            response: Response { text: text.to_owned(), ids: vec![], finished: true },
            error_spans: errors.iter().map(error).collect(),
        }
    }

    /// The spans' texts, those with an error in capitals.
    fn shown(tokenizer: &Tokenizer, segment: Segment, marked: &MarkedResponse, max: usize) -> Vec<String> {
        let segments = Segments::of(segment, tokenizer);
        let found = mark_tokens(marked, &category(segment), &segments, tokenizer, max).unwrap();
        let mut first = 0;
        let text = |span: &Span| {
            let text = tokenizer.pieces(&found.ids[first..=span.last]).concat();
            first = span.last + 1;
            if span.error { text.to_uppercase() } else { text }
        };
        found.spans.iter().map(text).collect()
    }

    #[test]
    fn spans_end_at_marks_between_words_and_know_their_errors() {
        let config = text::Config::ByteLevelBpe(text::ByteLevelBpe { vocab_size: 260.try_into().unwrap() });
        let bytes = Tokenizer::train(&config, ["x".to_owned()].into_iter()).unwrap();
        let eos = bytes.token(bytes.eos());
        // `b` is marked by one category, `c.` by another that does not count.
        let given = marked("a 3.5, b! c.", &[("Irrelevant", [7, 8]), ("Redundant", [10, 12])]);
        let sentences = shown(&bytes, Segment::Sentence, &given, 99);
        assert_eq!(sentences, ["A 3.5, B!", " c.", &eos]);
        let parts = shown(&bytes, Segment::SubSentence, &given, 99);
        assert_eq!(parts, ["a 3.5,", " B!", " c.", &eos]);
        let whole = shown(&bytes, Segment::Response, &given, 99);
        assert_eq!(whole, [format!("A 3.5, B! C.{}", eos.to_uppercase())]);
        assert_eq!(shown(&bytes, Segment::Sentence, &given, 4), ["a 3."], "cut before the error");
    }

    #[test]
    fn what_is_missing_is_an_error_of_the_end() {
        let config = text::Config::WordLevel(text::WordLevel {});
        let words = Tokenizer::train(&config, ["it is cheap .".to_owned()].into_iter()).unwrap();
        let given = marked("it is cheap .", &[("Irrelevant", [13, 13])]);
        let eos = words.token(words.eos()).to_uppercase();
        let found = shown(&words, Segment::Sentence, &given, 99);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("it") && found[1].trim() == eos, "{found:?}");
    }
}
