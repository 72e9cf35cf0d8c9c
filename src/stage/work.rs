//! The work of one node: claimed, done, stored, and the listeners told how it ended.
//!
//! Which nodes run, and when, is `execute`'s; or it is a launcher's, which has them run one by one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};

use super::Interrupted;
use super::execute::{Inputs, Run, STACK_BYTES};
use super::node::Plan;
use super::stop::{Hold, Stop};
use crate::events::{Emitter, Event, Sink};
use crate::store::{Artefact, Claim, Lookup, Store};

/// How the work of a node ended.
#[derive(Debug)]
pub enum Outcome {
    /// With its result, and whether that was computed here.
    Done(Box<Artefact>, bool),
    /// With a checkpoint, because a stop was asked for.
    Interrupted,
    /// Before its beginning: a stop was asked for while another process held its key.
    NotBegun,
    /// It failed, and why.
    Failed(String),
}

/// Brings the result of the node at `index` into `store`, from inputs that are there.
///
/// # Errors
/// The nodes that it is made from and that have no result, by index.
///
/// # Panics
/// When there is no such node.
pub fn execute_node(
    plan: &Plan,
    store: &Store,
    sink: &dyn Sink,
    index: usize,
    stop: &Stop,
    run: Run,
) -> Result<Outcome, Vec<usize>> {
    let find = |index: usize| {
        let node = &plan.nodes[index];
        match store.find_verified(node.stage.name(), &node.key) {
            Lookup::Found(artefact) => Some(artefact),
            Lookup::Missing => None,
            Lookup::Damaged(error) => {
                sink.emit(&Event::Warning { stage: node.label.clone(), message: error.to_string() });
                None
            }
        }
    };
    if let Some(artefact) = find(index) {
        return Ok(Outcome::Done(Box::new(artefact), false));
    }
    let (mut inputs, mut missing) = (Vec::new(), Vec::new());
    for input in &plan.nodes[index].inputs {
        match find(input.node) {
            Some(artefact) => inputs.push((input.role.clone(), artefact)),
            None if missing.contains(&input.node) => {}
            None => missing.push(input.node),
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let (work, inputs) = (Work { plan, store, sink, stop, run }, Inputs::new(inputs));
    let attempt = || {
        let _hold = work.hold(index);
        work.attempt(index, &inputs)
    };
    Ok(thread::scope(|scope| match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, attempt) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| Outcome::Failed(panic_message(&*panic).to_owned())),
        Err(error) => Outcome::Failed(format!("cannot start a thread: {error}")),
    }))
}

/// All that it takes to do a node's work.
pub(super) struct Work<'a> {
    pub plan: &'a Plan,
    pub store: &'a Store,
    pub sink: &'a dyn Sink,
    pub stop: &'a Stop,
    pub run: Run<'a>,
}

impl Work<'_> {
    /// What puts the end of a stopped run off until the node has saved; none for a node that cannot save.
    pub fn hold(&self, index: usize) -> Option<Hold<'_>> {
        self.plan.nodes[index].stage.trains().then(|| self.stop.hold())
    }

    /// Claims the node and does its work; panics are failures.
    pub fn attempt(&self, index: usize, inputs: &Inputs) -> Outcome {
        let label = &self.plan.nodes[index].label;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.compute(index, inputs)))
            .unwrap_or_else(|panic| Err(anyhow!("stage `{label}` panicked: {}", panic_message(&*panic))));
        outcome.unwrap_or_else(|error| {
            let error = format!("{error:#}");
            self.sink.emit(&Event::StageFailed { stage: label.clone(), error: error.clone() });
            Outcome::Failed(error)
        })
    }

    fn compute(&self, index: usize, inputs: &Inputs) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let node = &self.plan.nodes[index];
        let label = || node.label.clone();
        let mut told = None;
        let claim = self.store.claim(self.plan.identity(index), |owner| {
            let owner = owner.map(ToString::to_string);
            // Whoever has just got the lock has not signed its claim yet: it is waited for under its name a moment later.
            if told.as_ref().is_none_or(|told: &Option<String>| owner.is_some() && *told != owner) {
                let (stage, key) = (label(), node.key.to_string());
                self.sink.emit(&Event::StageWaiting { stage, key, owner: owner.clone() });
                told = Some(owner);
            }
            !self.stop.is_asked()
        })?;
        let (artefact, fresh) = match claim {
            Claim::GivenUp => return Ok(Outcome::NotBegun),
            Claim::Done(artefact) => (artefact, false),
            Claim::Work(workspace) => {
                let resumed_from = workspace.checkpoints().latest_step();
                self.sink.emit(&Event::StageStarted { stage: label(), key: node.key.to_string(), resumed_from });
                let worked = (self.run)(node, inputs, &workspace, &Emitter::new(&node.label, self.sink));
                if let Err(error) = worked {
                    workspace.check_claim()?;
                    let Interrupted { step } = error.downcast()?;
                    let folder = workspace.checkpoints().folder(step).display().to_string();
                    // The claim first: who hears of it may go on from there.
                    drop(workspace);
                    self.sink.emit(&Event::StageInterrupted { stage: label(), step, folder });
                    return Ok(Outcome::Interrupted);
                }
                (workspace.finish().context("the stage's work is done, its result could not be stored")?, true)
            }
        };
        self.sink.emit(&Event::StageFinished { stage: label(), wall_seconds: started.elapsed().as_secs_f64() });
        Ok(Outcome::Done(Box::new(artefact), fresh))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
