//! What the page is told, as JSON: items, changes cut for display, lists, progress.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use unicode_segmentation::UnicodeSegmentation;

use super::change::Change;
use super::desk::Desk;
use crate::data::Response;
use crate::data::annotations::{Annotation, Answer};

/// Items of a page of the list.
const LISTED: usize = 50;

/// Characters that name an item in the list.
const SHOWN: usize = 100;

/// What an annotator is asked for, and how far everybody is.
#[must_use]
pub fn session(desk: &Desk, title: &str, who: Option<&str>, is_owned: bool) -> Value {
    let config = &desk.config;
    let unit = if desk.labeller.tokenizer.is_some() { "token" } else { "word" };
    json!({
        "title": title,
        "annotator": who,
        "owned": is_owned,
        "guideline": config.guideline,
        "instructions": config.instructions,
        "categories": config.categories,
        "rewrite_share": config.rewrite_share.get(),
        "unit": unit,
        "items": desk.items.len(),
        "progress": progress(desk, who.unwrap_or_default()),
    })
}

/// How many answers there are, how many there shall be, how many `who` gave, and how many items are disputed.
#[must_use]
pub fn progress(desk: &Desk, who: &str) -> Value {
    let (answers, mine) = (desk.given().values().sum::<usize>(), desk.given().get(who).copied().unwrap_or(0));
    json!({ "answers": answers, "wanted": desk.wanted(), "mine": mine, "disputed": desk.disputed().len() })
}

/// The item at `index`, opened for `who`; nothing where there is none left.
#[must_use]
pub fn opened(desk: &mut Desk, index: Option<usize>, who: &str, now: Instant) -> Value {
    let item = index.map(|index| json!(desk.open(index, who, now)));
    json!({ "item": item, "progress": progress(desk, who) })
}

/// A change, with both texts cut into pieces for display.
#[must_use]
pub fn change(original: &Response, edited: &str, change: &Change) -> Value {
    let mut segments = Vec::new();
    let mut from = 0;
    for (number, hunk) in change.hunks.iter().enumerate() {
        segments.push(json!({ "same": &edited[from..hunk.edited.utf8[0]] }));
        segments.push(json!({ "hunk": number, "deleted": hunk.original.text, "added": hunk.edited.text }));
        from = hunk.edited.utf8[1];
    }
    segments.push(json!({ "same": &edited[from..] }));
    json!({
        "segments": segments,
        "hunks": change.hunks,
        "words_changed": change.words_changed,
        "words": change.words,
        "share_changed": change.share_changed,
        "tokens_touched": change.tokens_touched,
        "tokens": [change.tokens.original_chars.len(), change.tokens.edited_chars.len()],
        "labels": [
            labelled(&original.text, &change.tokens.original_chars, &change.tokens.original_labels),
            labelled(edited, &change.tokens.edited_chars, &change.tokens.edited_labels),
        ],
    })
}

/// A text in pieces with the labels of its tokens: `[text, labels]`, tokens that share a character as people see it in one piece,
/// what belongs to no token without labels.
fn labelled(text: &str, places: &[[usize; 2]], labels: &str) -> Value {
    let mut pieces: Vec<(String, String)> = Vec::new();
    let (mut at, mut next, mut covered) = (0, 0, 0);
    let labels: Vec<char> = labels.chars().collect();
    for grapheme in text.graphemes(true) {
        let end = at + grapheme.chars().count();
        let mut begun = String::new();
        // Tokens that begin within this character; those of no length belong to it too.
        while next < places.len() && places[next][0] < end {
            begun.extend(labels.get(next));
            covered = covered.max(places[next][1]);
            next += 1;
        }
        match pieces.last_mut() {
            Some((text, _)) if begun.is_empty() && at < covered => text.push_str(grapheme),
            Some((text, labels)) if begun.is_empty() && labels.is_empty() => text.push_str(grapheme),
            _ => pieces.push((grapheme.to_owned(), begun)),
        }
        at = end;
    }
    json!(pieces)
}

/// Which items a list shows.
#[derive(Deserialize)]
pub struct Search {
    /// `all`, `open`, `mine`, `answered`, `skipped`, `disputed`.
    #[serde(default)]
    status: String,
    /// What prompt, response or id contain.
    #[serde(default)]
    text: String,
    /// Of the pages, from 0.
    #[serde(default)]
    page: usize,
}

/// A page of the list of items.
#[must_use]
pub fn items(desk: &Desk, search: &Search, who: &str) -> Value {
    let wanted = search.text.trim().to_lowercase();
    let disputed = desk.disputed();
    let fits = |index: &usize| {
        let (item, answers) = (&desk.items[*index], desk.answers(*index));
        let has = |answer: Answer| answers.iter().any(|given| given.answer == answer);
        let status = match search.status.as_str() {
            "open" => answers.is_empty(),
            "mine" => answers.iter().any(|answer| answer.annotator == who),
            "answered" => has(Answer::Edited) || has(Answer::Good),
            "skipped" => has(Answer::Skipped),
            "disputed" => disputed.contains(index),
            _ => true,
        };
        let contains = |text: &str| text.to_lowercase().contains(&wanted);
        let source = || item.source.as_ref().is_some_and(|id| contains(&id.to_string()));
        status && (wanted.is_empty() || contains(&item.prompt) || contains(&item.original.text) || source())
    };
    let found: Vec<usize> = (0..desk.items.len()).filter(fits).collect();
    let rows = found.iter().skip(search.page * LISTED).take(LISTED).map(|&index| {
        let item = &desk.items[index];
        let answers = desk.answers(index);
        let said: Vec<_> = answers.iter().map(|answer| json!([answer.annotator, answer.answer])).collect();
        json!({
            "index": index,
            "prompt": end_of(&item.prompt),
            "original": item.original.text.chars().take(SHOWN).collect::<String>(),
            "answers": said,
            "disputed": disputed.contains(&index),
        })
    });
    json!({ "items": rows.collect::<Vec<_>>(), "found": found.len(), "page": search.page, "size": LISTED })
}

/// The end of a prompt: a question stands behind its context.
fn end_of(prompt: &str) -> String {
    prompt.chars().skip(prompt.chars().count().saturating_sub(SHOWN)).collect()
}

/// The first disputed item after the one at `after`, with everybody's answers; nothing where there is none.
#[must_use]
pub fn disputed(desk: &Desk, after: Option<usize>, who: &str) -> Value {
    let disputed = desk.disputed();
    let next = disputed.iter().find(|index| after.is_none_or(|after| **index > after)).or_else(|| disputed.first());
    let item = next.map(|&index| {
        let item = &desk.items[index];
        let answers: Vec<Value> = desk.answers(index).iter().map(|answer| shown(desk, answer)).collect();
        json!({
            "index": index,
            "item": item.id,
            "prompt": item.prompt,
            "preferred": item.preferred.text,
            "original": item.original.text,
            "version": desk.version(index, who, true),
            "answers": answers,
        })
    });
    json!({ "item": item, "disputed": disputed.len() })
}

/// An answer with its change cut for display.
#[must_use]
pub fn shown(desk: &Desk, answer: &Annotation) -> Value {
    let mut value = json!(answer);
    if let Some(revised) = &answer.revised {
        let original = Response {
            text: answer.rejected.clone(),
            ids: answer.rejected_ids.clone(),
            finished: answer.rejected_finished,
        };
        value["change"] = change(&original, revised, &desk.labeller.change(&original, revised));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::change::Labeller;

    fn response(text: &str) -> Response {
        Response { text: text.into(), ids: vec![], finished: true }
    }

    #[test]
    fn pieces_join_to_the_edited_text_and_the_original() {
        let (original, edited) = ("ugh , it is cheap .", "it is near .");
        let shown = change(&response(original), edited, &Labeller::default().change(&response(original), edited));
        let segments = shown["segments"].as_array().unwrap();
        let join = |key: &str| -> String {
            segments.iter().map(|s| s["same"].as_str().or(s[key].as_str()).unwrap_or_default()).collect()
        };
        assert_eq!((join("added").as_str(), join("deleted").as_str()), (edited, original));
    }

    #[test]
    fn tokens_that_share_a_character_are_one_piece() {
        let rocket = "a 👩‍🚀!";
        // Four tokens within the emoji, as bytes give them.
        let places = [[0, 1], [1, 3], [2, 3], [3, 4], [4, 5], [5, 6]];
        assert_eq!(labelled(rocket, &places, "UDDSSU"), json!([["a", "U"], [" ", "D"], ["👩‍🚀", "DSS"], ["!", "U"]]));
        assert_eq!(labelled("a  b", &[[0, 1], [3, 4]], "US"), json!([["a", "U"], ["  ", ""], ["b", "S"]]));
        assert_eq!(labelled("ab cd", &[[0, 2], [3, 5]], "UU"), json!([["ab", "U"], [" ", ""], ["cd", "U"]]));
        assert_eq!(labelled("", &[], ""), json!([]));
    }
}
