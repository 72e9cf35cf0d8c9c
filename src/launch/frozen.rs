//! A submitted run: what it will do, decided once.
//!
//! Stands in the store under `runs/<id>/`: `run.json` (this), `events/` (one file a process that works on it). The id is
//! made from what the run computes, so the same command again is the same run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Summary;
use crate::events::JsonLines;
use crate::recipe::{Experiment, Recipe};
use crate::stage;
use crate::stage::node::{Node, Plan};
use crate::store::{Provenance, Store, canonical_json, hash_of, write_atomically};

/// Hex digits of the hash in an id.
const DIGITS: usize = 8;

/// What this machine calls itself.
#[must_use]
pub fn host() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "local".to_owned() } else { host.trim().to_owned() }
}

/// A run as it was submitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frozen {
    /// Its name in the store: the experiment's name and the first digits of a hash of all that it computes.
    pub id: String,
    /// What it asks for, with paths as the recipe gave them.
    pub experiment: Experiment,
    /// What it takes to get there.
    pub plan: Plan,
    /// The hash of every file that the recipes name: the store keeps a copy of each.
    pub files: BTreeMap<PathBuf, String>,
    /// Where and when it was first submitted.
    pub submission: Submission,
}

/// Where, when and how a run was submitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    /// The command as typed.
    pub command_line: String,
    /// The working directory, which paths are relative to.
    pub directory: PathBuf,
}

impl Frozen {
    /// Submits `experiment` and opens this process's events: from here on the run counts as at work.
    ///
    /// # Errors
    /// As [`Frozen::submit`].
    pub fn begin(experiment: Experiment, store: &Store) -> Result<(Self, JsonLines)> {
        let _guard = store.share()?;
        let run = Self::submit(experiment, store)?;
        let events = run.attend(store)?;
        Ok((run, events))
    }

    /// Opens this process's events: as long as they are open, it counts as at work on the run.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn attend(&self, store: &Store) -> Result<JsonLines> {
        let path = super::history::folder(store, &self.id).join(super::history::own_file());
        JsonLines::attended(&path).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Plans `experiment` and writes it down in `store`, with a copy of every file that it names. Submitted again, it is
    /// the same run, and what stands in the store stays.
    ///
    /// # Errors
    /// When a file cannot be read or the store is not writable.
    pub fn submit(experiment: Experiment, store: &Store) -> Result<Self> {
        let _guard = store.share()?;
        let frozen = Self::new(experiment)?;
        for path in frozen.files.keys() {
            store.keep(path)?;
        }
        // None, or one that this version cannot read: it is written again.
        if let Ok(earlier) = Self::open(&frozen.id, store) {
            return Ok(earlier);
        }
        write_atomically(&store.run_dir(&frozen.id).join("run.json"), &serde_json::to_vec(&frozen)?)?;
        Summary::refresh(&frozen, store)?;
        Ok(frozen)
    }

    /// Plans `experiment` without writing anything.
    ///
    /// # Errors
    /// When a file that a recipe names cannot be read.
    pub fn new(mut experiment: Experiment) -> Result<Self> {
        let plan = stage::plan(&experiment)?;
        let mut files = BTreeMap::new();
        for point in &mut experiment.points {
            for (_, path) in point.recipe.files_mut() {
                // Patterns and folders stay where they are: the data stage compares their contents with the plan.
                if path.is_file() && !files.contains_key(path) {
                    files.insert(path.clone(), hash_of(path)?);
                }
            }
        }
        let keys: Vec<_> = plan.nodes.iter().map(|node| node.key.as_str()).collect();
        let identity = canonical_json(&json!({ "experiment": experiment, "keys": keys }));
        let hash = blake3::hash(identity.as_bytes()).to_hex();
        let id = format!("{}-{}", experiment.name, &hash[..DIGITS]);
        let here = Provenance::here("", 0.0);
        let directory = std::env::current_dir().context("the working directory is gone")?;
        let submission = Submission { time: here.started, command_line: here.command_line, directory };
        Ok(Self { id, experiment, plan, files, submission })
    }

    /// The run `id` of `store`.
    ///
    /// # Errors
    /// When there is none, or it was written by a version that this one does not understand.
    pub fn open(id: &str, store: &Store) -> Result<Self> {
        let path = store.run_dir(id).join("run.json");
        let bytes = fs::read(&path).with_context(|| format!("cannot read run `{}`", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("run `{}`", path.display()))
    }

    /// The recipe that `node` is computed with. A file that was changed since is taken from the store's copy.
    ///
    /// # Panics
    /// When `node` is none of this run's.
    #[must_use]
    pub fn recipe(&self, node: &Node, store: &Store) -> Recipe {
        let mut recipe = self.experiment.points[node.points[0]].recipe.clone();
        self.place_files(&mut recipe, store);
        recipe
    }

    /// What it asks for, with changed files taken from the store's copies: its points have the keys of the plan.
    #[must_use]
    pub fn experiment(&self, store: &Store) -> Experiment {
        let mut experiment = self.experiment.clone();
        experiment.points.iter_mut().for_each(|point| self.place_files(&mut point.recipe, store));
        experiment
    }

    fn place_files(&self, recipe: &mut Recipe, store: &Store) {
        for (_, path) in recipe.files_mut() {
            if let Some(hash) = self.files.get(path)
                && hash_of(path).ok().as_ref() != Some(hash)
            {
                *path = store.kept(hash);
            }
        }
    }
}
