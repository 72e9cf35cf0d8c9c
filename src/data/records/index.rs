//! Which rows of a dataset there are, without their texts: what is drawn, shuffled and split, so that files may be larger than
//! memory.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, anyhow};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::example::Example;
use super::guess::Layouts;
use super::{demonstration, rows};
use crate::data::prompt::Shown;
use crate::data::{Config, Skipped};
use crate::units::Count;

/// A row that can be used.
pub(super) struct Entry {
    /// Its place among all rows, from 0.
    row: usize,
    /// Its prompt's number, in the order in which prompts appear.
    prompt: usize,
    /// Whether it has a response to imitate.
    imitated: bool,
}

/// The rows that can be used, in the files' order.
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
    /// How many different prompts they have.
    pub(super) prompts: usize,
    /// The files' layouts.
    layouts: BTreeMap<String, Layouts>,
}

impl Index {
    /// The rows of the files at `dataset.path`, or the `max_rows` that the dataset's seed draws of them, and those that cannot
    /// be used.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn of(dataset: &Config, shown: &Shown) -> Result<(Self, Vec<Skipped>)> {
        let config = dataset.records.clone().unwrap_or_default();
        let mut rng = ChaCha8Rng::seed_from_u64(dataset.seed);
        let (mut kept, mut skipped): (Vec<(usize, blake3::Hash, bool)>, _) = (Vec::new(), Vec::new());
        let (mut row, mut seen) = (0, 0);
        let source = dataset.source()?;
        let layouts = Layouts::of_files(&source, config.layout, &config.columns)?;
        rows::read(&source, &mut |place, found| {
            match config.example(&layouts[&place.file], found, shown) {
                Ok(example) => {
                    seen += 1;
                    let entry = (row, blake3::hash(example.prompt.as_bytes()), demonstration(&example).is_some());
                    // Reservoir sampling: every row so far is kept with the same probability.
                    match config.max_rows.map(Count::get) {
                        Some(room) if kept.len() >= room => {
                            let at = rng.random_range(0..seen);
                            if at < room {
                                kept[at] = entry;
                            }
                        }
                        _ => kept.push(entry),
                    }
                }
                Err((kind, message)) => skipped.push(Skipped { kind, place: place.to_string(), message }),
            }
            row += 1;
            true
        })?;
        kept.sort_unstable_by_key(|(row, ..)| *row);
        let mut prompts = HashMap::new();
        let entries = kept.into_iter().map(|(row, hash, imitated)| {
            let next = prompts.len();
            Entry { row, prompt: *prompts.entry(hash).or_insert(next), imitated }
        });
        let entries = entries.collect();
        Ok((Self { entries, prompts: prompts.len(), layouts }, skipped))
    }

    /// The first of the prompts `order` that have `count` responses to imitate between them.
    pub(super) fn imitated<'a>(&self, order: &'a [usize], count: usize) -> &'a [usize] {
        let mut responses = vec![0; self.prompts];
        for entry in &self.entries {
            responses[entry.prompt] += usize::from(entry.imitated);
        }
        let mut found = 0;
        let enough = order.iter().position(|&prompt| {
            found += responses[prompt];
            found >= count
        });
        &order[..enough.map_or(order.len(), |last| last + 1)]
    }

    /// The examples with the prompts `wanted`, by prompt, in the files' order.
    ///
    /// # Errors
    /// When a file cannot be read, or says something else than before.
    pub(super) fn texts(
        &self,
        wanted: &[usize],
        dataset: &Config,
        shown: &Shown,
    ) -> Result<BTreeMap<usize, Vec<Example>>> {
        let config = dataset.records.clone().unwrap_or_default();
        let mut used = vec![false; self.prompts];
        for &prompt in wanted {
            used[prompt] = true;
        }
        let mut entries = self.entries.iter().filter(|entry| used[entry.prompt]).peekable();
        let mut texts: BTreeMap<usize, Vec<Example>> = BTreeMap::new();
        let (mut row, mut changed) = (0, None);
        rows::read(&dataset.source()?, &mut |place, found| {
            if let Some(entry) = entries.next_if(|entry| entry.row == row) {
                match config.example(&self.layouts[&place.file], found, shown) {
                    Ok(example) => texts.entry(entry.prompt).or_default().push(example),
                    Err((_, message)) => changed = Some(anyhow!("{place}: {message}, which was fine a moment ago")),
                }
            }
            row += 1;
            changed.is_none() && entries.peek().is_some()
        })?;
        match changed {
            Some(error) => Err(error),
            None if entries.peek().is_some() => Err(anyhow!("there are fewer rows than a moment ago")),
            None => Ok(texts),
        }
    }
}
