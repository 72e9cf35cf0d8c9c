//! A report from what is there: for runs that failed or were cut short.
//!
//! Numbers are of variants and budgets whose seeds and KL coefficients were all judged; the rest is listed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::super::execute::Inputs;
use super::super::node::{Node, Stage};
use super::super::plan::plan;
use super::super::reason::recall;
use super::collect::{Loaded, keep_common};
use super::{Cell, Config, report};
use crate::recipe::Experiment;
use crate::report::{MissingStage, Report};
use crate::store::{Artefact, Key, Lookup, Store};

/// The report of `experiment`, one recipe, on what `store` holds by now; none where no variant is complete at any budget.
///
/// # Errors
/// When a file that the recipe names cannot be read, or a result is damaged.
pub fn partial_report(experiment: &Experiment, store: &Store) -> Result<Option<Report>> {
    let plan = plan(experiment)?;
    let node = plan.nodes.iter().rfind(|node| node.stage == Stage::Report).context("a plan without a report")?;
    let config: Config = serde_json::from_value(node.config.clone()).context("config of a report")?;
    let found = |node: &Node| match store.find_verified(node.stage.name(), &node.key) {
        Lookup::Found(artefact) => Some(artefact),
        Lookup::Missing | Lookup::Damaged(_) => None,
    };
    let artefacts: Vec<Option<Artefact>> = plan.nodes.iter().map(found).collect();
    let role = |input: &super::super::node::Input| Some((input.role.clone(), artefacts[input.node].clone()?));
    let inputs = Inputs::new(node.inputs.iter().filter_map(role).collect());
    let absent = |cell: usize| {
        let own = format!("{cell}.");
        node.inputs.iter().any(|input| input.role.starts_with(&own) && artefacts[input.node].is_none())
    };
    let incomplete = |at: &Cell| {
        let same = |other: &Cell| other.variant == at.variant && other.budget == at.budget;
        config.cells.iter().enumerate().any(|(other, cell)| same(cell) && absent(other))
    };
    let complete = config.cells.iter().enumerate().filter(|(_, at)| !incomplete(at));
    let mut cells: Vec<Loaded> = complete.map(|(i, at)| Loaded::new(i, at, &inputs)).collect::<Result<_>>()?;
    keep_common(&mut cells);
    if cells.is_empty() {
        return Ok(None);
    }
    let record = recall(store, &experiment.name).unwrap_or_default();
    let errors: BTreeMap<Key, String> =
        record.nodes.into_values().filter_map(|node| Some((node.key, node.error?))).collect();
    let gaps =
        plan.nodes.iter().zip(&artefacts).filter(|(node, artefact)| artefact.is_none() && node.stage != Stage::Report);
    let missing = gaps.map(|(node, _)| {
        let error = errors.get(&node.key).cloned();
        let status = if error.is_some() { "failed" } else { "missing" };
        MissingStage { label: node.label.clone(), status: status.to_owned(), error }
    });
    report(&config, &inputs, &cells, missing.collect()).map(Some)
}
