//! The oracle: reads a response sentence by sentence and names every fault.
//!
//! Knows the record. What annotators make of the faults is `annotator`'s.

use std::collections::BTreeSet;

use super::super::{Fact, Fault, Response};
use super::spec::Spec;
use super::{FaultKind, Statement, World};

/// A response, read.
pub(super) struct Reading<'a> {
    pub(super) sentences: Vec<Sentence<'a>>,
    /// Words after the last full stop.
    pub(super) tail: Vec<&'a str>,
    pub(super) faults: Vec<Fault>,
}

/// A sentence without its full stop.
pub(super) struct Sentence<'a> {
    /// Rude phrases before and after the core.
    pub(super) prefixes: Vec<&'a str>,
    pub(super) core: String,
    pub(super) suffixes: Vec<&'a str>,
    pub(super) statement: Option<&'a Statement>,
}

impl World {
    /// What is wrong with a response to a record, in the order of its sentences, omissions last.
    ///
    /// Takes any text: what is no sentence of this world is `off_topic`, what follows the last full stop `unfinished`.
    #[must_use]
    pub fn faults(&self, facts: &[Fact], response: &Response) -> Vec<Fault> {
        self.read(facts, response).faults
    }

    pub(super) fn read<'a>(&'a self, facts: &[Fact], response: &'a Response) -> Reading<'a> {
        let words: Vec<_> = response.text.split_whitespace().collect();
        let mut parts: Vec<_> = words.split(|word| *word == ".").collect();
        let tail = parts.pop().unwrap_or_default().to_vec();
        let sentences: Vec<_> = parts.into_iter().map(|words| self.parse_sentence(words)).collect();

        let mut faults = Vec::new();
        let mut stated = BTreeSet::new();
        for (at, sentence) in sentences.iter().enumerate() {
            let mut found = |kind: FaultKind| faults.push(Fault { kind: kind.name().to_owned(), at });
            for _ in 0..sentence.prefixes.len() + sentence.suffixes.len() {
                found(FaultKind::Rude);
            }
            let Some(statement) = sentence.statement else {
                found(FaultKind::OffTopic);
                continue;
            };
            let name = self.spec.slots[statement.slot].name.get_ref().as_str();
            match facts.iter().find(|fact| fact.slot == name) {
                None => found(FaultKind::Unsupported),
                Some(_) if !stated.insert(name) => found(FaultKind::Repeated),
                Some(fact) if fact.value != statement.value => found(FaultKind::WrongValue),
                Some(_) => {}
            }
        }
        if !tail.is_empty() || !response.finished {
            faults.push(Fault { kind: FaultKind::Unfinished.name().to_owned(), at: sentences.len() });
        }
        let omitted = facts.iter().enumerate().filter(|(_, fact)| !stated.contains(fact.slot.as_str()));
        faults.extend(omitted.map(|(at, _)| Fault { kind: FaultKind::Omitted.name().to_owned(), at }));
        Reading { sentences, tail, faults }
    }

    fn parse_sentence(&self, words: &[&str]) -> Sentence<'_> {
        let (prefixes, core, suffixes) = strip(&self.spec, words);
        let core = core.join(" ");
        Sentence { prefixes, suffixes, statement: self.statements.get(&core), core }
    }

    /// Whether a sentence begins or ends with a rude phrase.
    pub(super) fn is_marked(&self, sentence: &str) -> bool {
        let (prefixes, _, suffixes) = strip(&self.spec, &sentence.split_whitespace().collect::<Vec<_>>());
        !(prefixes.is_empty() && suffixes.is_empty())
    }
}

/// Takes rude phrases off both ends until none is left.
fn strip<'s, 'w, 't>(spec: &'s Spec, words: &'w [&'t str]) -> (Vec<&'s str>, &'w [&'t str], Vec<&'s str>) {
    let rude = &spec.faults.rude;
    let (mut prefixes, mut core, mut suffixes) = (Vec::new(), words, Vec::new());
    loop {
        let before = core.len();
        for phrase in rude.prefixes.iter().map(|phrase| phrase.get_ref().as_str()) {
            let length = phrase.split_whitespace().count();
            if core.iter().copied().take(length).eq(phrase.split_whitespace()) {
                core = &core[length..];
                prefixes.push(phrase);
            }
        }
        for phrase in rude.suffixes.iter().map(|phrase| phrase.get_ref().as_str()) {
            let start = core.len().saturating_sub(phrase.split_whitespace().count());
            if core[start..].iter().copied().eq(phrase.split_whitespace()) {
                core = &core[..start];
                suffixes.insert(0, phrase);
            }
        }
        if core.len() == before {
            return (prefixes, core, suffixes);
        }
    }
}
