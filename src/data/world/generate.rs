//! Drawing records, demonstrations with faults at the declared rates, and pairs that differ by one fault.
//!
//! Which rows get which random stream is left to the parent.

use anyhow::{Result, bail};
use rand::Rng;
use rand::seq::SliceRandom;

use super::super::{Fact, Prompt};
use super::spec::HOLE;
use super::{FaultKind, MOST_DRAWS, World};
use crate::units::Fraction;

impl World {
    /// Draws a record: a fact for the first slot, then facts for some of the others in random order.
    #[must_use]
    pub fn record(&self, rng: &mut impl Rng) -> Vec<Fact> {
        let limits = &self.spec.record;
        let others = rng.random_range(limits.min_others.get()..=limits.max_others.get_ref().get());
        let mut slots: Vec<usize> = (1..self.spec.slots.len()).collect();
        slots.shuffle(rng);
        let chosen = std::iter::once(0).chain(slots.into_iter().take(others));
        chosen
            .map(|slot| Fact { slot: self.spec.slots[slot].name.get_ref().clone(), value: self.value(rng, slot) })
            .collect()
    }

    /// Draws a demonstration with faults at the declared rates, one that needs at most `max_tokens` (words and
    /// end-of-sequence token): longer ones are drawn again.
    ///
    /// # Errors
    /// If none of 10,000 draws is short enough.
    pub fn demonstration(&self, rng: &mut impl Rng, facts: &[Fact], max_tokens: usize) -> Result<String> {
        for _ in 0..MOST_DRAWS {
            let text = text(&self.faulty_sentences(rng, facts));
            if text.split_whitespace().count() < max_tokens {
                return Ok(text);
            }
        }
        bail!("expected a demonstration of at most {max_tokens} tokens, found none in {MOST_DRAWS} draws")
    }

    fn faulty_sentences(&self, rng: &mut impl Rng, facts: &[Fact]) -> Vec<String> {
        let faults = &self.spec.faults;
        let mut sentences = Vec::new();
        for (slot, value) in self.ordered(rng, facts) {
            if slot != 0 && happens(rng, faults.omitted.rate) {
                continue;
            }
            let value = if happens(rng, faults.wrong_value.rate) { self.other_value(rng, slot, &value) } else { value };
            let mut sentence = self.statement(rng, slot, &value);
            if happens(rng, faults.rude.rate) {
                sentence = self.rude(rng, &sentence);
            }
            sentences.push(sentence);
            if happens(rng, faults.repeated.rate) {
                sentences.push(self.statement(rng, slot, &value));
            }
            if happens(rng, faults.off_topic.rate) {
                sentences.push(self.off_topic(rng));
            }
            if happens(rng, faults.unsupported.rate) {
                sentences.push(self.unsupported(rng, facts));
            }
        }
        sentences
    }

    /// Draws `n` prompts with a response without faults and the same response with one fault of `kind`.
    #[must_use]
    pub fn single_fault_pairs(&self, rng: &mut impl Rng, kind: FaultKind, n: usize) -> Vec<(Prompt, String, String)> {
        (0..n as u64)
            .map(|id| {
                let facts = self.record(rng);
                let stated = self.ordered(rng, &facts);
                let clean: Vec<_> = stated.iter().map(|(slot, value)| self.statement(rng, *slot, value)).collect();
                let prompt = Prompt { id, text: self.prompt_text(&facts), facts };
                let faulty = self.with_fault(rng, kind, &prompt.facts, &stated, &clean);
                (prompt, text(&clean), faulty)
            })
            .collect()
    }

    fn with_fault(
        &self,
        rng: &mut impl Rng,
        kind: FaultKind,
        facts: &[Fact],
        stated: &[(usize, String)],
        clean: &[String],
    ) -> String {
        let mut sentences = clean.to_vec();
        let at = rng.random_range(0..sentences.len());
        let (slot, value) = &stated[at];
        match kind {
            FaultKind::Rude => sentences[at] = self.rude(rng, &clean[at]),
            FaultKind::OffTopic => sentences.insert(at + 1, self.off_topic(rng)),
            FaultKind::Unsupported => sentences.insert(at + 1, self.unsupported(rng, facts)),
            // The first fact is in every demonstration: to leave it out would be a fault of another look.
            FaultKind::Omitted => _ = sentences.remove(at.max(1)),
            FaultKind::Repeated => sentences.insert(at + 1, self.statement(rng, *slot, value)),
            FaultKind::WrongValue => {
                let wrong = self.other_value(rng, *slot, value);
                sentences[at] = self.statement(rng, *slot, &wrong);
            }
            FaultKind::Unfinished => {
                let words: Vec<_> = clean[at].split_whitespace().collect();
                return format!("{} {}", text(clean), words[..words.len().div_ceil(2)].join(" "));
            }
        }
        text(&sentences)
    }

    /// Slots and values of a record, the first fact first, the others in random order.
    fn ordered(&self, rng: &mut impl Rng, facts: &[Fact]) -> Vec<(usize, String)> {
        let known = facts.iter().filter_map(|fact| Some((self.slot(&fact.slot)?, fact.value.clone())));
        let mut order: Vec<_> = known.collect();
        if let Some((_, others)) = order.split_first_mut() {
            others.shuffle(rng);
        }
        order
    }

    /// A sentence that states `value`, by a random template of its slot.
    pub(super) fn statement(&self, rng: &mut impl Rng, slot: usize, value: &str) -> String {
        let template = rng.random_range(0..self.spec.slots[slot].templates.len());
        self.sentence(slot, value, template)
    }

    fn value(&self, rng: &mut impl Rng, slot: usize) -> String {
        let words = self.spec.slots[slot].values.iter().map(|list| pick(rng, list).get_ref().as_str());
        words.collect::<Vec<_>>().join(" ")
    }

    /// `value` with one of its words replaced.
    fn other_value(&self, rng: &mut impl Rng, slot: usize, value: &str) -> String {
        let mut words: Vec<_> = value.split_whitespace().collect();
        let lists = &self.spec.slots[slot].values;
        let free: Vec<_> = (0..lists.len()).filter(|i| lists[*i].len() > 1).collect();
        let at = *pick(rng, &free);
        let others: Vec<_> = lists[at].iter().map(|word| word.get_ref().as_str()).filter(|w| *w != words[at]).collect();
        words[at] = *pick(rng, &others);
        words.join(" ")
    }

    fn rude(&self, rng: &mut impl Rng, sentence: &str) -> String {
        let rude = &self.spec.faults.rude;
        if happens(rng, *rude.prefix_share.get_ref()) {
            format!("{} {sentence}", pick(rng, &rude.prefixes).get_ref())
        } else {
            format!("{sentence} {}", pick(rng, &rude.suffixes).get_ref())
        }
    }

    fn off_topic(&self, rng: &mut impl Rng) -> String {
        let off_topic = &self.spec.faults.off_topic;
        let template = off_topic.template.get_ref().clone();
        off_topic.words.iter().fold(template, |text, words| text.replacen(HOLE, pick(rng, words).get_ref(), 1))
    }

    /// A sentence on a slot that `facts` lack; the world's file leaves at least one.
    fn unsupported(&self, rng: &mut impl Rng, facts: &[Fact]) -> String {
        let lacking = |slot: &usize| facts.iter().all(|fact| fact.slot != *self.spec.slots[*slot].name.get_ref());
        let slots: Vec<_> = (0..self.spec.slots.len()).filter(lacking).collect();
        let slot = *pick(rng, &slots);
        let value = self.value(rng, slot);
        self.statement(rng, slot, &value)
    }
}

/// Sentences as one text.
fn text(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{sentence} .")).collect::<Vec<_>>().join(" ")
}

fn happens(rng: &mut impl Rng, rate: Fraction) -> bool {
    rng.random_bool(rate.get())
}

fn pick<'a, T>(rng: &mut impl Rng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}
