//! `runner run`: brings a recipe's results into the store, and its report to where people look.
//!
//! What the report says is `report`'s.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::output::{self, Failure, note};
use super::rooms::{self, Planned};
use super::{RecipeArgs, StoreArgs, devices, interrupt, queue};
use crate::events::{Fan, JsonLines, Mlflow, Plain, Sink, TensorBoard};
use crate::launch;
use crate::recipe::Experiment;
use crate::recipe::launch::Local;
use crate::stage::execute::{Summary, execute};
use crate::stage::limits::Limits;
use crate::stage::node::{Plan, Stage};
use crate::store::{Artefact, Store};
use crate::units::{Count, Memory};

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Who carries the run out; a queue gets what is missing, and the command returns at once
    #[arg(long, value_enum, default_value_t = Launcher::Local)]
    launcher: Launcher,
    /// Print what a queue would get, and submit nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Where report, events.jsonl and tensorboard/ are written [default: reports/<recipe>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write what training measures into a file store of `MLflow` too, as in `--mlflow mlruns`
    #[arg(long, value_name = "DIR")]
    mlflow: Option<PathBuf>,
}

/// Who carries a run out.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Launcher {
    /// This process
    Local,
    /// Slurm, as job arrays
    Slurm,
    /// HyperQueue, as a job with dependent tasks
    #[value(name = "hyperqueue")]
    HyperQueue,
}

/// What a local run may use at once.
#[derive(Args)]
struct LimitArgs {
    /// Stages at once; never changes a result [default: `launch.local.jobs`, else the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<Count>,
    /// Cores that all running stages together may take [default: `launch.local.cores`, else no limit]
    #[arg(long, value_name = "N")]
    cores: Option<Count>,
    /// Memory that all running stages together may take, as in `16G` [default: `launch.local.memory`, else no limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Memory>,
    /// Accelerators that all running stages together may take [default: `launch.local.devices`, else no limit]
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
    /// After a failure, go on with what is not made from it (the default)
    #[arg(long, overrides_with = "fail_fast")]
    keep_going: bool,
    /// After a failure, start nothing new
    #[arg(long, overrides_with = "keep_going")]
    fail_fast: bool,
}

impl LimitArgs {
    /// Whether any of them is on the command line.
    fn are_given(&self) -> bool {
        let Self { jobs, cores, memory, devices, keep_going, fail_fast } = self;
        jobs.is_some() || cores.is_some() || memory.is_some() || devices.is_some() || *keep_going || *fail_fast
    }

    fn limits(&self, planned: &Planned, store: &Store) -> Result<Limits, Failure> {
        let own = Local { cores: self.cores, memory: self.memory.clone(), devices: self.devices, jobs: self.jobs };
        let limits = rooms::local_limits(planned, store, own)?;
        Ok(Limits { fail_fast: self.fail_fast && !self.keep_going, ..limits })
    }
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let planned = rooms::plan(&args.recipe.recipe, &args.recipe.overrides)?;
    planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
    let store = args.store.open()?.on_device(&planned.device);
    if args.launcher == Launcher::Local {
        if args.dry_run {
            let recipe = args.recipe.recipe.display();
            return Err(Failure::usage(format!(
                "`--dry-run` prints what a queue would get: add `--launcher slurm` or `--launcher hyperqueue` (what a local run \
                 would do is said by `runner plan {recipe}`)"
            )));
        }
        let limits = args.limits.limits(&planned, &store)?;
        // What is not here is not missed where all results are in the store.
        let needed = rooms::devices_needed(&planned, &store);
        devices::require(&needed).map_err(|error| Failure::usage(format!("{error:#}")))?;
        return complete(planned.experiment, &store, limits, args.out.as_deref(), args.mlflow.as_deref());
    }
    if args.limits.are_given() {
        return Err(Failure::usage(
            "`--jobs`, `--cores`, `--memory`, `--devices`, `--keep-going` and `--fail-fast` are for a local run: what Slurm may \
             run at once is `max_parallel` in `[launch.slurm]`, what HyperQueue may is what its workers have",
        ));
    }
    match (args.launcher, args.out.as_deref()) {
        (Launcher::HyperQueue, Some(_)) => Err(Failure::usage(
            "`--out` says where a report goes, and a run in HyperQueue ends without one: `runner report RUN --out DIR` writes it",
        )),
        (Launcher::HyperQueue, None) => queue::submit_to_hyperqueue(planned, &store, args.dry_run),
        (_, out) => queue::submit_to_slurm(planned, &store, out, args.dry_run),
    }
}

/// Brings what is missing into the store, and the report to `out`; `mlflow` is where its run is followed too.
pub(super) fn complete(
    experiment: Experiment,
    store: &Store,
    limits: Limits,
    out: Option<&Path>,
    mlflow: Option<&Path>,
) -> Result<(), Failure> {
    let out = out.map_or_else(|| Path::new("reports").join(&experiment.name), Path::to_owned);
    let log = out.join("events.jsonl");
    let log =
        JsonLines::open(&log).map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", log.display())))?;
    let (run, own) = rooms::begin(experiment, store)?;
    let plan = &run.plan;
    let screen: Box<dyn Sink> =
        if io::stderr().is_terminal() { Box::new(rooms::live(plan, store)) } else { Box::<Plain>::default() };
    let fail_fast = limits.fail_fast;
    let is_recorded = own.is_some();
    let own = own.map(|own| Box::new(own) as Box<dyn Sink>);
    let boards = Box::new(TensorBoard::new(out.join("tensorboard"))) as Box<dyn Sink>;
    let mlflow = mlflow.map(|folder| Box::new(Mlflow::new(folder, &run.id)) as Box<dyn Sink>);
    let sinks = [Box::new(log) as Box<dyn Sink>, boards].into_iter().chain(mlflow).chain(own).chain([screen]);
    let sink = Arc::new(Fan::new(sinks.collect()));
    let stop = interrupt::listen(sink.clone())?;
    let summary = execute(plan, store, &*sink, limits, &stop, &|node, inputs, workspace, emitter| {
        rooms::run_stage(&run, store, node, inputs, workspace, emitter, &stop)
    })?;
    if stop.is_asked() {
        interrupt::end(&*sink);
    }
    if is_recorded {
        launch::Summary::refresh(&run, store)?;
    }
    if run.experiment.is_sweep() {
        show(&rooms::sweep_report(&run.experiment(store), store, &out)?, &out)?;
    } else if let Some(artefact) = report_of(plan, &summary) {
        export(artefact, &out)?;
        show(&rooms::terminal_table(artefact)?, &out)?;
    } else if let Some(table) = rooms::partial_report(&run.experiment(store), store, &out)? {
        show(&table, &out)?;
    }
    conclude(plan, &summary, fail_fast)
}

/// Prints the table of the report in `out`, and where its page is.
pub(super) fn show(table: &str, out: &Path) -> Result<(), Failure> {
    output::data(table)?;
    let pages = ["index.html", "report.md"].map(|page| out.join(page));
    let page = pages.iter().find(|page| page.exists()).map_or(out, PathBuf::as_path);
    note(format!("report: {}", page.display()));
    Ok(())
}

fn report_of<'a>(plan: &Plan, summary: &'a Summary) -> Option<&'a Artefact> {
    let index = plan.nodes.iter().rposition(|node| node.stage == Stage::Report)?;
    summary.artefacts[index].as_ref()
}

/// Copies the report's files to `out`.
fn export(report: &Artefact, out: &Path) -> anyhow::Result<()> {
    for name in report.manifest.files.keys() {
        let target = out.join(name);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        fs::copy(report.path(name)?, &target).with_context(|| format!("cannot write `{}`", target.display()))?;
    }
    Ok(())
}

fn conclude(plan: &Plan, summary: &Summary, fail_fast: bool) -> Result<(), Failure> {
    if !summary.failed.is_empty() {
        return Err(Failure::Stage(failures(plan, summary, fail_fast)));
    }
    if summary.ran == 0 {
        note(format!("nothing to do: all {} stages are cached", plan.nodes.len()));
    }
    Ok(())
}

fn failures(plan: &Plan, summary: &Summary, fail_fast: bool) -> String {
    let (failed, all) = (summary.failed.len(), plan.nodes.len());
    let errors = summary.failed.iter().map(|(label, error)| format!("\n  `{label}`: {error}"));
    let stopped = match summary.skipped.as_slice() {
        [] => String::new(),
        [label, more @ ..] if fail_fast => {
            format!("\nnot run, because of the failure: `{label}` and {} more", more.len())
        }
        [label] => format!("\nnot run, because it is made from what failed: `{label}`"),
        [label, more @ ..] => {
            format!("\nnot run, because they are made from what failed: `{label}` and {} more", more.len())
        }
    };
    format!(
        "{failed} of {all} stages failed{}{stopped}\n\nhint: what is done is kept; with the cause removed, the same command goes on from there",
        errors.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn failures_are_listed_with_what_they_stopped() {
        let mut plan = Plan::new("toy");
        for stage in [Stage::Data, Stage::Sft, Stage::Ppo, Stage::Report] {
            plan.push(stage, 1, stage.name(), json!({}), &[]);
        }
        let failed = vec![("sft".to_owned(), "loss is NaN at step 7".to_owned())];
        let summary = Summary { ran: 1, failed, skipped: vec!["ppo".into(), "report".into()], ..Summary::default() };
        insta::assert_snapshot!(failures(&plan, &summary, false), @r"
        1 of 4 stages failed
          `sft`: loss is NaN at step 7
        not run, because they are made from what failed: `ppo` and 1 more

        hint: what is done is kept; with the cause removed, the same command goes on from there
        ");
    }
}
