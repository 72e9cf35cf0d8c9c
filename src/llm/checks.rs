//! What makes an answer no edit: nothing, no change, a rewrite, talk around it, another language.

use super::Rejection;
use crate::labels::{diff_words, word_pieces};

/// Beginnings of talk about an edit, in lower case.
const PREAMBLES: [&str; 22] = [
    "here is",
    "here's",
    "here are",
    "sure",
    "certainly",
    "of course",
    "okay",
    "ok,",
    "edited answer",
    "edited:",
    "edited response",
    "edited version",
    "revised",
    "corrected",
    "corrected answer",
    "the edited",
    "the corrected",
    "the revised",
    "answer:",
    "i have edited",
    "i've edited",
    "i edited",
];

/// Ends of talk after an edit, in lower case.
const REMARKS: [&str; 8] =
    ["note:", "(note", "explanation:", "changes:", "changes made", "i removed", "i changed", "let me know"];

/// Characters below which a language is anybody's guess.
const SHORTEST_TEXT: usize = 40;

/// The share of words by which `edited` differs from `original`: the edit distance over the longer text's words.
#[must_use]
pub fn share(original: &str, edited: &str) -> f64 {
    let words = word_pieces(original).len().max(word_pieces(edited).len());
    diff_words(original, edited).distance as f64 / words.max(1) as f64
}

/// Why `edited` cannot be taken for a minimal edit of `original`; none where it can.
#[must_use]
pub fn fault(original: &str, edited: &str, max_share: f64) -> Option<Rejection> {
    let reject = |check: &str, problem: String| Some(Rejection::new(check, problem, edited));
    if edited.trim().is_empty() {
        return reject("empty", "it is empty".to_owned());
    }
    if edited.split_whitespace().eq(original.split_whitespace()) {
        return reject("identical", "it changes nothing, and does not say GOOD".to_owned());
    }
    if let Some(words) = preamble(original, edited) {
        return reject("preamble", format!("it says more than the edited answer (`{words}`)"));
    }
    if let Some([was, is]) = languages(original, edited) {
        return reject("language", format!("the answer is in {was}, the edit in {is}"));
    }
    let share = share(original, edited);
    if share > max_share {
        let percent = |share: f64| (100.0 * share).round();
        let problem =
            format!("it changes {} % of the words, and at most {} % may change", percent(share), percent(max_share));
        return reject("rewrite", problem);
    }
    None
}

/// Talk around an edit, which the original does not have: an introduction, a remark, a fence or quotation marks.
fn preamble(original: &str, edited: &str) -> Option<String> {
    let begins = |text: &str, with: &str| text.trim_start().to_lowercase().starts_with(with);
    if let Some(found) = PREAMBLES.iter().find(|with| begins(edited, with) && !begins(original, with)) {
        return Some((*found).to_owned());
    }
    let has_line = |text: &str, with: &str| text.lines().any(|line| begins(line, with));
    if let Some(found) = REMARKS.iter().find(|with| has_line(edited, with) && !has_line(original, with)) {
        return Some((*found).to_owned());
    }
    let wrapped = |text: &str, (open, close): (&str, &str)| {
        let text = text.trim();
        text.len() > open.len() && text.starts_with(open) && text.ends_with(close)
    };
    let marks = [("```", "```"), ("\"", "\""), ("\u{201c}", "\u{201d}"), ("\u{ab}", "\u{bb}")];
    marks
        .into_iter()
        .find(|&marks| wrapped(edited, marks) && !wrapped(original, marks))
        .map(|(open, _)| open.to_owned())
}

/// The languages of both texts, where both are plain and differ.
fn languages(original: &str, edited: &str) -> Option<[&'static str; 2]> {
    let language = |text: &str| {
        let info = whatlang::detect(text)?;
        (text.chars().count() >= SHORTEST_TEXT && info.is_reliable()).then(|| info.lang().eng_name())
    };
    let (was, is) = (language(original)?, language(edited)?);
    (was != is).then_some([was, is])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The tower was built in 1887, and it is 330 metres high, which everybody knows but you.";

    fn check(original: &str, edited: &str) -> String {
        fault(original, edited, 0.5).map_or_else(String::new, |rejection| rejection.check)
    }

    #[test]
    fn an_edit_changes_something_and_not_much() {
        let edited = "The tower was built in 1887, and it is 330 metres high.";
        assert_eq!(check(TEXT, edited), "");
        assert_eq!(check(TEXT, "  \n"), "empty");
        assert_eq!(check(TEXT, &TEXT.replace(' ', "  ")), "identical");
        assert_eq!(check(TEXT, "It opened for the fair of 1889 and has three levels for visitors today."), "rewrite");
        let problem = fault("a b c d", "a x y z", 0.5).unwrap().problem;
        assert_eq!(problem, "it changes 75 % of the words, and at most 50 % may change");
        assert!((share("a b c d", "a b d") - 0.25).abs() < 1e-12);
    }

    #[test]
    fn talk_around_an_edit_is_none_of_it() {
        let edited = "The tower was built in 1889, and it is 330 metres high, which everybody knows but you.";
        for wrapped in [
            format!("Here is the edited answer:\n{edited}"),
            format!("Sure! {edited}"),
            format!("\"{edited}\""),
            format!("```\n{edited}\n```"),
            format!("{edited}\n\nNote: I changed the year."),
        ] {
            assert_eq!(check(TEXT, &wrapped), "preamble", "{wrapped}");
        }
        // What the original says itself is no talk about it.
        assert_eq!(check("Sure, it is old and very high indeed", "Sure, it is old and high indeed"), "");
    }

    #[test]
    fn an_edit_stays_in_its_language() {
        let german = "Der Turm wurde im Jahr 1887 gebaut, und er ist 330 Meter hoch, was jeder weiß, nur du nicht.";
        let rejection = fault(TEXT, german, 1.0).unwrap();
        assert_eq!(rejection.check, "language");
        assert_eq!(rejection.problem, "the answer is in English, the edit in German");
        assert_eq!(check("kurz", "short"), "rewrite", "a word has no language");
    }
}
