//! The sample browser: responses to one prompt side by side, each word by word against the reference's.

use serde::Serialize;

use super::heat::word;
use super::samples::Example;
use super::schema::Report;
use crate::labels::{Label, diff_words, word_pieces};

/// One prompt, ready for a template.
#[derive(Serialize)]
pub struct View<'a> {
    number: usize,
    prompt: &'a str,
    budget: usize,
    seed: u64,
    /// The largest share of words that a variant changed.
    change: f64,
    responses: Vec<Response<'a>>,
    /// `variant:outcome` of every variant, for the filter.
    outcomes: String,
}

#[derive(Serialize)]
struct Response<'a> {
    name: &'a str,
    text: &'a str,
    faults: Option<&'a [String]>,
    /// `wins`, `draws` or `loses`; none of the reference.
    outcome: Option<&'static str>,
    /// The judge's verdict with this response shown first and second.
    orders: Option<[&'static str; 2]>,
    pieces: Vec<Piece>,
    /// Share of words that differ from the reference's, in percent.
    changed: Option<String>,
}

/// A run of words.
#[derive(Debug, PartialEq, Serialize)]
struct Piece {
    /// `same`, `new` (not in the reference's response) or `gone` (only there).
    kind: &'static str,
    text: String,
}

/// All examples of a report.
pub fn views(report: &Report) -> Vec<View<'_>> {
    report.examples.iter().enumerate().map(|(i, example)| view(i + 1, example)).collect()
}

fn view(number: usize, example: &Example) -> View<'_> {
    let reference = example.responses.first().map_or("", |response| response.text.as_str());
    let mut largest: f64 = 0.0;
    let responses: Vec<Response> = example
        .responses
        .iter()
        .enumerate()
        .map(|(i, response)| {
            let (pieces, share) = compared(reference, &response.text);
            let is_variant = i > 0;
            if is_variant {
                largest = largest.max(share);
            }
            Response {
                name: &response.name,
                text: &response.text,
                faults: response.faults.as_deref(),
                outcome: response.outcome.map(word),
                orders: response.orders.map(|orders| orders.map(word)),
                pieces,
                changed: is_variant.then(|| super::numbers::fixed(100.0 * share, 0)),
            }
        })
        .collect();
    let outcomes = responses.iter().filter_map(|r| Some(format!("{}:{}", r.name, r.outcome?)));
    View {
        number,
        prompt: &example.prompt,
        budget: example.budget,
        seed: example.seed,
        change: (largest * 1e4).round() / 1e4,
        outcomes: outcomes.collect::<Vec<_>>().join("\n"),
        responses,
    }
}

/// `text` word by word against `reference`, and the edit distance as a share of the longer one's words.
fn compared(reference: &str, text: &str) -> (Vec<Piece>, f64) {
    let (old, new) = (word_pieces(reference), word_pieces(text));
    let diff = diff_words(reference, text);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut push = |kind, text: &str| match pieces.last_mut() {
        Some(last) if last.kind == kind => last.text.push_str(text),
        _ => pieces.push(Piece { kind, text: text.to_owned() }),
    };
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        match (diff.original.get(i), diff.edited.get(j)) {
            (Some(Label::D), _) => {
                push("gone", &old[i]);
                i += 1;
            }
            (_, Some(Label::A)) => {
                push("new", &new[j]);
                j += 1;
            }
            (Some(Label::S), Some(Label::S)) => {
                push("gone", &old[i]);
                push("new", &new[j]);
                (i, j) = (i + 1, j + 1);
            }
            (Some(_), Some(_)) => {
                push("same", &new[j]);
                (i, j) = (i + 1, j + 1);
            }
            (_, None) | (None, _) => break,
        }
    }
    (pieces, diff.distance as f64 / old.len().max(new.len()).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_new_or_gone() {
        let (pieces, share) = compared("it serves thai food .", "it serves cheap thai meals .");
        let piece = |kind, text: &str| Piece { kind, text: text.to_owned() };
        assert_eq!(
            pieces,
            [
                piece("same", "it serves"),
                piece("new", " cheap"),
                piece("same", " thai"),
                piece("gone", " food"),
                piece("new", " meals"),
                piece("same", " .")
            ]
        );
        assert!((share - 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(compared("", ""), (Vec::new(), 0.0));
    }

    #[test]
    fn new_and_same_words_join_to_the_text() {
        let text = "one  two\nthree <b>";
        let (pieces, _) = compared("three two one", text);
        let joined: String =
            pieces.iter().filter(|piece| piece.kind != "gone").map(|piece| piece.text.as_str()).collect();
        assert_eq!(joined, text);
    }
}
