//! An edit as one line for the terminal.
//!
//! Where the pieces come from (`text::Tokenizer::pieces`, [`word_pieces`](super::word_pieces)) is left to the caller.

use std::fmt::Write as _;

use super::{Diff, Label};

/// Shows an edit: deleted text red and struck through, added text green, or `[-deleted-]` and `{+added+}` without
/// colour; a substitution is a deletion followed by an addition.
///
/// `original` and `edited` hold one piece of text for each label, white space included.
#[must_use]
pub fn render(original: &[String], edited: &[String], diff: &Diff, colour: bool) -> String {
    let mut out = String::new();
    let (mut i, mut j) = (0, 0);
    while i < original.len() || j < edited.len() {
        // Changes between two unchanged items are shown as one: what went, then what came.
        let (from, to) = (i, j);
        i += diff.original[i..].iter().take_while(|label| **label != Label::U).count();
        j += diff.edited[j..].iter().take_while(|label| **label != Label::U).count();
        change(&mut out, &original[from..i].concat(), &edited[to..j].concat(), colour);
        let unchanged = diff.edited[j..].iter().take_while(|label| **label == Label::U).count();
        let paired = diff.original[i..].iter().take_while(|label| **label == Label::U).count().min(unchanged);
        for (old, new) in original[i..i + paired].iter().zip(&edited[j..j + paired]) {
            // At the start of a text, one side may lack the white space.
            out.push_str(if old.len() > new.len() { old } else { new });
        }
        (i, j) = (i + paired, j + paired);
    }
    out
}

/// Appends one change; its leading white space stays outside the marks.
fn change(out: &mut String, deleted: &str, added: &str, colour: bool) {
    let blank = |text: &str| text.len() - text.trim_start().len();
    let lead = if deleted.is_empty() { &added[..blank(added)] } else { &deleted[..blank(deleted)] };
    if !(deleted.is_empty() && added.is_empty()) {
        out.push_str(lead);
    }
    let added = if deleted.is_empty() { &added[lead.len()..] } else { added.strip_prefix(lead).unwrap_or(added) };
    let deleted = deleted.strip_prefix(lead).unwrap_or(deleted);
    let (minus, plus) =
        if colour { (("\x1b[31;9m", "\x1b[0m"), ("\x1b[32m", "\x1b[0m")) } else { (("[-", "-]"), ("{+", "+}")) };
    for (text, (open, close)) in [(deleted, minus), (added, plus)] {
        if !text.is_empty() {
            write!(out, "{open}{text}{close}").expect("a string takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{diff_words, word_pieces};
    use super::*;

    fn shown(original: &str, edited: &str, colour: bool) -> String {
        render(&word_pieces(original), &word_pieces(edited), &diff_words(original, edited), colour)
    }

    #[test]
    fn marks_without_colour() {
        assert_eq!(shown("ugh , it is near .", "it is near .", false), "[-ugh ,-] it is near .");
        assert_eq!(shown("it is cheap .", "it is dear .", false), "it is [-cheap-]{+dear+} .");
        assert_eq!(shown("it opens .", "it opens at dawn .", false), "it opens {+at dawn+} .");
        assert_eq!(shown("same", "same", false), "same");
        assert_eq!(shown("", "new", false), "{+new+}");
    }

    #[test]
    fn colour_instead_of_marks() {
        assert_eq!(shown("a b", "a c", true), "a \x1b[31;9mb\x1b[0m\x1b[32mc\x1b[0m");
    }
}
