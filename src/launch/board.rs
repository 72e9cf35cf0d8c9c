//! How every stage of a run stands now: the plan, the results and the events seen together.
//!
//! A result that is there outweighs what was said of it; a process that is gone is at work on nothing.

use serde::Serialize;

use super::{Frozen, History, Phase, StageHistory};
use crate::stage::node::Demand;
use crate::store::{Lookup, Store};

/// How a stage stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// Its result is there, or not needed.
    Done,
    /// A process works on it.
    Running,
    /// A process waits for another one that computes the same.
    Waiting,
    /// The process that worked on it is gone, or was told to stop.
    Stopped,
    /// It failed.
    Failed {
        /// Why.
        error: String,
    },
    /// It waits for its turn, or for what it is made from.
    Queued,
    /// Something that it is made from failed.
    Blocked,
}

impl Standing {
    /// Its name in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
            Self::Queued => "queued",
            Self::Blocked => "blocked",
        }
    }

    /// Whether it is worth a line where there is no room for all.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        !matches!(self, Self::Done | Self::Queued | Self::Blocked)
    }
}

/// The stages of a run, followed.
#[derive(Debug)]
pub struct Board {
    /// Whether each node's result was there, or not needed, when the board was made.
    done: Vec<bool>,
    /// What happened so far.
    pub history: History,
}

impl Board {
    /// The board of `run`.
    #[must_use]
    pub fn of(run: &Frozen, store: &Store) -> Self {
        // In this order: what the history calls finished by then is in the store, or was deleted since.
        let mut history = History::of(&run.id, store);
        let whole = |index: usize| {
            let node = &run.plan.nodes[index];
            matches!(store.find(node.stage.name(), &node.key), Lookup::Found(_))
        };
        let done: Vec<bool> = run.plan.demand(whole).into_iter().map(|demand| demand != Demand::Run).collect();
        for (node, _) in run.plan.nodes.iter().zip(&done).filter(|(_, done)| !**done) {
            if history.stages.get(&node.label).is_some_and(|past| past.phase == Phase::Finished) {
                history.stages.remove(&node.label);
            }
        }
        Self { done, history }
    }

    /// How each stage of `run` stands, in the plan's order, with what is known of its progress.
    #[must_use]
    pub fn standings(&self, run: &Frozen) -> Vec<(Standing, Option<&StageHistory>)> {
        let mut standings: Vec<(Standing, Option<&StageHistory>)> = Vec::with_capacity(run.plan.nodes.len());
        for (node, &done) in run.plan.nodes.iter().zip(&self.done) {
            let past = self.history.stages.get(&node.label);
            let stuck = || {
                let inputs = node.inputs.iter().filter_map(|input| standings.get(input.node));
                inputs.into_iter().any(|(input, _)| matches!(input, Standing::Failed { .. } | Standing::Blocked))
            };
            let alive = || self.history.is_alive(&node.label);
            let standing = match past.map(|past| &past.phase) {
                _ if done => Standing::Done,
                Some(Phase::Running) if alive() => Standing::Running,
                Some(Phase::Waiting) if alive() => Standing::Waiting,
                Some(Phase::Running | Phase::Interrupted) => Standing::Stopped,
                Some(Phase::Failed(error)) => Standing::Failed { error: error.clone() },
                Some(Phase::Finished) => Standing::Done,
                _ if stuck() => Standing::Blocked,
                _ => Standing::Queued,
            };
            standings.push((standing, past));
        }
        standings
    }
}
