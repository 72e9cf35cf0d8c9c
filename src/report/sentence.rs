//! Sentences whose numbers know their definitions: written once, read as plain text or as HTML with links.
//!
//! A number carries the name of its row in `docs/METRICS.md` between control characters, which no text of a stranger keeps
//! (see [`visible`](super::text::visible)).

use std::fmt::Display;

use super::text::escape;

const OPEN: char = '\u{1}';
const NAMED: char = '\u{2}';
const CLOSE: char = '\u{3}';

/// `number` as what `metric` defines.
pub fn defined(metric: &str, number: impl Display) -> String {
    format!("{OPEN}{metric}{NAMED}{number}{CLOSE}")
}

/// The sentence without its definitions.
pub fn plain(sentence: &str) -> String {
    parts(sentence).map(|part| part.text).collect()
}

/// The sentence as HTML: escaped, what stands between backticks as code, numbers linked to their definitions.
pub fn prose(sentence: &str) -> String {
    let runs: Vec<String> = sentence.split('`').map(linked).collect();
    let last = runs.len() - 1;
    let run = |(at, run): (usize, &String)| match (at % 2 == 1, at == last) {
        (true, false) => format!("<code>{run}</code>"),
        // A backtick without a partner is a backtick.
        (true, true) => format!("`{run}"),
        (false, _) => run.clone(),
    };
    runs.iter().enumerate().map(run).collect()
}

struct Part<'a> {
    metric: Option<&'a str>,
    text: &'a str,
}

fn parts(sentence: &str) -> impl Iterator<Item = Part<'_>> {
    sentence.split([OPEN, CLOSE]).map(|part| match part.split_once(NAMED) {
        Some((metric, text)) => Part { metric: Some(metric), text },
        None => Part { metric: None, text: part },
    })
}

fn linked(text: &str) -> String {
    let part = |part: Part<'_>| match part.metric {
        Some(metric) => format!("<a class=\"n\" href=\"#metric-{}\">{}</a>", escape(metric), escape(part.text)),
        None => escape(part.text),
    };
    parts(text).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_or_linked() {
        let sentence = format!("`a<b` wins {} % (p {}).", defined("win_rate", "81.2"), defined("p_holm", "< 0.0001"));
        assert_eq!(plain(&sentence), "`a<b` wins 81.2 % (p < 0.0001).");
        assert_eq!(
            prose(&sentence),
            "<code>a&lt;b</code> wins <a class=\"n\" href=\"#metric-win_rate\">81.2</a> % (p <a class=\"n\" \
             href=\"#metric-p_holm\">&lt; 0.0001</a>)."
        );
    }

    #[test]
    fn code_in_sentences_is_marked_up_and_nothing_else() {
        assert_eq!(prose("`a<b` wins `c"), "<code>a&lt;b</code> wins `c");
        assert_eq!(prose("<i>plain</i>"), "&lt;i&gt;plain&lt;/i&gt;");
    }
}
