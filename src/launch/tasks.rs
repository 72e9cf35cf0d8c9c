//! What became of each task that was handed to a launcher: one small file a task in the run's folder.
//!
//! For people and for `runner watch`; whether a result is there is said by the store alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::events::{Event, Sink};
use crate::stage::node::Node;
use crate::stage::reason;
use crate::store::{Error, Key, Store, write_atomically};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Handed to a queue.
    Queued,
    /// At work.
    Running,
    /// Its result is in the store.
    Done,
    /// It failed; `error` says why.
    Failed,
    /// It cannot be done, since something that it is made from has no result; `error` names it.
    Skipped,
    /// It was stopped before its end, and goes on from its last checkpoint when it is started again.
    Interrupted,
}

/// A task's status file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The key of what it computes.
    pub key: Key,
    /// What a person calls it.
    pub label: String,
    /// Where it is.
    pub state: TaskState,
    /// How often it was begun.
    pub attempt: u32,
    /// The queue's name for it, as in `1234_5` (Slurm) or `12@5` (HyperQueue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The machine that works on it, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last training step that it is known to have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// When this was written, in seconds since 1970-01-01 UTC.
    pub time: u64,
}

impl Task {
    /// The task of `node` before anything happened.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let (key, label) = (node.key.clone(), node.label.clone());
        Self {
            key,
            label,
            state: TaskState::Queued,
            attempt: 0,
            job: None,
            host: None,
            error: None,
            step: None,
            time: 0,
        }
    }

    /// What is written of the task of `node` in `run`; none when nothing is, or nothing that can be read.
    #[must_use]
    pub fn find(run: &Frozen, store: &Store, node: &Node) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(run, store, &node.key)).ok()?).ok()
    }

    /// Whether a task of `run` is said to wait in a queue.
    #[must_use]
    pub fn is_any_queued(run: &Frozen, store: &Store) -> bool {
        let queued = |node| Self::find(run, store, node).is_some_and(|task| task.state == TaskState::Queued);
        store.run_dir(&run.id).join("tasks").is_dir() && run.plan.nodes.iter().any(queued)
    }

    /// Writes it down, in the state `state`.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn write(&mut self, state: TaskState, run: &Frozen, store: &Store) -> Result<(), Error> {
        self.write_to(&path(run, store, &self.key), state)
    }

    fn write_to(&mut self, path: &Path, state: TaskState) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        (self.state, self.time) = (state, now.map_or(0, |now| now.as_secs()));
        let bytes = serde_json::to_vec_pretty(self).expect("strings and numbers are JSON");
        write_atomically(path, &bytes)
    }
}

/// Brings what is remembered of the run's recipe (for `plan`, `ls` and a sweep's report) up to date with what its tasks say,
/// if there are any.
///
/// # Errors
/// When the store is not writable.
pub fn remember(run: &Frozen, store: &Store) -> anyhow::Result<()> {
    let tasks: Vec<Task> = run.plan.nodes.iter().filter_map(|node| Task::find(run, store, node)).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let failed = tasks.into_iter().filter(|task| task.state == TaskState::Failed);
    let failed: Vec<_> = failed.map(|task| (task.label, task.error.unwrap_or_default())).collect();
    reason::remember(&run.plan, store, &failed)
}

/// Writes down that the tasks of `nodes` are handed to a queue; returns what was written of them before. This comes before the
/// queue has them: a task may be at work before the queue's command returns.
///
/// # Errors
/// When the store is not writable.
pub(super) fn hand_over(run: &Frozen, store: &Store, nodes: &[&Node]) -> Result<Vec<Option<Task>>, Error> {
    let hand = |node: &&Node| {
        let earlier = Task::find(run, store, node);
        let attempt = earlier.as_ref().map_or(0, |earlier| earlier.attempt);
        Task { attempt, ..Task::new(node) }.write(TaskState::Queued, run, store)?;
        Ok(earlier)
    };
    nodes.iter().map(hand).collect()
}

/// Takes back what [`hand_over`] wrote of `nodes`, because the queue refused them; `earlier` is what it returned.
///
/// # Errors
/// When the store is not writable.
pub(super) fn hand_back(run: &Frozen, store: &Store, nodes: &[&Node], earlier: Vec<Option<Task>>) -> Result<(), Error> {
    for (node, earlier) in nodes.iter().zip(earlier) {
        let state = earlier.as_ref().map_or(TaskState::Interrupted, |earlier| earlier.state);
        earlier.unwrap_or_else(|| Task::new(node)).write(state, run, store)?;
    }
    Ok(())
}

/// Writes down that no task of `run` waits in a queue any more. What runs says itself how it ends.
///
/// # Errors
/// When the store is not writable.
pub fn withdraw(run: &Frozen, store: &Store) -> Result<(), Error> {
    end_queued(run, store, &vec![true; run.plan.nodes.len()], TaskState::Interrupted, "cancelled before it began")
}

/// Writes down that what waits in a queue and is made from the node at `index` cannot be done, since that one failed. Not every
/// queue starts such tasks, so that they could say so themselves.
///
/// # Errors
/// When the store is not writable.
pub fn skip_heirs(run: &Frozen, store: &Store, index: usize, error: &str) -> Result<(), Error> {
    let nodes = &run.plan.nodes;
    let mut heirs = vec![false; nodes.len()];
    for (heir, node) in nodes.iter().enumerate() {
        // Inputs come before what is made from them.
        heirs[heir] = node.inputs.iter().any(|input| input.node == index || heirs[input.node]);
    }
    let why = format!("it is made from `{}`, which failed: {error}", nodes[index].label);
    end_queued(run, store, &heirs, TaskState::Skipped, &why)
}

fn end_queued(run: &Frozen, store: &Store, chosen: &[bool], state: TaskState, why: &str) -> Result<(), Error> {
    for (node, _) in run.plan.nodes.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        let task = Task::find(run, store, node).filter(|task| task.state == TaskState::Queued);
        if let Some(mut task) = task {
            task.error = Some(why.to_owned());
            task.write(state, run, store)?;
        }
    }
    Ok(())
}

fn path(run: &Frozen, store: &Store, key: &Key) -> PathBuf {
    store.run_dir(&run.id).join("tasks").join(format!("{key}.json"))
}

/// Keeps a task's status file in step with what happens.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    task: Mutex<Task>,
}

impl Keeper {
    /// The keeper of the status of `node` in `run`.
    #[must_use]
    pub fn new(run: &Frozen, store: &Store, node: &Node) -> Self {
        let mut task = Task::find(run, store, node).unwrap_or_else(|| Task::new(node));
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let element = || Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?));
        let hyperqueue = || Some(format!("{}@{}", variable("HQ_JOB_ID")?, variable("HQ_TASK_ID")?));
        // HyperQueue's workers may be jobs of Slurm's themselves.
        task.job = hyperqueue().or_else(element).or_else(|| variable("SLURM_JOB_ID")).or(task.job);
        Self { path: path(run, store, &node.key), task: Mutex::new(task) }
    }

    /// Writes the status down as `state`, because of `error` if there is one.
    pub fn set(&self, state: TaskState, error: Option<String>) {
        self.change(state, |task| task.error = error);
    }

    fn change(&self, state: TaskState, change: impl FnOnce(&mut Task)) {
        let mut task = self.task();
        change(&mut task);
        // The status is for people: the work goes on without it.
        if let Err(error) = task.write_to(&self.path, state) {
            tracing::warn!("the status of `{}` is lost: {error}", task.label);
        }
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Keeper {
    fn emit(&self, event: &Event) {
        match event {
            Event::StageStarted { resumed_from, .. } => self.change(TaskState::Running, |task| {
                task.attempt += 1;
                task.host = Some(super::host());
                (task.error, task.step) = (None, *resumed_from);
            }),
            Event::Progress { done, unit, .. } if unit == "steps" || unit == "iterations" => {
                self.task().step = Some(*done);
            }
            Event::StageFinished { .. } => self.set(TaskState::Done, None),
            Event::StageFailed { error, .. } => self.set(TaskState::Failed, Some(error.clone())),
            Event::StageInterrupted { step, .. } => self.change(TaskState::Interrupted, |task| task.step = Some(*step)),
            Event::RunInterrupted if self.task().state == TaskState::Running => self.set(TaskState::Interrupted, None),
            _ => {}
        }
    }
}
