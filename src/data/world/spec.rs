//! A world file as written: slots, values, templates, faults and their rates; loading and checking it.
//!
//! What the numbers do is left to the other files of this folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::units::{Count, Fraction};

/// A world file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) prompt_end: Spanned<String>,
    pub(super) record: Record,
    pub(super) slots: Vec<Slot>,
    pub(super) faults: Faults,
}

/// `[record]`: how many slots join the first one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) min_others: Count,
    pub(super) max_others: Spanned<Count>,
}

/// An entry of `[[slots]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slot {
    pub(super) name: Spanned<String>,
    /// A value is one word from each list.
    pub(super) values: Vec<Vec<Spanned<String>>>,
    pub(super) templates: Vec<Spanned<String>>,
}

/// `[faults]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Faults {
    pub(super) rude: Rude,
    pub(super) off_topic: OffTopic,
    pub(super) unsupported: Rate,
    pub(super) omitted: Rate,
    pub(super) repeated: Rate,
    pub(super) wrong_value: Rate,
}

/// `[faults.rude]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rude {
    pub(super) rate: Fraction,
    pub(super) prefix_share: Spanned<Fraction>,
    pub(super) prefixes: Vec<Spanned<String>>,
    pub(super) suffixes: Vec<Spanned<String>>,
}

/// `[faults.off_topic]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OffTopic {
    pub(super) rate: Fraction,
    pub(super) template: Spanned<String>,
    pub(super) words: Vec<Vec<Spanned<String>>>,
}

/// A fault that has only a rate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) rate: Fraction,
}

/// Something wrong with a world file, and the bytes of the file that say it.
pub(super) type Wrong = (Range<usize>, String);

/// Values of a slot beyond which its sentences are too many to list.
const MOST_VALUES: usize = 10_000;

/// The mark in templates.
pub(super) const HOLE: &str = "{}";

impl Spec {
    /// Parses and checks the text of a world file.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let spec: Self = toml::from_str(text)
            .map_err(|error| (error.span().unwrap_or_default(), error.message().trim_end().to_owned()))?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), Wrong> {
        one_word(&self.prompt_end, "`prompt_end`")?;
        let others = self.slots.len().saturating_sub(1);
        let (min, max) = (self.record.min_others.get(), self.record.max_others.get_ref().get());
        if max < min || max >= others {
            return Err((
                self.record.max_others.span(),
                format!(
                    "expected `max_others` of at least `min_others` ({min}) and below the number of other slots \
                     ({others}), found {max}"
                ),
            ));
        }
        let mut taken = BTreeMap::new();
        let mut names = BTreeSet::new();
        for slot in &self.slots {
            if !names.insert(slot.name.get_ref()) {
                return Err((
                    slot.name.span(),
                    format!("expected slots of different names, found `{}` twice", slot.name.get_ref()),
                ));
            }
            slot.check(&mut taken)?;
        }
        self.faults.check()
    }

    /// Every word that the world can produce, in order of first appearance.
    pub(super) fn words(&self) -> Vec<String> {
        let slots = self.slots.iter().flat_map(|slot| slot.values.iter().flatten().chain(&slot.templates));
        let rude = self.faults.rude.prefixes.iter().chain(&self.faults.rude.suffixes);
        let off_topic = self.faults.off_topic.words.iter().flatten().chain([&self.faults.off_topic.template]);
        let all = [&self.prompt_end].into_iter().chain(slots).chain(rude).chain(off_topic);
        let mut seen = BTreeSet::new();
        let words = all.flat_map(|text| text.get_ref().split_whitespace()).filter(|word| *word != HOLE);
        std::iter::once(".").chain(words).filter(|word| seen.insert(*word)).map(str::to_owned).collect()
    }
}

impl Slot {
    /// `taken` maps words to the slots that have them.
    fn check<'a>(&'a self, taken: &mut BTreeMap<&'a str, &'a str>) -> Result<(), Wrong> {
        let name = self.name.get_ref().as_str();
        let combinations =
            self.values.iter().try_fold(1usize, |n, words| n.checked_mul(words.len())).unwrap_or(usize::MAX);
        if self.values.is_empty() || !(2..=MOST_VALUES).contains(&combinations) {
            let message = format!("expected 2 to {MOST_VALUES} values of slot `{name}`, found {combinations}");
            return Err((self.name.span(), message));
        }
        for word in self.values.iter().flatten() {
            one_word(word, "a value's word")?;
            if let Some(owner) = taken.insert(word.get_ref(), name) {
                let message = format!(
                    "expected words that stand for one value, found `{}` in slot `{owner}` too",
                    word.get_ref()
                );
                return Err((word.span(), message));
            }
        }
        if self.templates.is_empty() {
            return Err((self.name.span(), format!("expected at least one template of slot `{name}`, found none")));
        }
        self.templates.iter().try_for_each(|template| holes(template, 1))
    }
}

impl Faults {
    fn check(&self) -> Result<(), Wrong> {
        let share = self.rude.prefix_share.get_ref().get();
        for (needed, phrases, list) in
            [(share > 0.0, &self.rude.prefixes, "prefixes"), (share < 1.0, &self.rude.suffixes, "suffixes")]
        {
            if needed && phrases.is_empty() {
                let message = format!("expected `{list}` to choose from with `prefix_share = {share}`, found none");
                return Err((self.rude.prefix_share.span(), message));
            }
        }
        for phrase in self.rude.prefixes.iter().chain(&self.rude.suffixes) {
            if phrase.get_ref().trim().is_empty() {
                return Err((phrase.span(), "expected a phrase, found an empty string".to_owned()));
            }
            holes(phrase, 0)?;
        }
        for words in &self.off_topic.words {
            if words.is_empty() {
                let message = "expected words in every list of `faults.off_topic.words`, found an empty one";
                return Err((self.off_topic.template.span(), message.to_owned()));
            }
            words.iter().try_for_each(|word| one_word(word, "a word of `faults.off_topic.words`"))?;
        }
        holes(&self.off_topic.template, self.off_topic.words.len())
    }
}

fn one_word(word: &Spanned<String>, what: &str) -> Result<(), Wrong> {
    let text = word.get_ref();
    if text.split_whitespace().collect::<Vec<_>>() == [text.as_str()] && text != "." && text != HOLE {
        return Ok(());
    }
    Err((word.span(), format!("expected {what} to be one word, found `{text}`")))
}

fn holes(template: &Spanned<String>, expected: usize) -> Result<(), Wrong> {
    let words: Vec<_> = template.get_ref().split_whitespace().collect();
    let found = words.iter().filter(|word| **word == HOLE).count();
    if words.contains(&".") {
        return Err((template.span(), format!("expected a template without `.`, found `{}`", template.get_ref())));
    }
    if found != expected {
        let message = format!("expected {expected} `{{}}` in `{}`, found {found}", template.get_ref());
        return Err((template.span(), message));
    }
    Ok(())
}
