//! `runner exec-stage`: one stage of a submitted run, for launchers.
//!
//! Plans nothing: what the stage is, and what it is made from, was written down when the run was submitted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::output::{Failure, note};
use super::{StoreArgs, devices, interrupt, rooms};
use crate::events::{Fan, Plain, Sink};
use crate::launch::{self, Frozen, Keeper, Task, TaskState};
use crate::stage::node::Plan;
use crate::stage::work::{Outcome, execute_node};
use crate::store::Store;
use crate::units::Count;

/// Time between two looks for inputs.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct ExecStageArgs {
    /// The run's id, or the path of its `run.json`
    #[arg(value_name = "RUN")]
    run: String,
    /// The key of the stage's result, as the run's plan has it, or its first digits
    key: String,
    /// How long to wait for inputs that others make, before it ends as if interrupted [default: not at all]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<Count>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn exec_stage(args: &ExecStageArgs) -> Result<(), Failure> {
    let (run, store) = open(&args.run, &args.store)?;
    let index = find(&run.plan, &args.key)?;
    let node = &run.plan.nodes[index];
    let version = rooms::version(node);
    if node.version != version {
        return Err(Failure::usage(format!(
            "the run `{}` was submitted by another version of this program: expected version {} of the code of `{}` stages, \
             found {version}\n\nhint: submitted again, it is a new run, which finds all that is still valid",
            run.id, node.version, node.stage
        )));
    }
    let store = store.on_device(rooms::device(&run.experiment));
    let log = run.attend(&store)?;
    let keeper = Arc::new(Keeper::new(&run, &store, node));
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(log), Box::new(Arc::clone(&keeper)), Box::<Plain>::default()];
    let sink = Arc::new(Fan::new(sinks));
    let stop = interrupt::listen(sink.clone())?;
    let attempt = || {
        execute_node(&run.plan, &store, &*sink, index, &stop, &|node, inputs, workspace, emitter| {
            if node.computes() {
                devices::require(&run.experiment.points[node.points[0]].recipe.devices())?;
            }
            rooms::run_stage(&run, &store, node, inputs, workspace, emitter, &stop)
        })
    };
    let mut outcome = attempt();
    if let Some(wait) = args.wait {
        let (began, wait) = (Instant::now(), Duration::from_secs(wait.get() as u64));
        while let Err(missing) = &outcome
            && !stop.is_asked()
            && !missing.iter().any(|&index| is_given_up(&run, &store, index))
        {
            if began.elapsed() >= wait {
                note(format!("`{}` gives its place away: {}", node.label, not_there(&run, &store, missing)));
                interrupt::end(&*sink);
            }
            thread::sleep(INTERVAL);
            outcome = attempt();
        }
    }
    if stop.is_asked() {
        interrupt::end(&*sink);
    }
    match outcome {
        Ok(Outcome::Done(_, true)) => Ok(()),
        Ok(Outcome::Done(_, false)) => {
            keeper.set(TaskState::Done, None);
            note(format!("`{}` is done already", node.label));
            Ok(())
        }
        Ok(Outcome::Failed(error)) => {
            launch::skip_heirs(&run, &store, index, &error)?;
            Err(Failure::Stage(format!("stage `{}` failed: {error}", node.label)))
        }
        // Only a stop leads there, and a stop has ended the process.
        Ok(Outcome::Interrupted | Outcome::NotBegun) => interrupt::end(&*sink),
        Err(missing) => {
            let message = not_there(&run, &store, &missing);
            keeper.set(TaskState::Skipped, Some(message.clone()));
            Err(Failure::Stage(format!("stage `{}` is skipped: {message}", node.label)))
        }
    }
}

/// The run that `name` is the id of, or the path of the file of, and the store that it lies in.
pub(super) fn open(name: &str, store: &StoreArgs) -> Result<(Frozen, Store), Failure> {
    let path = Path::new(name);
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    if path.file_name().is_some_and(|file| file == "run.json") {
        let path = path.canonicalize().map_err(|error| Failure::usage(format!("cannot open `{name}`: {error}")))?;
        let folders: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        // STORE/runs/ID/run.json
        let (Some(id), Some(root)) = (folders.first().and_then(|folder| folder.file_name()), folders.get(2)) else {
            return Err(Failure::usage(format!("expected `STORE/runs/ID/run.json`, found `{name}`")));
        };
        let store = if store.store.is_some() { store.open()? } else { Store::open(root)? };
        let run = Frozen::open(&id.to_string_lossy(), &store).map_err(usage)?;
        return Ok((run, store));
    }
    let store = store.open()?;
    let known = store.runs()?;
    if !known.iter().any(|id| id == name) {
        let root = store.root().display();
        let known = match known.as_slice() {
            [] => "there is none".to_owned(),
            known => format!("there are `{}`", known.join("`, `")),
        };
        return Err(Failure::usage(format!("no run `{name}` in the store `{root}`: {known}")));
    }
    Ok((Frozen::open(name, &store).map_err(usage)?, store))
}

/// The node of `plan` whose key begins with `digits`.
fn find(plan: &Plan, digits: &str) -> Result<usize, Failure> {
    let found: Vec<usize> = (0..plan.nodes.len())
        .filter(|&index| !digits.is_empty() && plan.nodes[index].key.as_str().starts_with(digits))
        .collect();
    match found.as_slice() {
        [index] => Ok(*index),
        [] => Err(Failure::usage(format!(
            "expected the key of one of the run's {} stages, found `{digits}`",
            plan.nodes.len()
        ))),
        several => Err(Failure::usage(format!(
            "`{digits}` begins the keys of {} stages: more digits tell them apart",
            several.len()
        ))),
    }
}

/// Whether nobody goes on with the node at `index`.
fn is_given_up(run: &Frozen, store: &Store, index: usize) -> bool {
    let task = Task::find(run, store, &run.plan.nodes[index]);
    task.is_some_and(|task| matches!(task.state, TaskState::Failed | TaskState::Skipped))
}

/// That and why the results of the nodes `missing` are not there.
fn not_there(run: &Frozen, store: &Store, missing: &[usize]) -> String {
    let causes: Vec<_> = missing.iter().map(|&index| cause(run, store, index)).collect();
    format!("it is made from what is not there: {}", causes.join(", "))
}

/// Why the result of the node at `index` is not there.
fn cause(run: &Frozen, store: &Store, index: usize) -> String {
    let node = &run.plan.nodes[index];
    let task = Task::find(run, store, node);
    match task.as_ref().map(|task| (task.state, task.error.as_deref())) {
        Some((TaskState::Failed, Some(error))) => format!("`{}` (failed: {error})", node.label),
        Some((TaskState::Skipped, _)) => format!("`{}` (skipped)", node.label),
        _ => format!("`{}`", node.label),
    }
}
