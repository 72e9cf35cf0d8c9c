//! The simulated annotator's finer marks: error spans and word scores of the less preferred response.
//!
//! They say what the editor's edit says, by the same noticed faults and no others: what was not noticed is not marked.

use std::ops::Range;

use super::super::{ErrorSpan, Preference, WordScores};
use super::oracle::{Reading, Sentence};
use super::{FaultKind, World};

/// A noticed fault, and the words of the response that it is about; an empty range is about what is missing.
struct Mark {
    kind: FaultKind,
    words: Range<usize>,
}

impl World {
    /// Marks the noticed faults of the less preferred response, each by its kind.
    ///
    /// A sentence that is off topic, unsupported or repeated is marked as a whole, of a wrong value the words that differ,
    /// of a rude sentence the phrases. What is missing is an empty span at the end.
    #[must_use]
    pub fn mark(&self, preference: &Preference) -> Vec<ErrorSpan> {
        let text = &preference.rejected.text;
        let (words, end) = (word_spans(text), text.chars().count());
        let span = |range: Range<usize>| {
            let bounds = words.get(range.start).zip(words.get(range.end.wrapping_sub(1)));
            bounds.filter(|_| !range.is_empty()).map_or([end, end], |(first, last)| [first[0], last[1]])
        };
        let marks = self.marks(preference, &self.read(&preference.prompt.facts, &preference.rejected));
        marks.into_iter().map(|mark| ErrorSpan { kind: mark.kind.name().to_owned(), span: span(mark.words) }).collect()
    }

    /// Scores every word of the less preferred response: 0 in a noticed fault, 2 in what else states a fact, 1 elsewhere;
    /// its end 0 where something is missing, else 2; as a whole, 2 less a point for each noticed fault, down to 0.
    #[must_use]
    pub fn score(&self, preference: &Preference) -> WordScores {
        let reading = self.read(&preference.prompt.facts, &preference.rejected);
        let mut scores = vec![1; preference.rejected.text.split_whitespace().count()];
        for (sentence, start) in reading.sentences.iter().zip(starts(&reading)) {
            if sentence.statement.is_some() {
                let from = start + count(&sentence.prefixes);
                scores[from..from + core_words(sentence)].fill(2);
            }
        }
        let mut end = 2;
        for mark in self.marks(preference, &reading) {
            if mark.words.is_empty() || mark.kind == FaultKind::Unfinished {
                end = 0;
            }
            scores[mark.words].fill(0);
        }
        let sentence = 2_u8.saturating_sub(u8::try_from(preference.noticed.len()).unwrap_or(u8::MAX));
        WordScores { words: scores, end: Some(end), sentence }
    }

    fn marks(&self, preference: &Preference, reading: &Reading) -> Vec<Mark> {
        let starts: Vec<usize> = starts(reading).collect();
        let total = preference.rejected.text.split_whitespace().count();
        // Of several rude phrases in a sentence the editor takes out the first ones.
        let mut phrases: Vec<_> = reading.sentences.iter().map(|sentence| rude(sentence).into_iter()).collect();
        let mut marks = Vec::new();
        for fault in &preference.noticed {
            let Some(kind) = FaultKind::named(&fault.kind) else { continue };
            let sentence = reading.sentences.get(fault.at).zip(starts.get(fault.at));
            let words = match (kind, sentence) {
                (FaultKind::Unfinished, _) => total - reading.tail.len()..total,
                (FaultKind::Omitted, _) | (_, None) => total..total,
                (FaultKind::Rude, Some((_, start))) => {
                    let Some(phrase) = phrases[fault.at].next() else { continue };
                    start + phrase.start..start + phrase.end
                }
                (FaultKind::WrongValue, Some((sentence, start))) => {
                    let from = start + count(&sentence.prefixes);
                    let wrong = self.wrong_words(preference, sentence);
                    from + wrong.start..from + wrong.end
                }
                (_, Some((sentence, start))) => *start..start + length(sentence),
            };
            marks.push(Mark { kind, words });
        }
        marks
    }

    /// Words of the core by which it differs from the same statement with the record's value.
    fn wrong_words(&self, preference: &Preference, sentence: &Sentence) -> Range<usize> {
        let whole = 0..core_words(sentence);
        let Some(statement) = sentence.statement else { return whole };
        let name = self.spec.slots[statement.slot].name.get_ref();
        let Some(fact) = preference.prompt.facts.iter().find(|fact| fact.slot == *name) else { return whole };
        let right = self.sentence(statement.slot, &fact.value, statement.template);
        let pairs = sentence.core.split_whitespace().zip(right.split_whitespace());
        let differing: Vec<usize> =
            pairs.enumerate().filter(|(_, (found, right))| found != right).map(|(i, _)| i).collect();
        differing.first().zip(differing.last()).map_or(whole, |(first, last)| *first..last + 1)
    }
}

/// Where each sentence's words begin.
fn starts<'r>(reading: &'r Reading) -> impl Iterator<Item = usize> + 'r {
    reading.sentences.iter().scan(0, |next, sentence| {
        let start = *next;
        *next += length(sentence);
        Some(start)
    })
}

/// Words of a sentence, its full stop among them.
fn length(sentence: &Sentence) -> usize {
    count(&sentence.prefixes) + core_words(sentence) + count(&sentence.suffixes) + 1
}

fn core_words(sentence: &Sentence) -> usize {
    sentence.core.split_whitespace().count()
}

fn count(phrases: &[&str]) -> usize {
    phrases.iter().map(|phrase| phrase.split_whitespace().count()).sum()
}

/// The words of each rude phrase, counted from the sentence's first.
fn rude(sentence: &Sentence) -> Vec<Range<usize>> {
    let after = count(&sentence.prefixes) + core_words(sentence);
    let ranges = |from: usize, phrases: &[&str]| {
        let phrase = |next: &mut usize, phrase: &&str| {
            let start = *next;
            *next += phrase.split_whitespace().count();
            Some(start..*next)
        };
        phrases.iter().scan(from, phrase).collect::<Vec<_>>()
    };
    [ranges(0, &sentence.prefixes), ranges(after, &sentence.suffixes)].concat()
}

/// Characters of every run of non-white-space.
fn word_spans(text: &str) -> Vec<[usize; 2]> {
    let mut spans: Vec<[usize; 2]> = Vec::new();
    let mut inside = false;
    for (at, c) in text.chars().enumerate() {
        match (c.is_whitespace(), inside) {
            (false, false) => spans.push([at, at + 1]),
            (false, true) => {
                if let Some(last) = spans.last_mut() {
                    last[1] = at + 1;
                }
            }
            (true, _) => {}
        }
        inside = !c.is_whitespace();
    }
    spans
}
