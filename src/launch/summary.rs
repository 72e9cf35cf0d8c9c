//! A run at a glance: what `ls` shows, in one small file beside the run.
//!
//! The file saves work and decides nothing: it is made from the plan, the results and the events, and made again when they
//! have moved on. That a run is at work is never taken from it.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::history::{folder, length};
use super::{Frozen, Headline, History, Phase, Task};
use crate::stage::node::Demand;
use crate::store::{Lookup, Store, write_atomically};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process works on it now.
    Running,
    /// It was handed to a queue, and waits there as far as is known.
    Queued,
    /// All its results are there.
    Done,
    /// A stage failed, and nobody works on it.
    Failed,
    /// Its last process ended before its work did.
    Interrupted,
    /// Something is missing: it was not begun, or results were deleted.
    Incomplete,
}

impl State {
    /// Its name in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A run's `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run's id.
    pub id: String,
    /// The recipe's name.
    pub name: String,
    /// When it was first submitted, in seconds since 1970-01-01 UTC.
    pub submitted: u64,
    /// When something last happened in it, in the same seconds.
    pub active: f64,
    /// Points of its sweep, or 1.
    pub points: usize,
    /// Stages of its plan.
    pub stages: usize,
    /// Of those, stages that need not run.
    pub done: usize,
    /// Of those, stages whose last attempt failed.
    pub failed: usize,
    /// The rest.
    pub missing: usize,
    /// How it stands.
    pub state: State,
    /// The best that it found; none while it is at work.
    pub headline: Option<Headline>,
    /// What its results cost to compute, whoever computed them, in seconds.
    pub work_seconds: f64,
    /// Bytes of events that were there when this was written.
    pub events_bytes: u64,
}

/// The summaries of a store, kept fresh.
#[derive(Debug)]
pub struct Summaries<'a> {
    store: &'a Store,
    /// When a result last came or went.
    changed: Option<SystemTime>,
}

impl<'a> Summaries<'a> {
    /// Those of `store`.
    #[must_use]
    pub fn of(store: &'a Store) -> Self {
        let stages = fs::read_dir(store.root().join("results")).into_iter().flatten().filter_map(Result::ok);
        let changed = stages.filter_map(|stage| fs::metadata(stage.path()).ok()?.modified().ok()).max();
        Self { store, changed }
    }

    /// The summaries of all runs, the last active first; a run that cannot be read is left out, with a warning.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn all(&self) -> Result<Vec<Summary>> {
        let mut all = Vec::new();
        for id in self.store.runs()? {
            match self.get(&id) {
                Ok(summary) => all.push(summary),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        all.sort_by(|a, b| b.active.total_cmp(&a.active).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// The summary of the run `id`.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn get(&self, id: &str) -> Result<Summary> {
        match self.read(id) {
            Some(summary) if !self.is_stale(&summary) => Ok(summary),
            _ => Summary::refresh(&Frozen::open(id, self.store)?, self.store),
        }
    }

    fn read(&self, id: &str) -> Option<Summary> {
        serde_json::from_slice(&fs::read(file(self.store, id)).ok()?).ok()
    }

    /// Whether something happened since. Results of a run that was done are looked at by whoever needs them: a store has
    /// many such runs, and only `gc` deletes what they need.
    fn is_stale(&self, summary: &Summary) -> bool {
        let written = || fs::metadata(file(self.store, &summary.id)).and_then(|metadata| metadata.modified()).ok();
        match summary.state {
            State::Running | State::Queued => true,
            _ if summary.events_bytes != length(&folder(self.store, &summary.id)) => true,
            State::Done => false,
            _ => self.changed > written(),
        }
    }
}

impl Summary {
    /// Looks at everything and writes the summary of `run`; a store that cannot be written to is no obstacle.
    ///
    /// # Errors
    /// When the summary is no JSON.
    pub fn refresh(run: &Frozen, store: &Store) -> Result<Self> {
        let summary = Self::of(run, &History::of(&run.id, store), store);
        if let Err(error) = write_atomically(&file(store, &run.id), &serde_json::to_vec(&summary)?) {
            tracing::debug!("{error}");
        }
        Ok(summary)
    }

    fn of(run: &Frozen, history: &History, store: &Store) -> Self {
        let nodes = &run.plan.nodes;
        let mut work_seconds = 0.0;
        let mut whole = Vec::with_capacity(nodes.len());
        for node in nodes {
            let found = store.find(node.stage.name(), &node.key);
            if let Lookup::Found(artefact) = &found {
                work_seconds += artefact.manifest.provenance.wall_seconds;
            }
            whole.push(matches!(found, Lookup::Found(_)));
        }
        let demands = run.plan.demand(|index| whole[index]);
        let wanted = || nodes.iter().zip(&demands).filter(|(_, demand)| **demand == Demand::Run).map(|(node, _)| node);
        let failed = wanted()
            .filter(|node| matches!(history.stages.get(&node.label).map(|past| &past.phase), Some(Phase::Failed(_))))
            .count();
        let done = nodes.len() - wanted().count();
        let state = match () {
            () if history.is_attended() => State::Running,
            () if done == nodes.len() => State::Done,
            () if Task::is_any_queued(run, store) => State::Queued,
            () if history.was_interrupted() => State::Interrupted,
            () if failed > 0 => State::Failed,
            () => State::Incomplete,
        };
        Self {
            id: run.id.clone(),
            name: run.experiment.name.clone(),
            submitted: run.submission.time,
            active: history.last.unwrap_or(run.submission.time as f64),
            points: run.experiment.points.len(),
            stages: nodes.len(),
            done,
            failed,
            missing: nodes.len() - done - failed,
            state,
            // Found anew at every look, it would cost more than all the rest.
            headline: if state == State::Running { None } else { run.headline(store) },
            work_seconds,
            events_bytes: length(&folder(store, &run.id)),
        }
    }
}

fn file(store: &Store, id: &str) -> PathBuf {
    store.run_dir(id).join("summary.json")
}
