//! `runner report`: the report of a run, of several beside each other, or of a `report.json` once more; with a template of
//! the user's own.
//!
//! What a report says is `report`'s. Nothing is trained here: a command of that name must not start hours of work.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Failure, note};
use super::rooms::{self, Planned};
use super::run::{complete, show};
use super::{StoreArgs, runs};
use crate::launch::Frozen;
use crate::recipe::Experiment;
use crate::stage::limits::Limits;
use crate::stage::node::Stage;
use crate::stage::reason::{Status, statuses};
use crate::store::Store;

#[derive(Args)]
pub(super) struct ReportArgs {
    /// A recipe's TOML file, a run (id, tag, or a recipe's name for its last run), or a `report.json`; several runs are compared
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Override a key of the recipe files, as in `--set ppo.steps=80`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// Of a sweep, the report of this point alone
    #[arg(long, value_name = "NAME")]
    point: Option<String>,
    /// A minijinja template over the fields of `report.json`: `my.html.jinja` becomes `my.html`
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Where the report is written [default: reports/<recipe>, or reports/<recipe>/<point>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn report(args: &ReportArgs) -> Result<(), Failure> {
    if let Some(template) = args.template.as_ref().filter(|template| !template.is_file()) {
        return Err(Failure::usage(format!("expected a template's file, found none at `{}`", template.display())));
    }
    let out = match args.runs.as_slice() {
        [json] if Path::new(json).extension().is_some_and(|ending| ending == "json") => again(args, Path::new(json))?,
        [name] => of_one(args, name)?,
        several => of_several(args, several)?,
    };
    if let Some(template) = &args.template {
        let page = rooms::render_own(template, &out)?;
        note(format!("template: {}", page.display()));
    }
    Ok(())
}

/// Every rendering of a `report.json` once more; without a folder, beside it.
fn again(args: &ReportArgs, json: &Path) -> Result<PathBuf, Failure> {
    if args.point.is_some() || !args.overrides.is_empty() {
        return Err(Failure::usage("`--point` and `--set` belong to recipes and runs: a `report.json` is as it is"));
    }
    let beside = json.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let out = args.out.clone().unwrap_or(beside);
    show(&rooms::render_again(json, &out)?, &out)?;
    Ok(out)
}

/// The report of a recipe file or of a run; a sweep's and an incomplete one's are made from what is there.
fn of_one(args: &ReportArgs, name: &str) -> Result<PathBuf, Failure> {
    let store = args.store.open()?;
    let planned = planned(args, name, &store)?;
    let store = store.on_device(&planned.device);
    let folder = Path::new("reports").join(&planned.experiment.name);
    let (experiment, folder) = match &args.point {
        Some(point) => (rooms::point(&planned.experiment, point)?, folder.join(point.replace(['/', '\\'], "_"))),
        None => (planned.experiment, folder),
    };
    let out = args.out.clone().unwrap_or(folder);
    if experiment.is_sweep() {
        show(&rooms::sweep_report(&experiment, &store, &out)?, &out)?;
        return Ok(out);
    }
    let plan = rooms::plan_of(&experiment)?;
    let statuses = statuses(&plan, &store);
    let missing = plan
        .nodes
        .iter()
        .zip(&statuses)
        .filter(|(node, status)| matches!(status, Status::Run { .. }) && node.stage != Stage::Report);
    let missing: Vec<_> = missing.map(|(node, _)| node.label.as_str()).collect();
    let Some(first) = missing.first() else {
        complete(experiment, &store, Limits::from(1), Some(&out), None)?;
        return Ok(out);
    };
    let (lacking, all) = (missing.len(), plan.nodes.len());
    let Some(table) = rooms::partial_report(&experiment, &store, &out)? else {
        return Err(Failure::usage(format!(
            "cannot report on `{}`: {lacking} of its {all} stages have not run, the first is `{first}`\n\nhint: `runner run {name}` runs \
             them",
            plan.recipe,
        )));
    };
    show(&table, &out)?;
    note(format!(
        "warning: {lacking} of {all} stages have no result, the first is `{first}`: the report lists them, and its numbers are of \
         what is complete"
    ));
    Ok(out)
}

/// A recipe file, or what a name means in the store.
fn planned(args: &ReportArgs, name: &str, store: &Store) -> Result<Planned, Failure> {
    let path = Path::new(name);
    // A file that is there is a recipe; an id may look like one.
    let run = if !path.is_file() || Frozen::open(name, store).is_ok() { runs::found(store, name)? } else { None };
    match run {
        None => rooms::plan(path, &args.overrides),
        Some(run) if args.overrides.is_empty() => rooms::planned(run, store),
        Some(_) => {
            Err(Failure::usage(format!("`--set` changes recipe files: `{name}` is a run, which stays as it was")))
        }
    }
}

/// Runs beside each other, every one a point of a sweep over runs.
fn of_several(args: &ReportArgs, names: &[String]) -> Result<PathBuf, Failure> {
    if args.point.is_some() {
        return Err(Failure::usage("`--point` takes one sweep: of several runs, all points are compared"));
    }
    let store = args.store.open()?;
    let mut experiments: Vec<(String, Experiment)> = Vec::new();
    for name in names {
        let short =
            Path::new(name).file_stem().map_or_else(|| name.clone(), |stem| stem.to_string_lossy().into_owned());
        let short = if Path::new(name).is_file() { short } else { name.clone() };
        experiments.push((short, planned(args, name, &store)?.experiment));
    }
    let experiment = Experiment::beside(experiments);
    let out = args.out.clone().unwrap_or_else(|| Path::new("reports").join(&experiment.name));
    show(&rooms::sweep_report(&experiment, &store, &out)?, &out)?;
    Ok(out)
}
