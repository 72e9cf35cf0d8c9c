//! The changes of an edit as places in both texts: what people see, click on and put back.
//!
//! The alignment is that of the word unit, white space between unchanged words included, so that putting every change back
//! gives the original, byte for byte. No place cuts through a character as people see it (a letter with its marks, an emoji of
//! several code points).

use unicode_segmentation::UnicodeSegmentation;

use super::{Diff, Label, Word, diff_words, words};

/// A place in a text: half-open, empty where there is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Code points.
    pub chars: [usize; 2],
    /// Bytes of UTF-8.
    pub utf8: [usize; 2],
}

impl Span {
    /// The piece of `text` that stands there.
    ///
    /// # Panics
    /// When it is a place in another text.
    #[must_use]
    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        &text[self.utf8[0]..self.utf8[1]]
    }
}

/// A change: a place in the original, and what stands in the edited text instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// In the original.
    pub original: Span,
    /// In the edited text.
    pub edited: Span,
}

/// The changes between two texts, in order, with the alignment of their words.
#[must_use]
pub fn hunks(original: &str, edited: &str) -> (Diff, Vec<Hunk>) {
    let diff = diff_words(original, edited);
    let (a, b) = (words(original), words(edited));
    let (old, new) = (Text::new(original), Text::new(edited));
    let unchanged = |labels: &[Label]| -> Vec<usize> {
        labels.iter().enumerate().filter(|(_, label)| **label == Label::U).map(|(i, _)| i).collect()
    };
    // Unchanged words pair up in order; between two of them, everything is one change or none.
    let pairs = unchanged(&diff.original).into_iter().zip(unchanged(&diff.edited));
    let pairs = pairs.map(|(i, j)| Some((&a[i], &b[j]))).chain([None]);
    let (mut from, mut found) = ([0, 0], Vec::new());
    for pair in pairs {
        let (to, next) = match pair {
            Some((x, y)) => {
                let marks = leading_marks(x);
                ([x.span.0 + marks, y.span.0 + marks], [x.span.1, y.span.1])
            }
            None => ([old.len(), new.len()], [0, 0]),
        };
        found.extend(trimmed(&old, &new, from, to));
        from = next;
    }
    (diff, found)
}

/// A text, with the bytes at which its code points begin.
struct Text<'a> {
    text: &'a str,
    bytes: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, bytes: text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect() }
    }

    const fn len(&self) -> usize {
        self.bytes.len() - 1
    }

    fn span(&self, from: usize, to: usize) -> Span {
        Span { chars: [from, to], utf8: [self.bytes[from], self.bytes[to]] }
    }

    fn piece(&self, from: usize, to: usize) -> &'a str {
        &self.text[self.bytes[from]..self.bytes[to]]
    }
}

/// Code points at the start of a word that belong to the character before it: combining marks after white space.
fn leading_marks(word: &Word) -> usize {
    let with_space = format!(" {}", word.text);
    let first = with_space.graphemes(true).next().map_or(1, |first| first.chars().count());
    (first - 1).min(word.span.1 - word.span.0)
}

/// The change between two unchanged words, without the white space that both sides have; none where nothing differs.
fn trimmed(old: &Text, new: &Text, from: [usize; 2], to: [usize; 2]) -> Option<Hunk> {
    let [mut start, mut end] = [from, [to[0].max(from[0]), to[1].max(from[1])]];
    let (a, b) = (old.piece(start[0], end[0]), new.piece(start[1], end[1]));
    if a == b {
        return None;
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (a.graphemes(true).collect(), b.graphemes(true).collect());
    let is_blank = |(x, y): &(&&str, &&str)| x == y && x.chars().all(char::is_whitespace);
    let count = |blank: Vec<(&&str, &&str)>| (blank.len(), blank.iter().map(|(x, _)| x.chars().count()).sum::<usize>());
    let (graphemes, lead) = count(a.iter().zip(&b).take_while(is_blank).collect());
    let (_, trail) = count(a[graphemes..].iter().rev().zip(b[graphemes..].iter().rev()).take_while(is_blank).collect());
    for side in 0..2 {
        start[side] += lead;
        end[side] -= trail;
    }
    Some(Hunk { original: old.span(start[0], end[0]), edited: new.span(start[1], end[1]) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The edited text with one change put back.
    fn put_back(original: &str, edited: &str, hunk: &Hunk) -> String {
        let [from, to] = hunk.edited.utf8;
        [&edited[..from], hunk.original.of(original), &edited[to..]].concat()
    }

    fn pieces<'a>(original: &'a str, edited: &'a str) -> Vec<(&'a str, &'a str)> {
        hunks(original, edited).1.iter().map(|hunk| (hunk.original.of(original), hunk.edited.of(edited))).collect()
    }

    #[test]
    fn changes_are_words_or_white_space() {
        assert_eq!(pieces("it is cheap .", "it is near ."), [("cheap", "near")]);
        assert_eq!(pieces("ugh , it is", "it is"), [("ugh , ", "")]);
        assert_eq!(pieces("a b c", "a c"), [("b ", "")]);
        assert_eq!(pieces("a c", "a b c"), [("", "b ")]);
        assert_eq!(pieces("a b", "a  b"), [("", " ")]);
        assert_eq!(pieces("a b", "a\nb"), [(" ", "\n")]);
        assert_eq!(pieces("end", "end\n"), [("", "\n")]);
        assert_eq!(pieces("", "new"), [("", "new")]);
        assert_eq!(pieces("same", "same"), []);
    }

    #[test]
    fn places_are_counted_in_code_points_and_bytes() {
        let (original, edited) = ("é 👩‍🚀 flies", "é 👨‍🚀 flies");
        let (_, found) = hunks(original, edited);
        assert_eq!(found[0].original, Span { chars: [2, 5], utf8: [3, 14] });
        assert_eq!(found[0].edited.of(edited), "👨‍🚀");
        // A combining mark that follows white space belongs to it.
        assert_eq!(pieces("a \u{301}b", "a x \u{301}b"), [(" \u{301}", " x \u{301}")]);
        // Letter and mark change together, however they are composed.
        assert_eq!(pieces("cafe\u{301} au lait", "café au lait"), [("cafe\u{301}", "café")]);
    }

    proptest! {
        #[test]
        fn putting_everything_back_gives_the_original(
            original in "[ab \n\u{301}\u{200d}👩🚀]{0,14}", edited in "[ab \n\u{301}\u{200d}👩🚀]{0,14}"
        ) {
            let (_, found) = hunks(&original, &edited);
            let mut text = edited.clone();
            for hunk in found.iter().rev() {
                text = put_back(&original, &text, hunk);
            }
            prop_assert_eq!(&text, &original);
            prop_assert_eq!(found.is_empty(), original == edited);
            for text in [(&original, 0), (&edited, 1)] {
                let ends: Vec<usize> = text.0.grapheme_indices(true).map(|(at, _)| at).chain([text.0.len()]).collect();
                for hunk in &found {
                    let span = if text.1 == 0 { hunk.original } else { hunk.edited };
                    prop_assert!(span.utf8.iter().all(|at| ends.contains(at)), "{:?} in {:?}", span, text.0);
                }
            }
        }
    }
}
