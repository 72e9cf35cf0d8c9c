//! The simulated world: records, sentences with faults, an oracle, an annotator, an editor.
//!
//! Everything about a world stands in its file; here is only what the declarations do. The oracle is for annotators and
//! judges: that no reward model sees it is left to the stages.

mod annotator;
mod generate;
mod marks;
mod oracle;
mod spec;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::spec::{HOLE, Spec, Wrong};
use super::{Config, Dataset, Demonstration, Fact, Prompt, Split};

/// What can be wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A rude prefix or suffix of a sentence; each counts.
    Rude,
    /// A sentence that states nothing about any slot.
    OffTopic,
    /// A sentence on a slot that the record lacks.
    Unsupported,
    /// A fact that no sentence states.
    Omitted,
    /// A sentence on a slot that was stated before.
    Repeated,
    /// A sentence that states another value than the record's.
    WrongValue,
    /// No full stop after the last sentence, or no end-of-sequence token.
    Unfinished,
}

impl FaultKind {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Self; 7] = [
        Self::Rude,
        Self::OffTopic,
        Self::Unsupported,
        Self::Omitted,
        Self::Repeated,
        Self::WrongValue,
        Self::Unfinished,
    ];

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in world files and in [`Fault::kind`](super::Fault).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rude => "rude",
            Self::OffTopic => "off_topic",
            Self::Unsupported => "unsupported",
            Self::Omitted => "omitted",
            Self::Repeated => "repeated",
            Self::WrongValue => "wrong_value",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A world, ready to generate and to judge.
#[derive(Clone, Debug)]
pub struct World {
    spec: Spec,
    /// Every sentence that states something, without its full stop.
    statements: HashMap<String, Statement>,
}

/// What a sentence states.
#[derive(Clone, Debug)]
struct Statement {
    /// Index of the slot.
    slot: usize,
    value: String,
    /// Index of the slot's template.
    template: usize,
}

/// Draws after which a row that fits is given up.
const MOST_DRAWS: usize = 10_000;

impl World {
    /// Reads a world file.
    ///
    /// # Errors
    /// If the file can't be read, or with its line and what was expected.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read world `{shown}`"))?;
        ensure!(!text.trim().is_empty(), "`{shown}`: expected a world in TOML, found an empty file");
        Self::parse(&text).map_err(|(at, message)| {
            let before = &text[..at.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            anyhow!("`{shown}`, line {line}, column {column}: {message}")
        })
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut world = Self { spec: Spec::parse(text)?, statements: HashMap::new() };
        for slot in 0..world.spec.slots.len() {
            for value in world.values(slot) {
                for (template, written) in world.spec.slots[slot].templates.iter().enumerate() {
                    let sentence = world.sentence(slot, &value, template);
                    let statement = Statement { slot, value: value.clone(), template };
                    if world.is_marked(&sentence) || world.statements.insert(sentence.clone(), statement).is_some() {
                        let message = format!("expected a sentence of one meaning, found `{sentence}` with two");
                        return Err((written.span(), message));
                    }
                }
            }
        }
        Ok(world)
    }

    /// Every word that prompts and responses can hold, in order of first appearance: a tokenizer's closed vocabulary.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        self.spec.words()
    }

    /// Generates demonstrations and the prompts of the three splits.
    ///
    /// Every row has a random stream of its own, and the split of a prompt is a function of its text: a count says only
    /// how many rows there are, not what is in them, and no text is in two splits, whatever the counts and seeds.
    ///
    /// # Errors
    /// If the longest prompt does not fit into `max_prompt_tokens`, no response into `max_response_tokens`, or the world
    /// is too small to be split.
    pub fn dataset(&self, config: &Config) -> Result<Dataset> {
        self.check_lengths(config)?;
        let prompts = |split, count: usize| -> Result<Vec<_>> {
            (0..count as u64).map(|i| self.prompt_in(split, &mut row(config.seed, split_name(split), i), i)).collect()
        };
        let demonstrations = (0..config.demonstrations.get() as u64).map(|i| {
            let mut rng = row(config.seed, "demonstration", i);
            let prompt = self.prompt_in(Split::Train, &mut rng, i)?;
            let response = self.demonstration(&mut rng, &prompt.facts, config.max_response_tokens.get())?;
            Ok(Demonstration { prompt: prompt.text, response, said: Vec::new() })
        });
        Ok(Dataset {
            demonstrations: demonstrations.collect::<Result<_>>()?,
            train: prompts(Split::Train, config.train_prompts.get())?,
            validation: prompts(Split::Validation, config.validation_prompts.get())?,
            test: prompts(Split::Test, config.test_prompts.get())?,
            ..Dataset::default()
        })
    }

    /// Draws records until one belongs to `split`.
    fn prompt_in(&self, split: Split, rng: &mut ChaCha8Rng, row: u64) -> Result<Prompt> {
        for _ in 0..MOST_DRAWS {
            let facts = self.record(rng);
            let text = self.prompt_text(&facts);
            if split_of(&text) == split {
                return Ok(Prompt { id: first_id(split) + row, text, facts });
            }
        }
        bail!("expected a world with prompts enough for three splits, found none for `{}`", split_name(split))
    }

    fn check_lengths(&self, config: &Config) -> Result<()> {
        let mut others: Vec<_> = self.spec.slots[1..].iter().map(|slot| slot.values.len()).collect();
        others.sort_unstable();
        let most = self.spec.record.max_others.get_ref().get();
        let longest = 2 + self.spec.slots[0].values.len() + others.iter().rev().take(most).sum::<usize>();
        let given = config.max_prompt_tokens.get();
        ensure!(
            longest <= given,
            "expected `dataset.max_prompt_tokens` of at least {longest} (this world's longest prompt), found {given}"
        );
        let shortest = |slot: &spec::Slot| {
            let words = |template: &str| template.split_whitespace().count() + slot.values.len();
            slot.templates.iter().map(|template| words(template.get_ref())).min().unwrap_or(0)
        };
        let mut others: Vec<_> = self.spec.slots[1..].iter().map(shortest).collect();
        others.sort_unstable();
        let needed = 1 + shortest(&self.spec.slots[0]) + others.iter().rev().take(most).sum::<usize>();
        let given = config.max_response_tokens.get();
        ensure!(
            needed <= given,
            "expected `dataset.max_response_tokens` of at least {needed} (the shortest full response to this world's \
             longest record), found {given}"
        );
        Ok(())
    }

    /// The prompt of a record: its values and the end mark.
    #[must_use]
    pub fn prompt_text(&self, facts: &[Fact]) -> String {
        let values = facts.iter().map(|fact| fact.value.as_str());
        values.chain([self.spec.prompt_end.get_ref().as_str()]).collect::<Vec<_>>().join(" ")
    }

    fn sentence(&self, slot: usize, value: &str, template: usize) -> String {
        self.spec.slots[slot].templates[template].get_ref().replace(HOLE, value)
    }

    fn slot(&self, name: &str) -> Option<usize> {
        self.spec.slots.iter().position(|slot| slot.name.get_ref() == name)
    }

    /// Every value of a slot.
    fn values(&self, slot: usize) -> Vec<String> {
        let lists = self.spec.slots[slot].values.iter();
        lists.fold(vec![String::new()], |values, words| {
            let extend = |value: String| {
                words.iter().map(move |word| format!("{value} {}", word.get_ref()).trim_start().to_owned())
            };
            values.into_iter().flat_map(extend).collect()
        })
    }
}

/// The random stream of row `i` of a table.
fn row(seed: u64, table: &str, i: u64) -> ChaCha8Rng {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes()).update(&i.to_le_bytes()).update(table.as_bytes());
    ChaCha8Rng::from_seed(*hash.finalize().as_bytes())
}

/// The split of a prompt's text: four in five are for training, the rest is shared equally.
fn split_of(text: &str) -> Split {
    match blake3::hash(text.as_bytes()).as_bytes()[0] % 10 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "validation",
        Split::Test => "test",
    }
}

/// Ids of a split start here, so that they don't move when another split grows.
fn first_id(split: Split) -> u64 {
    match split {
        Split::Train => 0,
        Split::Validation => 1 << 32,
        Split::Test => 2 << 32,
    }
}

#[cfg(test)]
mod tests;
