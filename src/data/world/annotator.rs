//! The simulated annotator and editor.
//!
//! Both see the response through the same noticed faults; nothing else of the oracle reaches them. How many prompts are
//! annotated, and with which random stream, is left to the stages.

use rand::Rng;

use super::super::{Edit, Fault, Preference, Prompt, Response};
use super::{FaultKind, World};

impl World {
    /// Compares two responses as an annotator would who notices each fault with probability `notice_rate`: fewer noticed
    /// faults win, a tie is a coin flip, and with probability `label_noise` the result is recorded the wrong way round.
    #[must_use]
    pub fn annotate(
        &self,
        rng: &mut impl Rng,
        prompt: &Prompt,
        a: Response,
        b: Response,
        notice_rate: f64,
        label_noise: f64,
    ) -> Preference {
        let mut notice = |response: &Response| -> Vec<Fault> {
            self.faults(&prompt.facts, response).into_iter().filter(|_| rng.random_bool(notice_rate)).collect()
        };
        let (seen_a, seen_b) = (notice(&a), notice(&b));
        let coin = rng.random_bool(0.5);
        let flipped = rng.random_bool(label_noise);
        let a_wins = if seen_a.len() == seen_b.len() { coin } else { seen_a.len() < seen_b.len() };
        let (chosen, rejected, noticed) = if a_wins == flipped { (b, a, seen_a) } else { (a, b, seen_b) };
        Preference { prompt: prompt.clone(), chosen, rejected, noticed }
    }

    /// Edits the less preferred response as little as it takes to remove the noticed faults, and no others.
    ///
    /// Sentences that are off topic, unsupported or repeated go; rude phrases go (where fewer were noticed than a
    /// sentence has, its first ones); a wrong value is replaced; omitted facts are stated after the last full sentence;
    /// an unfinished end goes and the response ends. The result can be longer than responses are sampled.
    #[must_use]
    pub fn edit(&self, rng: &mut impl Rng, preference: &Preference) -> Edit {
        let Preference { prompt, rejected, noticed, .. } = preference;
        let reading = self.read(&prompt.facts, rejected);
        let count = |kind: FaultKind, at| noticed.iter().filter(|f| f.kind == kind.name() && f.at == at).count();
        let is_noticed = |kind, at| count(kind, at) > 0;

        let mut words: Vec<String> = Vec::new();
        for (at, sentence) in reading.sentences.iter().enumerate() {
            if [FaultKind::OffTopic, FaultKind::Unsupported, FaultKind::Repeated]
                .iter()
                .any(|kind| is_noticed(*kind, at))
            {
                continue;
            }
            let rude = count(FaultKind::Rude, at);
            words.extend(sentence.prefixes.iter().skip(rude).map(|phrase| (*phrase).to_owned()));
            words.push(match sentence.statement {
                Some(statement) if is_noticed(FaultKind::WrongValue, at) => {
                    let name = self.spec.slots[statement.slot].name.get_ref();
                    let fact = prompt.facts.iter().find(|fact| fact.slot == *name);
                    let value = fact.map_or(&statement.value, |fact| &fact.value);
                    self.sentence(statement.slot, value, statement.template)
                }
                _ => sentence.core.clone(),
            });
            let rude = rude.saturating_sub(sentence.prefixes.len());
            words.extend(sentence.suffixes.iter().skip(rude).map(|phrase| (*phrase).to_owned()));
            words.push(".".to_owned());
        }
        for (at, fact) in prompt.facts.iter().enumerate() {
            if let Some(slot) = self.slot(&fact.slot).filter(|_| is_noticed(FaultKind::Omitted, at)) {
                words.extend([self.statement(rng, slot, &fact.value), ".".to_owned()]);
            }
        }
        let ended = is_noticed(FaultKind::Unfinished, reading.sentences.len());
        if !ended {
            words.extend(reading.tail.iter().map(|word| (*word).to_owned()));
        }
        words.retain(|word| !word.is_empty());
        let edited = Response { text: words.join(" "), ids: Vec::new(), finished: rejected.finished || ended };
        Edit { prompt: prompt.clone(), original: rejected.clone(), edited, error_spans: Vec::new() }
    }
}
