//! The word unit: words of a text, their labels spread over tokens, agreement with human error spans.
//!
//! A word is a maximal run of non-white-space. Where tokens stand in the text is left to `text`.

use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

use super::{Diff, Label, diff};
use crate::data::ErrorSpan;

/// A word and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The word itself.
    pub text: &'a str,
    /// Its characters in the text (code points, half-open).
    pub span: (usize, usize),
}

/// The maximal runs of non-white-space in `text`, in order.
#[must_use]
pub fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let end = text.chars().count();
    let ends = std::iter::once((end, (text.len(), ' ')));
    for (at, (byte, c)) in text.char_indices().enumerate().chain(ends) {
        match open {
            Some((start, from)) if c.is_whitespace() => {
                words.push(Word { text: &text[from..byte], span: (start, at) });
                open = None;
            }
            None if !c.is_whitespace() => open = Some((at, byte)),
            _ => {}
        }
    }
    words
}

/// The text cut before the white space of every word, for [`render`](super::render): the pieces join to the text.
#[must_use]
pub fn word_pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.trim_start().is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        let cut = rest[blank..].find(char::is_whitespace).map_or(rest.len(), |n| blank + n);
        pieces.push(rest[..cut].to_owned());
        rest = &rest[cut..];
    }
    if let Some(last) = pieces.last_mut() {
        last.push_str(rest);
    }
    pieces
}

/// Aligns two texts word by word.
#[must_use]
pub fn diff_words(original: &str, edited: &str) -> Diff {
    let only_text = |text| words(text).into_iter().map(|word: Word| word.text).collect::<Vec<_>>();
    diff(&only_text(original), &only_text(edited))
}

/// Gives each token the label of the words it overlaps: the first that is not U, and U where it overlaps none.
///
/// `spans` and `words` are in order; spans in code points, half-open.
#[must_use]
pub(super) fn spread(words: &[Word], labels: &[Label], spans: &[(usize, usize)]) -> Vec<Label> {
    let label = |touched: Range<usize>| labels[touched].iter().copied().find(|label| *label != Label::U);
    touched(words, spans).into_iter().map(|range| label(range).unwrap_or(Label::U)).collect()
}

/// The words that each of `spans` overlaps.
///
/// `spans` and `words` are in order; spans in code points, half-open.
#[must_use]
pub(super) fn touched(words: &[Word], spans: &[(usize, usize)]) -> Vec<Range<usize>> {
    let mut first = 0;
    spans
        .iter()
        .map(|&(start, end)| {
            while words.get(first).is_some_and(|word| word.span.1 <= start) {
                first += 1;
            }
            first..first + words[first..].iter().take_while(|word| word.span.0 < end).count()
        })
        .collect()
}

/// Which words of `text` overlap one of `spans`.
#[must_use]
pub fn error_words(text: &str, spans: &[ErrorSpan]) -> Vec<bool> {
    let overlap = |word: &Word, [start, end]: [usize; 2]| start < word.span.1 && word.span.0 < end;
    let touches = |word: &Word| spans.iter().any(|error| overlap(word, error.span));
    words(text).iter().map(touches).collect()
}

/// How well edit labels agree with what people marked as erroneous, counted in words of the original.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Edited and marked.
    pub true_positives: usize,
    /// Edited but not marked.
    pub false_positives: usize,
    /// Marked but not edited.
    pub false_negatives: usize,
    /// Neither.
    pub true_negatives: usize,
}

impl Agreement {
    /// Counts `labels` (edited: not U) against `errors`, both over the same words.
    #[must_use]
    pub fn of(labels: &[Label], errors: &[bool]) -> Self {
        let mut counts = Self::default();
        for (label, error) in labels.iter().zip(errors) {
            match (*label != Label::U, *error) {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, true) => counts.false_negatives += 1,
                (false, false) => counts.true_negatives += 1,
            }
        }
        counts
    }

    /// Share of the edited words that were marked; none where no word was edited.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.false_positives)
    }

    /// Share of the marked words that were edited; none where no word was marked.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }
}

impl AddAssign for Agreement {
    fn add_assign(&mut self, other: Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
        self.true_negatives += other.true_negatives;
    }
}

fn share(hits: usize, misses: usize) -> Option<f64> {
    (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
}

/// Agreement of the word labels of an edit with the error spans of its original.
#[must_use]
pub fn agreement(original: &str, edited: &str, error_spans: &[ErrorSpan]) -> Agreement {
    Agreement::of(&diff_words(original, edited).original, &error_words(original, error_spans))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spell;
    use super::*;

    #[test]
    fn words_are_counted_in_code_points() {
        let found: Vec<_> = words(" é x\n\u{1F600}y ").into_iter().map(|w| (w.text.to_owned(), w.span)).collect();
        assert_eq!(found, [("é".into(), (1, 2)), ("x".into(), (3, 4)), ("\u{1F600}y".into(), (5, 7))]);
        assert!(words(" \n").is_empty());
    }

    #[test]
    fn tokens_take_their_words_label() {
        let text = "ab cd ef";
        let labels = [Label::U, Label::D, Label::S];
        // `ab`, ` c`, `d`, ` ` (no word), `d e` (two words, both changed), `b c` (an unchanged and a deleted word).
        let spans = [(0, 2), (2, 4), (4, 5), (5, 6), (4, 7), (1, 4)];
        let each: String = spans.iter().map(|&span| spell(&spread(&words(text), &labels, &[span]))).collect();
        assert_eq!(each, "UDDUDD");
        assert_eq!(spell(&spread(&words(text), &labels, &spans[..4])), "UDDU");
    }

    #[test]
    fn agreement_counts_words_that_touch_a_span() {
        // `b` and `c` are edited, `b` (touched by one character of the span) and `d` are marked.
        let marked = [[2, 3], [6, 7]].map(|span| ErrorSpan { kind: "any".to_owned(), span });
        let counts = agreement("a b c d", "a d", &marked);
        let expected = Agreement { true_positives: 1, false_positives: 1, false_negatives: 1, true_negatives: 1 };
        assert_eq!(counts, expected);
        assert_eq!((counts.precision(), counts.recall()), (Some(0.5), Some(0.5)));
        assert_eq!(agreement("a", "a", &[]).precision(), None);
    }

    proptest! {
        #[test]
        fn word_pieces_join_to_the_text(text in "[ a-c\n\u{e9}]{0,30}") {
            let pieces = word_pieces(&text);
            prop_assert_eq!(pieces.len(), words(&text).len());
            if !pieces.is_empty() {
                prop_assert_eq!(pieces.concat(), text);
            }
        }
    }
}
