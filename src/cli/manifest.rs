//! `runner plan --manifest`: a run for Kubernetes or SkyPilot, to be applied by whoever may.

use clap::ValueEnum;

use super::output::{self, Failure, note};
use super::rooms::{self, Planned};
use super::{RecipeArgs, queue};
use crate::launch::kubernetes::Manifest;
use crate::launch::{Summary, skypilot};
use crate::store::Store;

/// Whom a manifest is for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Kubernetes, as indexed jobs; the run is written down in the store, and counts as queued
    K8s,
    /// SkyPilot, as a task for one machine
    Skypilot,
}

pub(super) fn print(format: Format, planned: Planned, recipe: &RecipeArgs, store: &Store) -> Result<(), Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    if format == Format::Skypilot {
        let (run, experiment) = queue::freeze(planned, store, true)?;
        let task = skypilot::manifest(&run, &experiment, &recipe.recipe, &recipe.overrides).map_err(usage)?;
        output::data(&task)?;
        note("hint: `sky jobs launch FILE`, from this directory, has a machine do the run");
        return Ok(());
    }
    // First without the store, which is not to know of a run whose recipe lacks something.
    let (rehearsed, experiment) = queue::freeze(planned, store, true)?;
    let manifest = Manifest::of(&rehearsed, store, &experiment).map_err(usage)?;
    if manifest.tasks() == 0 {
        note(format!("nothing to do: all {} stages are cached", rehearsed.plan.nodes.len()));
        return Ok(());
    }
    let run = rooms::submit(experiment, store)?;
    manifest.keep(&run, store)?;
    Summary::refresh(&run, store)?;
    output::data(&manifest.text)?;
    let (jobs, tasks, id) = (manifest.jobs, manifest.tasks(), &run.id);
    note(format!(
        "{jobs} jobs with {tasks} tasks; `{id}` is written down in `{}` and counts as queued",
        store.root().display()
    ));
    note(format!(
        "hint: `kubectl apply -f FILE` starts it, `runner watch {id}` follows it, `runner report {id}` reports"
    ));
    Ok(())
}
