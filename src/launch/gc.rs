//! What of a store nobody needs any more, and how it goes.
//!
//! Kept is what these runs reach: tagged ones, those at work or in a queue, the last active of every recipe, and what recipes would reach
//! that a person asks to keep. Reached are all results of a run's plan, its checkpoints, and the files that it names. A
//! result whose key somebody computes stays in any case. What goes is renamed first, and only then deleted: a kill in
//! between leaves no half result, and the rest goes with the next collection.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use super::{Frozen, State, Summaries, names};
use crate::stage::reason::recall;
use crate::store::{Key, Place, Store, bytes_of};

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// What it is.
    pub kind: Kind,
    /// What a person calls it.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    key: Option<Key>,
}

/// Kinds of garbage, in the order in which it goes: a run before what it reaches, so that no run is left without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A run that is neither tagged nor at work nor queued nor the last of its recipe.
    Run,
    /// A result that no kept run reaches.
    Result,
    /// Unfinished work that no kept run wants.
    Partial,
    /// A copy of a file that no kept run names.
    File,
    /// What an interrupted collection or import left.
    Leftover,
}

impl Kind {
    /// Its name in tables, for one or for many.
    #[must_use]
    pub const fn name(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Run, 1) => "run",
            (Self::Run, _) => "runs",
            (Self::Result, 1) => "result",
            (Self::Result, _) => "results",
            (Self::Partial, 1) => "unfinished stage",
            (Self::Partial, _) => "unfinished stages",
            (Self::File, 1) => "file",
            (Self::File, _) => "files",
            (Self::Leftover, 1) => "leftover",
            (Self::Leftover, _) => "leftovers",
        }
    }
}

/// What is reached by something that is kept.
#[derive(Debug, Default)]
struct Reached {
    runs: BTreeSet<String>,
    keys: BTreeSet<Key>,
    files: BTreeSet<String>,
}

/// Everything in `store` that neither its own runs nor `wanted` need, in the order in which it goes.
///
/// # Errors
/// When the store cannot be read: then nothing is known to be garbage.
pub fn survey(store: &Store, wanted: &[Frozen]) -> Result<Vec<Garbage>> {
    let reached = reached(store, wanted)?;
    let mut found = Vec::new();
    let mut add = |kind, name: String, path: PathBuf, key| {
        found.push(Garbage { kind, name, bytes: bytes_of(&path), path, key });
    };
    for id in store.runs()?.into_iter().filter(|id| !reached.runs.contains(id)) {
        let dir = store.run_dir(&id);
        add(Kind::Run, id, dir, None);
    }
    for (kind, places) in [(Kind::Result, store.places()?), (Kind::Partial, store.unfinished()?)] {
        let free = |place: &Place| !reached.keys.contains(&place.key) && !store.is_claimed(&place.key);
        for Place { stage, key, dir } in places.into_iter().filter(free) {
            let stage = stage.map_or_else(String::new, |stage| format!("{stage} "));
            add(kind, format!("{stage}{}", key.short()), dir, Some(key));
        }
    }
    for hash in store.kept_files()?.into_iter().filter(|hash| !reached.files.contains(hash)) {
        let path = store.kept(&hash);
        add(Kind::File, hash.chars().take(8).collect(), path, None);
    }
    for path in store.in_transit()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        add(Kind::Leftover, name, path, None);
    }
    Ok(found)
}

/// Surveys `store` and removes what it finds, while nobody begins anything; none when somebody is about to.
///
/// # Errors
/// When something cannot be removed; what was removed before stays removed.
pub fn collect(store: &Store, wanted: &[Frozen]) -> Result<Option<Vec<Garbage>>> {
    let Some(guard) = store.seize()? else { return Ok(None) };
    let garbage = survey(store, wanted)?;
    let mut aside = Vec::new();
    for piece in &garbage {
        // Work that began before the store was held may have come to this key since it was looked at.
        if piece.key.as_ref().is_some_and(|key| store.is_claimed(key)) {
            continue;
        }
        aside.push(if piece.kind == Kind::Leftover { piece.path.clone() } else { store.take_away(&piece.path)? });
    }
    drop(guard);
    for path in &aside {
        store.discard(path)?;
    }
    Ok(Some(garbage))
}

fn reached(store: &Store, wanted: &[Frozen]) -> Result<Reached> {
    let mut reached = Reached::default();
    let tagged: BTreeSet<String> = names::tags(store)?.into_values().collect();
    let mut last: BTreeMap<String, (f64, String)> = BTreeMap::new();
    let summaries = Summaries::of(store);
    // A kill in the middle of a submission leaves a folder without its plan, which nothing can use.
    let whole = store.runs()?.into_iter().filter(|id| store.run_dir(id).join("run.json").exists());
    for id in whole {
        let summary = summaries.get(&id)?;
        if matches!(summary.state, State::Running | State::Queued) || tagged.contains(&id) {
            reached.runs.insert(id.clone());
        }
        let newest = last.entry(summary.name).or_insert((f64::NEG_INFINITY, String::new()));
        if summary.active > newest.0 {
            *newest = (summary.active, id);
        }
    }
    reached.runs.extend(last.into_values().map(|(_, id)| id));
    let own = reached.runs.iter().map(|id| Frozen::open(id, store)).collect::<Result<Vec<_>>>()?;
    for run in own.iter().chain(wanted) {
        reached.keys.extend(run.plan.nodes.iter().map(|node| node.key.clone()));
        reached.files.extend(run.files.values().cloned());
    }
    // Stores of earlier versions have last plans and no runs.
    for name in store.recipes()? {
        reached.keys.extend(recall(store, &name).into_iter().flat_map(|record| record.nodes).map(|(_, node)| node.key));
    }
    Ok(reached)
}
