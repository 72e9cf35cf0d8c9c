//! `runner run` and `runner report`: bring a recipe's results into the store, and its report to where people look.
//!
//! What the report says is `report`'s.

use std::fs;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use clap::Args;

use super::output::{self, Failure, note};
use super::rooms;
use super::{RecipeArgs, StoreArgs, interrupt};
use crate::events::{Bars, Fan, JsonLines, Plain, Sink};
use crate::launch;
use crate::recipe::Experiment;
use crate::stage::execute::{Summary, execute};
use crate::stage::node::{Plan, Stage};
use crate::stage::reason::{Status, statuses};
use crate::store::{Artefact, Store};

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Stages at once; never changes a result [default: number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    store: StoreArgs,
    /// Where report and events.jsonl are written [default: reports/<recipe>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Where the report is written [default: reports/<recipe>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let planned = rooms::plan(&args.recipe.recipe, &args.recipe.overrides)?;
    planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
    let store = args.store.open()?.on_device(&planned.device);
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    complete(planned.experiment, &store, jobs, args.out.as_deref())
}

/// Only a missing report is made here: a command of that name must not start hours of training.
pub(super) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let planned = rooms::plan(&args.recipe.recipe, &args.recipe.overrides)?;
    let store = args.store.open()?.on_device(&planned.device);
    let statuses = statuses(&planned.plan, &store);
    let missing = planned
        .plan
        .nodes
        .iter()
        .zip(&statuses)
        .filter(|(node, status)| matches!(status, Status::Run { .. }) && node.stage != Stage::Report);
    let missing: Vec<_> = missing.map(|(node, _)| node.label.as_str()).collect();
    if let Some(first) = missing.first() {
        return Err(Failure::usage(format!(
            "cannot report on `{}`: {} of its {} stages have not run, the first is `{first}`\n\nhint: `runner run {}` runs them",
            planned.plan.recipe,
            missing.len(),
            planned.plan.nodes.len(),
            args.recipe.recipe.display()
        )));
    }
    complete(planned.experiment, &store, 1, args.out.as_deref())
}

fn complete(experiment: Experiment, store: &Store, jobs: usize, out: Option<&Path>) -> Result<(), Failure> {
    let out = out.map_or_else(|| Path::new("reports").join(&experiment.name), Path::to_owned);
    let log = out.join("events.jsonl");
    let log =
        JsonLines::open(&log).map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", log.display())))?;
    let (run, own) = rooms::begin(experiment, store)?;
    let plan = &run.plan;
    let screen: Box<dyn Sink> =
        if io::stderr().is_terminal() { Box::<Bars>::default() } else { Box::<Plain>::default() };
    let sink = Arc::new(Fan::new(vec![Box::new(log), Box::new(own), screen]));
    let stop = interrupt::listen(sink.clone())?;
    let summary = execute(plan, store, &*sink, jobs, &stop, &|node, inputs, workspace, emitter| {
        rooms::run_stage(&run, store, node, inputs, workspace, emitter, &stop)
    })?;
    if stop.is_asked() {
        interrupt::end(&*sink);
    }
    launch::Summary::refresh(&run, store)?;
    if let Some(artefact) = report_of(plan, &summary) {
        export(artefact, &out)?;
        output::data(&rooms::terminal_table(artefact)?)?;
        let pages = ["index.html", "report.md"].map(|page| out.join(page));
        let page = pages.iter().find(|page| page.exists()).unwrap_or(&out);
        note(format!("report: {}", page.display()));
    }
    conclude(plan, &summary)
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

fn conclude(plan: &Plan, summary: &Summary) -> Result<(), Failure> {
    if !summary.failed.is_empty() {
        return Err(Failure::Stage(failures(plan, summary)));
    }
    if summary.ran == 0 {
        note(format!("nothing to do: all {} stages are cached", plan.nodes.len()));
    }
    Ok(())
}

fn failures(plan: &Plan, summary: &Summary) -> String {
    let (failed, all) = (summary.failed.len(), plan.nodes.len());
    let errors = summary.failed.iter().map(|(label, error)| format!("\n  `{label}`: {error}"));
    let stopped = match summary.skipped.as_slice() {
        [] => String::new(),
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
        insta::assert_snapshot!(failures(&plan, &summary), @r"
        1 of 4 stages failed
          `sft`: loss is NaN at step 7
        not run, because they are made from what failed: `ppo` and 1 more

        hint: what is done is kept; with the cause removed, the same command goes on from there
        ");
    }
}
