//! `runner run --launcher slurm` or `hyperqueue`, and `runner cancel`: a run handed to a queue, and taken back.
//!
//! Returns as soon as the queue has everything; what becomes of it is told by the store.

use std::env;
use std::path::{Path, PathBuf, absolute};

use anyhow::Context;
use clap::Args;

use super::output::{self, Failure, note};
use super::rooms::{self, Planned};
use super::{StoreArgs, exec_stage};
use crate::launch::hyperqueue::HyperQueue;
use crate::launch::slurm::Slurm;
use crate::launch::{self, Frozen, Summary, kubernetes};
use crate::recipe::Experiment;
use crate::store::Store;

#[derive(Args)]
pub(super) struct CancelArgs {
    /// The run's id, or the path of its `run.json`
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    store: StoreArgs,
}

/// Submits what is missing to Slurm; with `dry_run`, prints what would be submitted.
pub(super) fn submit_to_slurm(
    planned: Planned,
    store: &Store,
    out: Option<&Path>,
    dry_run: bool,
) -> Result<(), Failure> {
    let (run, experiment) = freeze(planned, store, dry_run)?;
    let id = &run.id;
    let mut slurm = Slurm::open(&run, store)?;
    let submission = slurm.missing(&experiment, &report(&run, store, out)?)?;
    let (arrays, tasks, in_queue) = (submission.arrays(), submission.tasks(), submission.in_queue);
    if dry_run {
        output::data(&slurm.shown(&submission))?;
        note(format!("{arrays} arrays with {tasks} tasks would be submitted, {in_queue} tasks are in the queue"));
        return Ok(());
    }
    if tasks == 0 {
        note(idle(&run, in_queue));
    } else {
        slurm.submit(&submission)?;
        Summary::refresh(&run, store)?;
        let before = if in_queue == 0 { String::new() } else { format!(", {in_queue} tasks were in the queue") };
        note(format!("{arrays} arrays with {tasks} tasks and a job for the report are submitted{before}"));
        note(format!("hint: `runner watch {id}` follows them, `runner cancel {id}` takes them back"));
    }
    output::data(id)
}

/// Submits to HyperQueue what is missing and not made from what is under way; with `dry_run`, prints what would be submitted.
pub(super) fn submit_to_hyperqueue(planned: Planned, store: &Store, dry_run: bool) -> Result<(), Failure> {
    let (run, experiment) = freeze(planned, store, dry_run)?;
    let id = &run.id;
    let hyperqueue = HyperQueue::open(&run, store)?;
    let submission = hyperqueue.missing(&experiment)?;
    let (tasks, in_queue, later) = (submission.tasks(), submission.in_queue, submission.later);
    if dry_run {
        output::data(&submission.text)?;
        note(format!("a job with {tasks} tasks would be submitted, {in_queue} tasks are under way"));
        return Ok(());
    }
    if tasks == 0 {
        note(idle(&run, in_queue));
    } else {
        hyperqueue.submit(&submission)?;
        Summary::refresh(&run, store)?;
        note(format!("a job with {tasks} tasks is submitted"));
        note(format!(
            "hint: `runner watch {id}` follows it, `runner cancel {id}` takes it back, `runner report {id}` reports"
        ));
    }
    if later > 0 {
        note(format!(
            "{later} tasks are made from what is under way: when that has ended, the same command submits them"
        ));
    }
    output::data(id)
}

pub(super) fn cancel(args: &CancelArgs) -> Result<(), Failure> {
    let (run, store) = exec_stage::open(&args.run, &args.store)?;
    let cancelled = Slurm::open(&run, &store)?.cancel()? + HyperQueue::open(&run, &store)?.cancel()?;
    launch::withdraw(&run, &store)?;
    Summary::refresh(&run, &store)?;
    note(format!("{cancelled} jobs cancelled; what is done is kept"));
    if let Some(command) = kubernetes::deletion(&run, &store) {
        note(format!("hint: what Kubernetes has of it is taken back by `{command}`"));
    }
    Ok(())
}

/// The run, written down unless this is a rehearsal, and its experiment with recipes as they are now: they say what stages
/// need, and an earlier submission keeps none of that.
pub(super) fn freeze(planned: Planned, store: &Store, dry_run: bool) -> Result<(Frozen, Experiment), Failure> {
    let experiment = planned.experiment.clone();
    let run = if dry_run { Frozen::new(planned.experiment)? } else { rooms::submit(planned.experiment, store)? };
    Ok((run, experiment))
}

/// Why there is nothing to submit.
fn idle(run: &Frozen, in_queue: usize) -> String {
    match in_queue {
        0 => format!("nothing to do: all {} stages are cached", run.plan.nodes.len()),
        _ => format!("nothing to submit: {in_queue} tasks are queued or running"),
    }
}

/// The command that ends a run.
fn report(run: &Frozen, store: &Store, out: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("`{}` is not valid UTF-8", path.display()))
    };
    let program = text(env::current_exe().context("cannot find this program's own file")?)?;
    let store = text(absolute(store.root()).context("the working directory is gone")?)?;
    let mut command = vec![program, "report".to_owned(), run.id.clone(), "--store".to_owned(), store];
    if let Some(out) = out {
        command.extend(["--out".to_owned(), text(out.to_owned())?]);
    }
    Ok(command)
}
