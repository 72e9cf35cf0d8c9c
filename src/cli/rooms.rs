//! Where the commands meet the other rooms.
//!
//! Every call into `recipe`, `stage`'s stages, `labels` and `report` stands here; the commands know plans, stores and text.
//! `generate`, `score`, `winrate` and `bench` call the one room that they are about (`stage::Opened`, `eval`, `bench`)
//! themselves.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::output::{Failure, note};
use crate::annotate::change::Labeller;
use crate::compute::DeviceName;
use crate::events::{Emitter, JsonLines, Listed, Live};
use crate::labels::{self, Diff};
use crate::launch::{self, Frozen};
use crate::recipe::Experiment;
use crate::recipe::diagnostics::did_you_mean;
use crate::recipe::launch::Local;
use crate::stage::execute::Inputs;
use crate::stage::limits::Limits;
use crate::stage::node::{Demand, Node, Plan};
use crate::stage::reason::{Status, statuses};
use crate::stage::stop::Stop;
use crate::store::{Artefact, Store, Workspace};
use crate::{recipe, report, stage};

/// A recipe, understood.
pub(super) struct Planned {
    pub(super) experiment: Experiment,
    pub(super) plan: Plan,
    /// The device on which its stages compute.
    pub(super) device: String,
    /// What is worth a second look, ready to print.
    pub(super) warnings: Vec<String>,
}

pub(super) fn plan(path: &Path, overrides: &[String]) -> Result<Planned, Failure> {
    let loaded = recipe::load(path, overrides).map_err(|faults| Failure::Recipe(faults.to_string()))?;
    let plan = plan_of(&loaded.experiment)?;
    let device = device(&loaded.experiment);
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Planned { experiment: loaded.experiment, plan, device, warnings })
}

pub(super) fn plan_of(experiment: &Experiment) -> Result<Plan, Failure> {
    stage::plan(experiment).map_err(|error| Failure::usage(format!("{error:#}")))
}

/// A run that was submitted earlier, as it was planned then, with what its tasks say remembered.
pub(super) fn planned(run: Frozen, store: &Store) -> Result<Planned, Failure> {
    launch::remember(&run, store)?;
    let device = device(&run.experiment);
    Ok(Planned { experiment: run.experiment(store), plan: run.plan, device, warnings: Vec::new() })
}

/// The devices on which the stages of `experiment` compute: where its recipe leaves it open, what it is here.
pub(super) fn device(experiment: &Experiment) -> String {
    let devices = experiment.points.first().map(|point| point.recipe.devices()).unwrap_or_default();
    let resolved = devices.into_iter().map(|device| match device {
        DeviceName::Auto => DeviceName::from(device.family()).to_string(),
        named @ DeviceName::Of(..) => named.to_string(),
    });
    resolved.collect::<Vec<_>>().join(", ")
}

/// The devices that a run of it needs: none where no stage that is still to run computes on any.
pub(super) fn devices_needed(planned: &Planned, store: &Store) -> Vec<DeviceName> {
    let nodes = planned.plan.nodes.iter().zip(launch::demand(&planned.plan, store));
    let computing = nodes.filter(|(node, demand)| *demand == Demand::Run && node.computes());
    let mut devices = Vec::new();
    for device in computing.flat_map(|(node, _)| planned.experiment.points[node.points[0]].recipe.devices()) {
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    devices
}

/// What a local run may use at once; `own` wins over the recipe.
pub(super) fn local_limits(planned: &Planned, store: &Store, own: Local) -> Result<Limits, Failure> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    launch::local_limits(&planned.experiment, &planned.plan, store, own, jobs)
        .map_err(|error| Failure::usage(format!("{error:#}")))
}

/// Writes the run down; from here on, editing the recipe changes nothing.
pub(super) fn submit(experiment: Experiment, store: &Store) -> Result<Frozen, Failure> {
    Frozen::submit(experiment, store).map_err(|error| Failure::usage(format!("{error:#}")))
}

/// The same, by a process that goes to work on it: what happens goes to the events. Where nothing has to run, a store that
/// may only be read will do, and the run is not written down.
pub(super) fn begin(experiment: Experiment, store: &Store) -> Result<(Frozen, Option<JsonLines>), Failure> {
    let error = match Frozen::begin(experiment.clone(), store) {
        Ok((run, events)) => return Ok((run, Some(events))),
        Err(error) => error,
    };
    let run = Frozen::new(experiment)?;
    if launch::demand(&run.plan, store).contains(&Demand::Run) {
        return Err(error.into());
    }
    note(format!("warning: this run is not written down: {error:#}"));
    Ok((run, None))
}

/// What the recipe says under `[annotate]` and how it labels tokens, with its tokenizer from `artefact`.
pub(super) fn annotated(
    planned: &Planned,
    artefact: Option<Artefact>,
) -> Result<(recipe::annotate::Config, Labeller), Failure> {
    let recipe = &planned.experiment.points[0].recipe;
    let tokenizer = artefact.map(|artefact| stage::tokenizer_of(recipe, artefact)).transpose()?;
    Ok((recipe.annotate.clone(), Labeller { tokenizer, unit: recipe.labels.unit }))
}

/// Where annotations of the recipe at `path` are kept: where it reads them, else under its name.
pub(super) fn annotations_of(planned: &Planned, path: &Path) -> PathBuf {
    match &planned.experiment.points[0].recipe.edits {
        recipe::EditSource::Annotations(edits) => edits.path.clone(),
        _ => Path::new("annotations").join(path.file_stem().unwrap_or_default()).with_extension("jsonl"),
    }
}

/// The run that the recipe at `path` would be.
pub(super) fn freeze(path: &Path) -> Result<Frozen, Failure> {
    let loaded = recipe::load(path, &[]).map_err(|faults| Failure::Recipe(faults.to_string()))?;
    Frozen::new(loaded.experiment).map_err(|error| Failure::usage(format!("{error:#}")))
}

pub(super) fn run_stage(
    run: &Frozen,
    store: &Store,
    node: &Node,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
    stop: &Stop,
) -> anyhow::Result<()> {
    stage::run(&run.recipe(node, store), node, inputs, workspace, emitter, stop)
}

/// The version of the code that would do the work of `node`.
pub(super) fn version(node: &Node) -> u32 {
    stage::version(node.stage)
}

pub(super) fn explain(key: &str) -> Result<String, Failure> {
    recipe::explain(key).map_err(Failure::Usage)
}

pub(super) fn explain_json(key: &str) -> Result<Value, Failure> {
    recipe::explain_json(key).map_err(Failure::Usage)
}

/// The table that ends a run, from the report stage's result.
pub(super) fn terminal_table(artefact: &Artefact) -> anyhow::Result<String> {
    Ok(report::terminal_table(&artefact.read_json("report.json")?))
}

/// Writes the report of the sweep `experiment`, from what the store has of it, into `out`, and returns its table.
pub(super) fn sweep_report(experiment: &Experiment, store: &Store, out: &Path) -> anyhow::Result<String> {
    let report = stage::sweep_report(experiment, store)?;
    report::sweep::write(&report, out)?;
    Ok(report::sweep::terminal_table(&report))
}

/// Writes the report of `experiment`, one recipe, on what is complete of it into `out`, and returns its table; none where nothing
/// is.
pub(super) fn partial_report(experiment: &Experiment, store: &Store, out: &Path) -> anyhow::Result<Option<String>> {
    let Some(report) = stage::partial_report(experiment, store)? else { return Ok(None) };
    report::write(&report, out)?;
    Ok(Some(report::terminal_table(&report)))
}

/// Writes every rendering of the report in the file `json` into `out`, and returns its table.
pub(super) fn render_again(json: &Path, out: &Path) -> Result<String, Failure> {
    let unreadable = |error: String| Failure::usage(format!("cannot read the report `{}`: {error}", json.display()));
    let text = std::fs::read_to_string(json).map_err(|error| unreadable(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let has = |key: &str| value.get(key).is_some_and(Value::is_string);
    if has("sweep") {
        let report = serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?;
        report::sweep::write(&report, out)?;
        return Ok(report::sweep::terminal_table(&report));
    }
    if !has("recipe") {
        return Err(unreadable("expected a `report.json` of this program, with `recipe` or `sweep` in it".to_owned()));
    }
    let report = serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?;
    report::write(&report, out)?;
    Ok(report::terminal_table(&report))
}

/// Renders the `report.json` in `out` by a template of the user's, beside it; returns where.
pub(super) fn render_own(template: &Path, out: &Path) -> Result<PathBuf, Failure> {
    let json = std::fs::read_to_string(out.join("report.json")).context("the report just written")?;
    let text = report::render_own(template, &serde_json::from_str(&json).context("the report just written")?)
        .map_err(|error| Failure::usage(format!("{error:#}")))?;
    let name = template.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".jinja").or_else(|| name.strip_suffix(".j2")).unwrap_or(&name);
    let page = out.join(plain);
    std::fs::write(&page, text).with_context(|| format!("cannot write `{}`", page.display()))?;
    Ok(page)
}

/// The view of a run on a terminal, with why each stage runs.
pub(super) fn live(plan: &Plan, store: &Store) -> Live {
    let statuses = statuses(plan, store);
    let stages = plan.nodes.iter().zip(statuses).map(|(node, status)| Listed {
        label: node.label.clone(),
        kind: node.stage.name(),
        reason: match status {
            Status::Run { reason } => Some(reason),
            Status::Cached | Status::Unwanted => None,
        },
    });
    Live::new(stages.collect())
}

/// The point `name` of a sweep as an experiment of its own, under a name that is a file's.
pub(super) fn point(experiment: &Experiment, name: &str) -> Result<Experiment, Failure> {
    if !experiment.is_sweep() {
        return Err(Failure::usage(format!("`{}` is no sweep: it has no points to choose from", experiment.name)));
    }
    if let Some(point) = experiment.points.iter().find(|point| point.name == name) {
        let title = format!("{} {}", experiment.name, point.name).replace(['/', '\\'], "_");
        return Ok(Experiment::single(title, point.recipe.clone()));
    }
    let names: Vec<&str> = experiment.points.iter().map(|point| point.name.as_str()).collect();
    let hint = match did_you_mean(name, names.iter().copied()) {
        Some(near) => format!("\n\nhint: did you mean `{near}`?"),
        None => String::new(),
    };
    let list = names.join("\n  ");
    Err(Failure::usage(format!("`{}` has no point `{name}`; its points are\n  {list}{hint}", experiment.name)))
}

pub(super) fn diff_words(original: &str, edited: &str) -> Diff {
    labels::diff_words(original, edited)
}

pub(super) fn diff_ids(original: &[u32], edited: &[u32]) -> Diff {
    labels::diff(original, edited)
}

pub(super) fn render_words(original: &str, edited: &str, diff: &Diff, colour: bool) -> String {
    labels::render(&labels::word_pieces(original), &labels::word_pieces(edited), diff, colour)
}

pub(super) fn render_ids(original: &[u32], edited: &[u32], diff: &Diff, colour: bool) -> String {
    let pieces = |ids: &[u32]| -> Vec<String> { ids.iter().map(|id| format!(" {id}")).collect() };
    labels::render(&pieces(original), &pieces(edited), diff, colour).trim_start().to_owned()
}

pub(super) fn render_pieces([original, edited]: &[Vec<String>; 2], diff: &Diff, colour: bool) -> String {
    labels::render(original, edited, diff, colour)
}

pub(super) fn letters(labels: &[labels::Label]) -> String {
    labels::spell(labels)
}
