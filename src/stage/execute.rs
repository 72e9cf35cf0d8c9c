//! Runs a plan: what is missing, in order, several stages at once.
//!
//! A failing stage stops what is made from it and nothing else. A stop that is asked for lets training stages save, and
//! starts nothing more. What a stage does is the caller's closure; which files it
//! writes is between it and its readers.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::anyhow;

use super::limits::{Limits, Load};
use super::node::{Demand, Node, Plan};
use super::reason;
use super::stop::Stop;
use super::work::{Outcome, Work};
use crate::events::{Emitter, Event, Sink};
use crate::store::{Artefact, Lookup, Store, Workspace};

/// Stack of a worker thread: freeing a deep autodiff graph recurses further than the standard 2 MiB allow.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// What does a node's work: reads the inputs, writes to the workspace, tells the emitter.
pub type Run<'a> = &'a (dyn Fn(&Node, &Inputs, &Workspace, &Emitter) -> anyhow::Result<()> + Sync);

/// The results that a node is made from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    artefacts: Vec<(String, Artefact)>,
}

impl Inputs {
    /// Inputs by role, in the node's order.
    #[must_use]
    pub const fn new(artefacts: Vec<(String, Artefact)>) -> Self {
        Self { artefacts }
    }

    /// The input of the role `role`.
    ///
    /// # Errors
    /// When the node has no such input.
    pub fn artefact(&self, role: &str) -> anyhow::Result<&Artefact> {
        self.find(role).ok_or_else(|| {
            let roles: Vec<_> = self.artefacts.iter().map(|(name, _)| format!("`{name}`")).collect();
            anyhow!(
                "expected an input `{role}`, found {}",
                if roles.is_empty() { "none".into() } else { roles.join(", ") }
            )
        })
    }

    /// The input of the role `role`, where the node has one.
    #[must_use]
    pub fn find(&self, role: &str) -> Option<&Artefact> {
        self.artefacts.iter().find(|(name, _)| name == role).map(|(_, artefact)| artefact)
    }

    /// The inputs whose role begins with `prefix`, with what follows it, in the node's order.
    pub fn artefacts<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a Artefact)> {
        self.artefacts.iter().filter_map(move |(role, artefact)| Some((role.strip_prefix(prefix)?, artefact)))
    }
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Stages that ran to their end.
    pub ran: usize,
    /// Stages whose result was there, or was not needed because what is made from it was there.
    pub cached: usize,
    /// Labels of the stages that failed, and why.
    pub failed: Vec<(String, String)>,
    /// Labels of the stages that saved a checkpoint and ended because a stop was asked for.
    pub interrupted: Vec<String>,
    /// Labels of the stages that did not run because something that they are made from failed, or a stop was asked for.
    pub skipped: Vec<String>,
    /// Each node's result, where there is one.
    pub artefacts: Vec<Option<Artefact>>,
}

/// Brings every wanted result of `plan` into `store`, as many stages at once as `limits` allow, until all is there or `stop`
/// is asked for.
///
/// # Errors
/// When the store itself cannot be used; a stage's failure is in the summary.
pub fn execute(
    plan: &Plan,
    store: &Store,
    sink: &dyn Sink,
    limits: impl Into<Limits>,
    stop: &Stop,
    run: Run,
) -> anyhow::Result<Summary> {
    let (started, limits) = (Instant::now(), limits.into());
    let mut artefacts: Vec<Option<Artefact>> = vec![None; plan.nodes.len()];
    let demands = plan.demand(|index| {
        let node = &plan.nodes[index];
        match store.find_verified(node.stage.name(), &node.key) {
            Lookup::Found(artefact) => artefacts[index] = Some(artefact),
            Lookup::Missing => {}
            Lookup::Damaged(error) => {
                sink.emit(&Event::Warning { stage: node.label.clone(), message: error.to_string() });
            }
        }
        artefacts[index].is_some()
    });
    let wanted = demands.iter().filter(|demand| **demand == Demand::Run).count();
    let cached = plan.nodes.len() - wanted;
    sink.emit(&Event::RunStarted { recipe: plan.recipe.clone(), stages: plan.nodes.len(), cached });
    // What is remembered explains and decides nothing: only who has to write anyway need fail for it.
    let forgotten = |error: anyhow::Error| {
        let message = format!("`plan` and `ls` will not know of this run: {error:#}");
        sink.emit(&Event::Warning { stage: String::new(), message });
    };
    match reason::remember(plan, store, &[]) {
        Err(error) if wanted > 0 => return Err(error),
        remembered => remembered.unwrap_or_else(forgotten),
    }

    let (jobs, board) = (limits.jobs.clamp(1, wanted.max(1)), Mutex::new(Board::new(plan, &demands, artefacts)));
    let pool = Pool { work: Work { plan, store, sink, stop, run }, limits, board, news: Condvar::new() };
    pool.run(jobs);
    let board = pool.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    let summary = board.summary(plan, store, &demands);
    reason::remember(plan, store, &summary.failed).unwrap_or_else(forgotten);
    if !stop.is_asked() {
        sink.emit(&Event::RunFinished {
            ran: summary.ran,
            cached: summary.cached,
            failed: summary.failed.len(),
            wall_seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(summary)
}

/// How far the run is.
struct Board {
    /// For each node that has to run, how many of its inputs still have to be computed.
    missing_inputs: Vec<Option<usize>>,
    /// Nodes that can run now; the first in the plan goes first.
    ready: BTreeSet<usize>,
    running: usize,
    /// What those that run take together.
    taken: Load,
    ran: usize,
    failed: Vec<(usize, String)>,
    interrupted: BTreeSet<usize>,
    artefacts: Vec<Option<Artefact>>,
}

impl Board {
    fn new(plan: &Plan, demands: &[Demand], artefacts: Vec<Option<Artefact>>) -> Self {
        let missing = |node: &Node| node.inputs.iter().filter(|input| demands[input.node] == Demand::Run).count();
        let missing_inputs: Vec<Option<usize>> = plan
            .nodes
            .iter()
            .zip(demands)
            .map(|(node, demand)| (*demand == Demand::Run).then(|| missing(node)))
            .collect();
        let ready = (0..plan.nodes.len()).filter(|&i| missing_inputs[i] == Some(0)).collect();
        let (failed, interrupted) = (Vec::new(), BTreeSet::new());
        Self { missing_inputs, ready, running: 0, taken: Load::default(), ran: 0, failed, interrupted, artefacts }
    }

    fn done(&mut self, plan: &Plan, index: usize, artefact: Artefact, fresh: bool) {
        self.artefacts[index] = Some(artefact);
        self.ran += usize::from(fresh);
        for (reader, node) in plan.nodes.iter().enumerate().skip(index + 1) {
            let read = node.inputs.iter().filter(|input| input.node == index).count();
            if read > 0
                && let Some(missing) = &mut self.missing_inputs[reader]
            {
                *missing -= read;
                if *missing == 0 {
                    self.ready.insert(reader);
                }
            }
        }
    }

    /// The first node that can run now without going beyond `limits`.
    fn start(&mut self, limits: &Limits) -> Option<usize> {
        if limits.fail_fast && !self.failed.is_empty() {
            return None;
        }
        // What is too large for any company runs alone.
        let fits = |index: &usize| self.running == 0 || (self.taken + limits.load(*index)).fits(limits.capacity);
        let index = self.ready.iter().copied().find(fits)?;
        self.ready.remove(&index);
        self.running += 1;
        self.taken = self.taken + limits.load(index);
        Some(index)
    }

    fn summary(mut self, plan: &Plan, store: &Store, demands: &[Demand]) -> Summary {
        let label = |index: usize| plan.nodes[index].label.clone();
        self.failed.sort();
        let begun: BTreeSet<usize> =
            self.failed.iter().map(|(index, _)| *index).chain(self.interrupted.iter().copied()).collect();
        let skipped: Vec<String> = (0..plan.nodes.len())
            .filter(|i| demands[*i] == Demand::Run && self.artefacts[*i].is_none() && !begun.contains(i))
            .map(label)
            .collect();
        for (artefact, node) in self.artefacts.iter_mut().zip(&plan.nodes) {
            if artefact.is_none()
                && let Lookup::Found(found) = store.find(node.stage.name(), &node.key)
            {
                *artefact = Some(found);
            }
        }
        Summary {
            ran: self.ran,
            cached: plan.nodes.len() - self.ran - begun.len() - skipped.len(),
            failed: self.failed.into_iter().map(|(index, error)| (label(index), error)).collect(),
            interrupted: self.interrupted.into_iter().map(label).collect(),
            skipped,
            artefacts: self.artefacts,
        }
    }
}

struct Pool<'a> {
    work: Work<'a>,
    limits: Limits,
    board: Mutex<Board>,
    news: Condvar,
}

impl Pool<'_> {
    fn run(&self, jobs: usize) {
        thread::scope(|scope| {
            let spawn = || thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || self.worker());
            let spawned = (0..jobs).filter(|_| spawn().is_ok()).count();
            if spawned == 0 {
                self.worker();
            }
        });
    }

    fn worker(&self) {
        while let Some((index, inputs)) = self.next() {
            // Dropped last: once its checkpoint is saved, the claim given up and the listeners told.
            let _hold = self.work.hold(index);
            let outcome = self.work.attempt(index, &inputs);
            let mut board = self.board();
            board.running -= 1;
            board.taken = board.taken - self.limits.load(index);
            match outcome {
                Outcome::Done(artefact, fresh) => board.done(self.work.plan, index, *artefact, fresh),
                Outcome::Interrupted => {
                    board.interrupted.insert(index);
                }
                Outcome::NotBegun => {}
                Outcome::Failed(error) => board.failed.push((index, error)),
            }
            drop(board);
            self.news.notify_all();
        }
    }

    /// The next node that can run, with its inputs; none when nothing will become ready any more, or is to start.
    fn next(&self) -> Option<(usize, Inputs)> {
        let mut board = self.board();
        loop {
            if self.work.stop.is_asked() {
                return None;
            }
            if let Some(index) = board.start(&self.limits) {
                let inputs = self.work.plan.nodes[index].inputs.iter();
                let artefacts =
                    inputs.filter_map(|i| Some((i.role.clone(), board.artefacts[i.node].clone()?))).collect();
                return Some((index, Inputs::new(artefacts)));
            }
            if board.running == 0 {
                return None;
            }
            board = self.news.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
