//! Where the commands meet the other rooms.
//!
//! Every call into `recipe`, `stage`'s stages, `labels` and `report` stands here; the commands know plans, stores and text.
//! `generate`, `score` and `bench` call the one room that they are about (`stage::Opened`, `bench`) themselves.

use std::path::Path;

use serde_json::Value;

use super::output::Failure;
use crate::events::{Emitter, JsonLines};
use crate::labels::{self, Diff};
use crate::launch::Frozen;
use crate::recipe::Experiment;
use crate::stage::execute::Inputs;
use crate::stage::node::{Node, Plan};
use crate::stage::stop::Stop;
use crate::store::{Artefact, Store, Workspace};
use crate::{recipe, report, stage};

/// A recipe, understood.
pub(super) struct Planned {
    pub(super) experiment: Experiment,
    pub(super) plan: Plan,
    /// What the recipe calls its device.
    pub(super) device: String,
    /// What is worth a second look, ready to print.
    pub(super) warnings: Vec<String>,
}

pub(super) fn plan(path: &Path, overrides: &[String]) -> Result<Planned, Failure> {
    let loaded = recipe::load(path, overrides).map_err(|faults| Failure::Recipe(faults.to_string()))?;
    let plan = stage::plan(&loaded.experiment).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let device = loaded.experiment.points.first().and_then(|point| serde_json::to_value(point.recipe.device).ok());
    let device = device.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Planned { experiment: loaded.experiment, plan, device, warnings })
}

/// Writes the run down; from here on, editing the recipe changes nothing.
pub(super) fn begin(experiment: Experiment, store: &Store) -> Result<(Frozen, JsonLines), Failure> {
    Frozen::begin(experiment, store).map_err(|error| Failure::usage(format!("{error:#}")))
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

pub(super) fn letters(labels: &[labels::Label]) -> String {
    labels::spell(labels)
}
