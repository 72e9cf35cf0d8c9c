//! What a dataset looks like before a recipe names it: layout, counts, lengths, duplicates, prompts in several files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::Layout;
use super::example::{Example, Kind};
use super::{Config, files, rows};
use crate::data::Skipped;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The files, with their rows.
    pub files: Vec<(String, usize)>,
    /// The layouts that were guessed, with their rows.
    pub layouts: BTreeMap<Layout, usize>,
    /// The columns of all rows, with how many have them.
    pub columns: BTreeMap<String, usize>,
    /// Rows that can be used.
    pub usable: usize,
    /// Different prompts.
    pub prompts: usize,
    /// Rows with a preference.
    pub pairs: usize,
    /// Rows with an edit.
    pub edits: usize,
    /// Rows that say the same as an earlier one.
    pub duplicates: usize,
    /// Prompts that stand in more than one file: in a training and a test file, a leak.
    pub in_several_files: usize,
    /// Bad rows by kind.
    pub bad: BTreeMap<Kind, usize>,
    /// The first bad rows.
    pub bad_rows: Vec<Skipped>,
    /// Lengths in words: of prompts, of better responses, of worse ones.
    pub words: [Lengths; 3],
    /// The first rows, understood.
    #[serde(skip)]
    pub first: Vec<Example>,
}

/// How lengths are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// Smallest, quartiles, largest; nothing where there is none.
    pub quartiles: Option<[usize; 5]>,
    /// How many lie below 8, 16, 32, ... 1024 words, and how many beyond, each counted once.
    pub histogram: [usize; 9],
}

/// Bad rows that are shown.
const SHOWN: usize = 10;

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let mut histogram = [0; 9];
        for length in &lengths {
            let bin = (0..8).find(|bin| *length < 8 << bin).unwrap_or(8);
            histogram[bin] += 1;
        }
        let at = |share: usize| lengths[(lengths.len() - 1) * share / 4];
        let quartiles = (!lengths.is_empty()).then(|| [0, 1, 2, 3, 4].map(at));
        Self { quartiles, histogram }
    }
}

/// Looks at every row of the files at `path`.
///
/// # Errors
/// When a file cannot be read.
pub fn inspect(path: &Path, config: &Config) -> Result<Inspection> {
    let mut found = Inspection {
        files: files::expand(path)?.iter().map(|file| (file.display().to_string(), 0)).collect(),
        layouts: BTreeMap::new(),
        columns: BTreeMap::new(),
        usable: 0,
        prompts: 0,
        pairs: 0,
        edits: 0,
        duplicates: 0,
        in_several_files: 0,
        bad: BTreeMap::new(),
        bad_rows: Vec::new(),
        words: Default::default(),
        first: Vec::new(),
    };
    let mut lengths: [Vec<usize>; 3] = Default::default();
    let (mut seen, mut prompts) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<usize>>::new());
    rows::read(path, &mut |place, row| {
        let file = found.files.iter().position(|(name, _)| *name == place.file).unwrap_or(0);
        found.files[file].1 += 1;
        let understood = row.map_err(|message| (Kind::Unreadable, message)).and_then(|row| {
            for name in row.keys() {
                *found.columns.entry(name.clone()).or_default() += 1;
            }
            let guess = Layout::guess(&row, &config.columns).unwrap_or_default();
            let layout = if config.layout == Layout::Auto { guess } else { config.layout };
            *found.layouts.entry(layout).or_default() += 1;
            layout.example(&row, &config.columns)
        });
        match understood {
            Err((kind, message)) => {
                *found.bad.entry(kind).or_default() += 1;
                if found.bad_rows.len() < SHOWN {
                    found.bad_rows.push(Skipped { kind, place: place.to_string(), message });
                }
            }
            Ok(example) => {
                found.usable += 1;
                found.pairs += usize::from(example.pair.is_some());
                found.edits += usize::from(example.revised.is_some());
                // Hashes, so that what is remembered of a large file stays small.
                let hash = |text: &str| *blake3::hash(text.as_bytes()).as_bytes();
                found.duplicates += usize::from(!seen.insert(hash(&format!("{example:?}"))));
                prompts.entry(hash(&example.prompt)).or_default().insert(file);
                let words = |text: &str| text.split_whitespace().count();
                lengths[0].push(words(&example.prompt));
                lengths[1].extend(example.response.as_deref().map(words));
                lengths[2].extend(example.pair.as_ref().map(|[_, rejected]| words(rejected)));
                if found.first.len() < 3 {
                    found.first.push(example);
                }
            }
        }
        true
    })?;
    found.prompts = prompts.len();
    found.in_several_files = prompts.values().filter(|files| files.len() > 1).count();
    found.words = lengths.map(Lengths::of);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_quartiles_and_bins() {
        let found = Lengths::of(vec![7, 8, 1, 2000, 40]);
        assert_eq!(found.quartiles, Some([1, 7, 8, 40, 2000]));
        assert_eq!(found.histogram, [2, 1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(Lengths::of(vec![]).quartiles, None);
    }
}
