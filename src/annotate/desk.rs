//! Who works on what: items, leases, drafts and answers, in memory.
//!
//! Decides and touches no file: what it grants goes to the log first, then back to it. Its clock is its caller's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::change::Labeller;
use super::item::{Item, id_of};
use crate::data::annotations::{Annotation, Answer, Category, Draft, Hunk, Line, Record, Verdict};
use crate::recipe::annotate::Config;

/// Items with all that was done to them.
pub struct Desk {
    /// What there is to annotate, in the order in which it is given out.
    pub items: Vec<Item>,
    /// What annotators are asked for.
    pub config: Config,
    /// How tokens are labelled.
    pub labeller: Arc<Labeller>,
    /// What was done so far.
    pub record: Record,
    places: HashMap<String, usize>,
    states: Vec<State>,
    disputed: BTreeSet<usize>,
    given: BTreeMap<String, usize>,
}

/// What is known of an item.
#[derive(Default)]
struct State {
    /// Places of its answers in the record.
    answers: Vec<usize>,
    leases: BTreeMap<String, Instant>,
    /// Annotators who are to answer it.
    wanted: usize,
    /// Answers so far, repeated ones and adjudications included.
    version: usize,
}

/// An item as an annotator finds it.
#[derive(Debug, Serialize)]
pub struct Opened<'a> {
    /// Its place in the order, from 0.
    pub index: usize,
    /// Its id.
    pub item: &'a str,
    /// The pair's own `id`.
    pub source: Option<String>,
    /// What was asked.
    pub prompt: &'a str,
    /// The preferred response.
    pub preferred: &'a str,
    /// The less preferred response.
    pub original: &'a str,
    /// What this answer has to say that it follows.
    pub version: usize,
    /// What the annotator has typed so far.
    pub draft: Option<&'a Draft>,
    /// What the annotator answered before.
    pub answer: Option<&'a Annotation>,
    /// Who else works on it, where no further annotator is wanted.
    pub held_by: Option<&'a str>,
}

/// What an annotator hands in.
#[derive(Clone, Debug, Deserialize)]
pub struct Submission {
    /// The item's id.
    pub item: String,
    /// The version that it follows.
    pub version: usize,
    /// What is said.
    pub answer: Answer,
    /// The edited response.
    #[serde(default)]
    pub revised: String,
    /// Whether the other response is the one that was edited.
    #[serde(default)]
    pub swapped: bool,
    /// Categories of changes.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// Why it is skipped, or a rewrite.
    #[serde(default)]
    pub reason: String,
    /// Seconds of work.
    #[serde(default)]
    pub seconds: f64,
    /// Whether it decides between others' answers.
    #[serde(default)]
    pub adjudicated: bool,
}

/// Why an answer is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// The item is none of these.
    Unknown,
    /// The answer says too little, or what cannot be.
    Invalid(String),
    /// Somebody answered meanwhile.
    Conflict {
        /// What they said.
        theirs: Box<Annotation>,
        /// The version that another try has to follow.
        version: usize,
    },
}

impl Desk {
    /// A desk with `items`, some of which were worked on before.
    #[must_use]
    pub fn new(items: Vec<Item>, config: Config, labeller: Labeller, record: Record, now: Instant) -> Self {
        let wanted = |item: &Item| {
            if item.is_shared(config.overlap.get()) { config.annotators_per_item.get() } else { 1 }
        };
        let states = items.iter().map(|item| State { wanted: wanted(item), ..State::default() }).collect();
        let places = items.iter().enumerate().map(|(place, item)| (item.id.clone(), place)).collect();
        let (labeller, disputed, given) = (Arc::new(labeller), BTreeSet::new(), BTreeMap::new());
        let mut desk = Self { items, config, labeller, record, places, states, disputed, given };
        for place in 0..desk.record.annotations.len() {
            desk.note(place);
        }
        // Whoever was in the middle of something goes on with it.
        let begun: Vec<(String, String)> = desk.record.drafts.keys().cloned().collect();
        for (item, annotator) in begun {
            if let Some(&index) = desk.places.get(&item) {
                desk.lease(index, &annotator, now);
            }
        }
        desk
    }

    /// Answers that all items together take.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.states.iter().map(|state| state.wanted).sum()
    }

    /// The place of the item `id`.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// Answers to the item at `index`, the adjudication last.
    #[must_use]
    pub fn answers(&self, index: usize) -> Vec<&Annotation> {
        let answers = self.states[index].answers.iter().map(|&place| &self.record.annotations[place]);
        let mut answers: Vec<_> = answers.collect();
        answers.sort_by_key(|answer| answer.adjudicated);
        answers
    }

    fn note(&mut self, place: usize) {
        let annotation = &self.record.annotations[place];
        let Some(&index) = self.places.get(&annotation.item) else { return };
        let state = &mut self.states[index];
        if !state.answers.contains(&place) {
            state.answers.push(place);
            if !annotation.adjudicated {
                *self.given.entry(annotation.annotator.clone()).or_default() += 1;
            }
        }
        state.version = state.version.max(annotation.version);
        if !annotation.adjudicated {
            state.leases.remove(&annotation.annotator);
        }
        if self.is_disputed(index) {
            self.disputed.insert(index);
        } else {
            self.disputed.remove(&index);
        }
    }

    /// Answers given so far, by annotator; adjudications not counted.
    #[must_use]
    pub const fn given(&self) -> &BTreeMap<String, usize> {
        &self.given
    }

    fn lease(&mut self, index: usize, who: &str, now: Instant) {
        let until = now + Duration::from_secs(60 * self.config.lease_minutes.get() as u64);
        self.states[index].leases.insert(who.to_owned(), until);
    }

    /// What `who` answered to the item at `index`.
    fn own(&self, index: usize, who: &str) -> Option<&Annotation> {
        self.answers(index).into_iter().find(|answer| !answer.adjudicated && answer.annotator == who)
    }

    /// Who else works on an item that takes no further annotator; answers count like leases.
    fn holder(&self, index: usize, who: &str, now: Instant) -> Option<&str> {
        let state = &self.states[index];
        let answers = self.answers(index).into_iter().filter(|answer| !answer.adjudicated);
        let answered: Vec<&str> = answers.map(|answer| answer.annotator.as_str()).collect();
        let at_work = state.leases.iter().filter(|(name, until)| **until > now && !answered.contains(&name.as_str()));
        let mut others: Vec<&str> = at_work.map(|(name, _)| name.as_str()).chain(answered.iter().copied()).collect();
        others.retain(|name| *name != who);
        if others.len() >= state.wanted { others.first().copied() } else { None }
    }

    /// The item that `who` is to work on after the one at `after`: one that they began, else the first that is free; leased.
    pub fn next(&mut self, who: &str, after: Option<usize>, now: Instant) -> Option<usize> {
        let free = |desk: &Self, index: usize| {
            Some(index) != after && desk.own(index, who).is_none() && desk.holder(index, who, now).is_none()
        };
        let drafts = self.record.drafts.keys().filter(|(_, annotator)| annotator == who);
        let begun = drafts.filter_map(|(item, _)| self.place(item)).filter(|&index| free(self, index)).min();
        let (count, start) = (self.items.len(), after.map_or(0, |after| after + 1));
        let found = begun.or_else(|| (0..count).map(|i| (start + i) % count).find(|&index| free(self, index)))?;
        self.lease(found, who, now);
        Some(found)
    }

    /// Gives the item at `index` back.
    pub fn release(&mut self, index: usize, who: &str) {
        self.states[index].leases.remove(who);
    }

    /// The item at `index` as `who` finds it; leased, unless nobody else is wanted there.
    pub fn open(&mut self, index: usize, who: &str, now: Instant) -> Opened<'_> {
        if self.holder(index, who, now).is_none() && self.own(index, who).is_none() {
            self.lease(index, who, now);
        }
        let item = &self.items[index];
        Opened {
            index,
            item: &item.id,
            source: item.source.as_ref().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
            prompt: &item.prompt,
            preferred: &item.preferred.text,
            original: &item.original.text,
            version: self.version(index, who, false),
            draft: self.record.drafts.get(&(item.id.clone(), who.to_owned())),
            answer: self.own(index, who),
            held_by: self.holder(index, who, now),
        }
    }

    /// What an answer by `who` has to follow: where several annotators are wanted, only their own answers count.
    #[must_use]
    pub fn version(&self, index: usize, who: &str, adjudicated: bool) -> usize {
        if self.states[index].wanted > 1 && !adjudicated {
            return self.own(index, who).map_or(0, |own| own.version);
        }
        self.states[index].version
    }

    /// The answer that `submission` comes to.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn judge(&self, submission: &Submission, who: &str, time: String) -> Result<Annotation, Refusal> {
        let index = self.place(&submission.item).ok_or(Refusal::Unknown)?;
        let version = self.version(index, who, submission.adjudicated);
        if version != submission.version
            && let Some(theirs) = self.answers(index).into_iter().max_by_key(|answer| answer.version)
        {
            return Err(Refusal::Conflict { theirs: Box::new(theirs.clone()), version });
        }
        let item = &self.items[index];
        let (chosen, rejected) =
            if submission.swapped { (&item.original, &item.preferred) } else { (&item.preferred, &item.original) };
        let revised = match submission.answer {
            Answer::Edited => Some(submission.revised.clone()),
            Answer::Good => Some(rejected.text.clone()),
            Answer::Skipped => None,
        };
        let change = revised.as_ref().map(|revised| self.labeller.change(rejected, revised));
        let share_changed = change.as_ref().map_or(0.0, |change| change.share_changed);
        self.refuse(submission, &rejected.text, share_changed).map_or(Ok(()), |why| Err(Refusal::Invalid(why)))?;
        let role = if submission.adjudicated { "adjudication" } else { who };
        let words_changed = change.as_ref().map_or(0, |change| change.words_changed);
        let (mut hunks, tokens) = change.map_or((Vec::new(), None), |change| (change.hunks, Some(change.tokens)));
        assign(&mut hunks, &submission.categories);
        Ok(Annotation {
            id: id_of(&[&item.id, role]),
            item: item.id.clone(),
            source: item.source.clone(),
            annotator: who.to_owned(),
            version: self.states[index].version + 1,
            adjudicated: submission.adjudicated,
            time,
            seconds: submission.seconds.clamp(0.0, 1e6),
            guideline: self.config.guideline.clone(),
            answer: submission.answer,
            reason: submission.reason.trim().to_owned(),
            preference: if submission.swapped { Verdict::Corrected } else { Verdict::Kept },
            prompt: item.prompt.clone(),
            chosen: chosen.text.clone(),
            rejected: rejected.text.clone(),
            revised,
            rejected_ids: rejected.ids.clone(),
            rejected_finished: rejected.finished,
            words_changed,
            share_changed,
            hunks,
            tokens,
        })
    }

    /// What is wrong with an answer.
    fn refuse(&self, submission: &Submission, original: &str, share: f64) -> Option<String> {
        let without_reason = submission.reason.trim().is_empty();
        let most = self.config.rewrite_share.get();
        match submission.answer {
            Answer::Skipped if without_reason => return Some("to skip an item, say why".to_owned()),
            Answer::Edited if submission.revised.trim().is_empty() => {
                return Some("nothing is left of the response: skip it with a reason, or leave some text".to_owned());
            }
            Answer::Edited if submission.revised == original => {
                return Some("nothing was changed: if it needs no edit, answer `already good`".to_owned());
            }
            Answer::Edited if share > most && without_reason => {
                return Some(format!(
                    "{:.0} % of the words were changed, more than {:.0} %: that is a rewrite, not an edit, and needs a reason",
                    100.0 * share,
                    100.0 * most
                ));
            }
            _ => {}
        }
        let unknown = submission.categories.iter().find(|chosen| !self.config.categories.contains(&chosen.category))?;
        Some(format!(
            "expected one of the categories `{}`, found `{}`",
            self.config.categories.join("`, `"),
            unknown.category
        ))
    }

    /// Takes in a line that was written down.
    pub fn take(&mut self, line: Line, now: Instant) {
        match line {
            Line::Session(_) => self.record.add(line),
            Line::Draft(draft) => {
                if let Some(index) = self.place(&draft.item)
                    && self.own(index, &draft.annotator).is_none()
                    && self.holder(index, &draft.annotator, now).is_none()
                {
                    self.lease(index, &draft.annotator, now);
                }
                self.record.add(Line::Draft(draft));
            }
            Line::Annotation(annotation) => {
                let id = annotation.id.clone();
                self.record.add(Line::Annotation(annotation));
                let place = self.record.annotations.iter().rposition(|known| known.id == id);
                self.note(place.expect("it was just added"));
            }
        }
    }

    /// Places of items on whose answers annotators differ and nobody has decided since.
    #[must_use]
    pub const fn disputed(&self) -> &BTreeSet<usize> {
        &self.disputed
    }

    fn is_disputed(&self, index: usize) -> bool {
        let answers = self.answers(index);
        let decided =
            answers.iter().filter(|answer| answer.adjudicated).map(|answer| answer.version).max().unwrap_or(0);
        let said: Vec<_> =
            answers.into_iter().filter(|answer| !answer.adjudicated && answer.answer != Answer::Skipped).collect();
        said.iter().any(|answer| answer.version > decided)
            && said.windows(2).any(|two| (&two[0].revised, &two[0].rejected) != (&two[1].revised, &two[1].rejected))
    }
}

/// Gives each change the category that was chosen for it: by its place in the original, else by a place that it touches.
fn assign(hunks: &mut [Hunk], categories: &[Category]) {
    for hunk in hunks {
        let [from, to] = hunk.original.chars;
        let touches = |chosen: &&Category| chosen.chars[0] <= to && from <= chosen.chars[1];
        let exact = categories.iter().find(|chosen| chosen.chars == hunk.original.chars);
        hunk.category = exact.or_else(|| categories.iter().find(touches)).map(|chosen| chosen.category.clone());
    }
}

#[cfg(test)]
mod tests;
