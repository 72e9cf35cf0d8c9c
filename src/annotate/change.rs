//! What an edit changed, as the page shows it and as it is kept: hunks, counters, token labels.
//!
//! Alignment and labels are `labels`'; nothing is compared here.

use serde::Serialize;

use crate::data::annotations::{Hunk, Piece, Tokens};
use crate::data::{Edit, Prompt, Response};
use crate::labels::{self, Label, Span, Unit, hunks, label_edit, spell, words};
use crate::text::Tokenizer;

/// How tokens are labelled.
#[derive(Clone, Debug, Default)]
pub struct Labeller {
    /// The tokenizer that the labels stage would use; without one, words are tokens.
    pub tokenizer: Option<Tokenizer>,
    /// What its diff aligns.
    pub unit: Unit,
}

/// What an edit changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Every change, in order.
    pub hunks: Vec<Hunk>,
    /// Words that were deleted, substituted or added.
    pub words_changed: usize,
    /// Words of the longer side.
    pub words: usize,
    /// The one over the other.
    pub share_changed: f64,
    /// Tokens that were deleted, substituted or added.
    pub tokens_touched: usize,
    /// The tokens themselves.
    pub tokens: Tokens,
}

/// The tokens of one side: where they stand, and their labels.
type Side = (Vec<[usize; 2]>, Vec<Label>);

impl Labeller {
    /// What changed between `original` and `edited`.
    #[must_use]
    pub fn change(&self, original: &Response, edited: &str) -> Change {
        let (diff, found) = hunks(&original.text, edited);
        let words = diff.original.len().max(diff.edited.len());
        let (unit, (old_chars, old_labels), (new_chars, new_labels)) = match &self.tokenizer {
            Some(tokenizer) => {
                let (old, new) = self.sides(original, edited, tokenizer);
                ("token", old, new)
            }
            None => ("word", (word_chars(&original.text), diff.original.clone()), (word_chars(edited), diff.edited)),
        };
        let touched = |labels: &[Label], wanted: &[Label]| labels.iter().filter(|label| wanted.contains(label)).count();
        let tokens_touched = touched(&old_labels, &[Label::D, Label::S]) + touched(&new_labels, &[Label::A]);
        let piece = |span: Span, text: &str, tokens: &[[usize; 2]]| Piece {
            text: span.of(text).to_owned(),
            chars: span.chars,
            utf8: span.utf8,
            tokens: touching(tokens, span.chars),
        };
        let hunk = |hunk: labels::Hunk| Hunk {
            original: piece(hunk.original, &original.text, &old_chars),
            edited: piece(hunk.edited, edited, &new_chars),
            category: None,
        };
        Change {
            hunks: found.into_iter().map(hunk).collect(),
            words_changed: diff.distance,
            words,
            share_changed: diff.distance as f64 / words.max(1) as f64,
            tokens_touched,
            tokens: Tokens {
                unit: unit.to_owned(),
                original_labels: spell(&old_labels),
                edited_labels: spell(&new_labels),
                original_chars: old_chars,
                edited_chars: new_chars,
            },
        }
    }

    /// Both sides as the labels stage labels them, end-of-sequence tokens left out: nobody sees those.
    fn sides(&self, original: &Response, edited: &str, tokenizer: &Tokenizer) -> (Side, Side) {
        let prompt = Prompt { id: 0, text: String::new(), facts: Vec::new() };
        let edited = Response { text: edited.to_owned(), ids: Vec::new(), finished: true };
        let edit = Edit { prompt, original: original.clone(), edited, error_spans: Vec::new() };
        let labelled = label_edit(&edit, tokenizer, self.unit);
        let side = |response: &Response, ids: &[u32], mut labels: Vec<Label>| {
            let said = ids.len() - usize::from(ids.last() == Some(&tokenizer.eos()));
            labels.truncate(said);
            let chars = if response.ids.is_empty() {
                tokenizer.offsets(&response.text).into_iter().map(|(from, to)| [from, to]).collect()
            } else {
                piece_chars(&tokenizer.pieces(&ids[..said]))
            };
            (chars, labels)
        };
        (
            side(&edit.original, &labelled.original_ids, labelled.original_labels),
            side(&edit.edited, &labelled.edited_ids, labelled.edited_labels),
        )
    }
}

fn word_chars(text: &str) -> Vec<[usize; 2]> {
    words(text).into_iter().map(|word| [word.span.0, word.span.1]).collect()
}

fn piece_chars(pieces: &[String]) -> Vec<[usize; 2]> {
    let mut end = 0;
    let place = |piece: &String| {
        let start = end;
        end += piece.chars().count();
        [start, end]
    };
    pieces.iter().map(place).collect()
}

/// The tokens that touch a place; where it is empty, none, at the first token behind it.
fn touching(tokens: &[[usize; 2]], [from, to]: [usize; 2]) -> [usize; 2] {
    let first = tokens.partition_point(|&[_, end]| end <= from);
    let count = tokens[first..].iter().take_while(|&&[start, _]| start < to).count();
    [first, first + if from < to { count } else { 0 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{ByteLevelBpe, Config};

    fn response(text: &str) -> Response {
        Response { text: text.into(), ids: vec![], finished: true }
    }

    #[test]
    fn words_are_tokens_where_no_tokenizer_is_known() {
        let change = Labeller::default().change(&response("it is cheap ."), "it is very near .");
        assert_eq!((change.words_changed, change.words, change.tokens_touched), (2, 5, 2));
        assert_eq!((&*change.tokens.original_labels, &*change.tokens.edited_labels), ("UUSU", "UUSAU"));
        let hunk = &change.hunks[0];
        assert_eq!((hunk.original.tokens, hunk.edited.tokens), ([2, 3], [2, 4]));
        assert_eq!((&*hunk.original.text, &*hunk.edited.text), ("cheap", "very near"));
        assert_eq!(Labeller::default().change(&response(""), "").share_changed.to_bits(), 0);
    }

    #[test]
    fn tokens_are_those_of_the_labels_stage() {
        let bpe = Config::ByteLevelBpe(ByteLevelBpe { vocab_size: 260.try_into().unwrap() });
        let tokenizer = Tokenizer::train(&bpe, ["x".to_owned()].into_iter()).unwrap();
        let labeller = Labeller { tokenizer: Some(tokenizer.clone()), unit: Unit::Token };
        let change = labeller.change(&response("aé b"), "aé cb");
        assert_eq!((&*change.tokens.original_labels, &*change.tokens.edited_labels), ("UUUUU", "UUUUAU"));
        assert_eq!(change.tokens.original_chars, [[0, 1], [1, 2], [1, 2], [2, 3], [3, 4]]);
        assert_eq!(change.hunks[0].original.tokens, [4, 5]);
        // Sampled ids with their end: the end is no token that somebody sees.
        let ids = [tokenizer.encode("aé b"), vec![tokenizer.eos()]].concat();
        let sampled = Response { text: "aé b".into(), ids, finished: true };
        assert_eq!(labeller.change(&sampled, "aé cb").tokens.original_labels, "UUUUU");
        assert_eq!(labeller.change(&sampled, "aé cb").tokens.original_chars.last(), Some(&[3, 4]));
    }
}
