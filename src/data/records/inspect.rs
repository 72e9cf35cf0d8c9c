//! What a dataset looks like before a recipe names it: layout, counts, lengths in tokens, duplicates, prompts in several splits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Layout;
use super::example::{Example, Kind};
use super::guess::Layouts;
use super::{Config, files, rows};
use crate::data::Skipped;
use crate::text::{self, ByteLevelBpe, Tokenizer};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The files, with their rows.
    pub files: Vec<(String, usize)>,
    /// The rows' layouts, with how many have them.
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
    /// Two splits, by the files' names, and how many prompts stand in both: what is trained on and tested on is a leak.
    pub leakage: Vec<(String, String, usize)>,
    /// Bad rows by kind.
    pub bad: BTreeMap<Kind, usize>,
    /// The first bad rows.
    pub bad_rows: Vec<Skipped>,
    /// Whose tokens the lengths are in.
    pub tokenizer: String,
    /// Lengths in tokens: of prompts, of better responses, of worse ones.
    pub tokens: [Lengths; 3],
    /// Rows whose lengths these are: all usable ones, or so many drawn at random.
    pub measured: usize,
    /// The first rows, understood.
    #[serde(skip)]
    pub first: Vec<Example>,
}

/// How lengths are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// Smallest, quartiles, largest; nothing where there is none.
    pub quartiles: Option<[usize; 5]>,
    /// How many lie below 8, 16, 32, ... 1024 tokens, and how many beyond, each counted once.
    pub histogram: [usize; 9],
}

/// Bad rows that are shown.
const SHOWN: usize = 10;

/// Rows that are cut into tokens; of a larger dataset so many are drawn.
const MEASURED: usize = 50_000;

/// What is remembered of all rows, however long they are: hashes of 64 bits, of which two are alike by chance once in ten
/// thousand datasets of sixty million rows.
#[derive(Default)]
struct Seen {
    rows: HashSet<u64>,
    /// Each prompt's first file.
    prompts: HashMap<u64, usize>,
    /// The further files of prompts that stand in several.
    elsewhere: BTreeSet<(u64, usize)>,
}

impl Seen {
    /// Whether the row was seen before.
    fn add(&mut self, example: &Example, file: usize) -> bool {
        let hash = |text: &str| blake3::hash(text.as_bytes()).as_bytes().first_chunk().copied().map(u64::from_le_bytes);
        let (row, prompt) = (hash(&format!("{example:?}")).unwrap_or(0), hash(&example.prompt).unwrap_or(0));
        if *self.prompts.entry(prompt).or_insert(file) != file {
            self.elsewhere.insert((prompt, file));
        }
        !self.rows.insert(row)
    }

    /// The files of every prompt that stands in several.
    fn several(&self) -> BTreeMap<u64, BTreeSet<usize>> {
        let mut found: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        for &(prompt, file) in &self.elsewhere {
            found.entry(prompt).or_insert_with(|| BTreeSet::from([self.prompts[&prompt]])).insert(file);
        }
        found
    }
}

/// Lengths of rows; of many a sample, every row as likely as any other.
struct Measured {
    rng: ChaCha8Rng,
    lengths: Vec<[Option<usize>; 3]>,
}

impl Measured {
    fn add(&mut self, number: usize, example: &Example, tokenizer: &Tokenizer) {
        let tokens = |text: &str| tokenizer.encode(text).len();
        let lengths = || {
            let worse = example.pair.as_ref().map(|[_, rejected]| tokens(rejected));
            [Some(tokens(&example.prompt)), example.response.as_deref().map(tokens), worse]
        };
        if self.lengths.len() < MEASURED {
            self.lengths.push(lengths());
        } else if let Some(place) = Some(self.rng.random_range(0..number)).filter(|&place| place < MEASURED) {
            self.lengths[place] = lengths();
        }
    }

    fn of(&self, side: usize) -> Lengths {
        Lengths::of(self.lengths.iter().filter_map(|lengths| lengths[side]).collect())
    }
}

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

/// Rows that a tokenizer is trained on where none is given, and how large it is.
const TRAINED_ON: (usize, i64) = (400, 2048);

/// What a file's name, or its folder's, says that its rows are for; its path where that says nothing.
fn split(file: &str) -> String {
    let path = Path::new(file);
    for name in [path.file_name(), path.parent().and_then(Path::file_name)].into_iter().flatten() {
        let name = name.to_string_lossy().to_lowercase();
        for word in name.split(|c: char| !c.is_alphabetic()) {
            match word {
                "train" | "training" => return "train".to_owned(),
                "test" | "testing" => return "test".to_owned(),
                "validation" | "valid" | "val" | "dev" => return "validation".to_owned(),
                _ => {}
            }
        }
    }
    file.to_owned()
}

/// A tokenizer as a recipe would train it, on the first rows.
fn trained(path: &Path, config: &Config, layouts: &BTreeMap<String, Layouts>) -> Result<(String, Tokenizer)> {
    let mut texts = Vec::new();
    let mut seen = 0;
    rows::read(path, &mut |place, row| {
        if let Ok(example) =
            row.and_then(|row| layouts[&place.file].of(&row, &config.columns).example(&row, &config.columns))
        {
            seen += 1;
            texts.push(example.prompt);
            texts.extend(example.response);
            texts.extend(example.pair.into_iter().flatten());
        }
        seen < TRAINED_ON.0
    })?;
    let size = TRAINED_ON.1;
    let table = text::Config::ByteLevelBpe(ByteLevelBpe { vocab_size: size.try_into().expect("above zero") });
    let name = format!("a byte-level BPE of {size} ids, trained on the first {seen} rows");
    Ok((name, Tokenizer::train(&table, texts.into_iter())?))
}

/// Looks at every row of the files at `path`; lengths are those by `tokenizer`, which has a name, or by one that is trained
/// on the first rows.
///
/// # Errors
/// When a file cannot be read.
pub fn inspect(path: &Path, config: &Config, tokenizer: Option<(String, Tokenizer)>) -> Result<Inspection> {
    let layouts = Layouts::of_files(path, config.layout, &config.columns)?;
    let (name, tokenizer) = tokenizer.map_or_else(|| trained(path, config, &layouts), Ok)?;
    let mut found = Inspection {
        files: files::expand(path)?.iter().map(|file| (file.display().to_string(), 0)).collect(),
        layouts: BTreeMap::new(),
        columns: BTreeMap::new(),
        usable: 0,
        prompts: 0,
        pairs: 0,
        edits: 0,
        duplicates: 0,
        leakage: Vec::new(),
        bad: BTreeMap::new(),
        bad_rows: Vec::new(),
        tokenizer: name,
        tokens: Default::default(),
        measured: 0,
        first: Vec::new(),
    };
    let mut seen = Seen::default();
    let mut measured = Measured { rng: ChaCha8Rng::seed_from_u64(0), lengths: Vec::new() };
    rows::read(path, &mut |place, row| {
        let file = found.files.iter().position(|(name, _)| *name == place.file).unwrap_or(0);
        found.files[file].1 += 1;
        let understood = row.and_then(|row| {
            for name in row.keys() {
                *found.columns.entry(name.clone()).or_default() += 1;
            }
            let layout = layouts[&place.file].of(&row, &config.columns);
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
                found.duplicates += usize::from(seen.add(&example, file));
                measured.add(found.usable, &example, &tokenizer);
                if found.first.len() < 3 {
                    found.first.push(example);
                }
            }
        }
        true
    })?;
    ensure!(found.files.iter().any(|(_, rows)| *rows > 0), "`{}`: expected rows, found none", path.display());
    found.prompts = seen.prompts.len();
    found.leakage = leakage(&found.files, seen.several().values());
    found.tokens = [0, 1, 2].map(|side| measured.of(side));
    found.measured = measured.lengths.len();
    Ok(found)
}

/// How many prompts two splits share, for all that share any.
fn leakage<'a>(
    files: &[(String, usize)],
    prompts: impl Iterator<Item = &'a BTreeSet<usize>>,
) -> Vec<(String, String, usize)> {
    let splits: Vec<String> = files.iter().map(|(file, _)| split(file)).collect();
    let mut shared: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for places in prompts {
        let of: BTreeSet<&str> = places.iter().map(|&file| splits[file].as_str()).collect();
        for (i, first) in of.iter().enumerate() {
            for second in of.iter().skip(i + 1) {
                *shared.entry((first, second)).or_default() += 1;
            }
        }
    }
    shared.into_iter().map(|((a, b), n)| (a.to_owned(), b.to_owned(), n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_what_names_say() {
        for (file, expected) in [
            ("set/data/train-00000-of-00002.parquet", "train"),
            ("set/test.jsonl.gz", "test"),
            ("set/dev/rows.csv", "validation"),
            ("latest/contrast.jsonl", "latest/contrast.jsonl"),
        ] {
            assert_eq!(split(file), expected);
        }
    }

    #[test]
    fn lengths_have_quartiles_and_bins() {
        let found = Lengths::of(vec![7, 8, 1, 2000, 40]);
        assert_eq!(found.quartiles, Some([1, 7, 8, 40, 2000]));
        assert_eq!(found.histogram, [2, 1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(Lengths::of(vec![]).quartiles, None);
    }
}
