//! Kubernetes: a run as a printed manifest, one indexed job an array of the plan.
//!
//! All jobs begin at once, since a job cannot wait for another. A pod whose inputs are missing waits for them in the store,
//! and gives its place away after a while by ending as a saved stage does; its job brings it back, after longer and longer
//! pauses. So pods that wait cannot keep those out for good that they wait for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use minijinja::context;

use super::command::quoted;
use super::tasks::hand_over;
use super::template::render;
use super::{Array, Frozen, arrays, demand, remember};
use crate::recipe::Experiment;
use crate::recipe::launch::Kubernetes as Config;
use crate::stage::node::{Demand, Node};
use crate::store::{Store, write_atomically};
use crate::units::{Count, Line, Memory};

/// Where pods see the store.
const STORE: &str = "/store";

/// What Nvidia's device plugin calls accelerators.
const ACCELERATOR: &str = "nvidia.com/gpu";

/// Seconds that a pod waits for its inputs before it gives its place away.
const WAIT_SECONDS: u64 = 600;

/// Seconds between the signal and the end of a pod, where the recipe says nothing.
const GRACE_SECONDS: usize = 120;

/// Most tasks in one job, well below what Kubernetes allows.
const MAX_COMPLETIONS: usize = 10_000;

/// Letters of a run's name that are left in a job's: with stage, number and the pod's index it has to stay below 64.
const NAME_LETTERS: usize = 24;

/// A run as a manifest.
#[derive(Debug)]
pub struct Manifest {
    /// What is printed.
    pub text: String,
    /// Its number of jobs.
    pub jobs: usize,
    /// The nodes that they compute.
    tasks: BTreeSet<usize>,
}

impl Manifest {
    /// The manifest of what is missing of `run`. `experiment` is the run's with its recipes as they are now, which say what
    /// stages need.
    ///
    /// # Errors
    /// When the recipe does not say which image and which volume.
    pub fn of(run: &Frozen, store: &Store, experiment: &Experiment) -> Result<Self> {
        let config = experiment.points.first().map(|point| point.recipe.launch.kubernetes.clone()).unwrap_or_default();
        let said = |value: &Option<Line>, key: &str, what: &str| {
            let value = value.as_ref().map(|line| line.as_str().to_owned());
            value.with_context(|| format!("expected `launch.kubernetes.{key}`, {what}, found none"))
        };
        let image = said(&config.image, "image", "the image that stages run in")?;
        let claim = said(&config.claim, "claim", "the persistent volume claim that the store lies on")?;
        let demands = demand(&run.plan, store).into_iter().enumerate();
        let tasks: BTreeSet<usize> =
            demands.filter(|(_, demand)| *demand == Demand::Run).map(|(index, _)| index).collect();
        let arrays = arrays(&run.plan, experiment, &tasks, MAX_COMPLETIONS);
        let instance = slug(&run.id);
        let jobs: Vec<_> = (1..).zip(&arrays).map(|(number, array)| job(run, &config, number, array)).collect();
        let grace_seconds = config.grace_seconds.map_or(GRACE_SECONDS, Count::get);
        let sub_path = config.sub_path.as_ref().map(|path| path.as_str().to_owned());
        let command =
            format!("exec runner exec-stage --wait {WAIT_SECONDS} --store {STORE} {} \"$1\"", quoted(&run.id));
        let script = format!("shift \"$JOB_COMPLETION_INDEX\"; {command}");
        let view = context! { run => run.id.as_str(), instance, image, claim, sub_path, grace_seconds, jobs, script, store => STORE };
        let text = render(include_str!("templates/kubernetes.yaml"), view, "Kubernetes")?;
        Ok(Self { text, jobs: arrays.len(), tasks })
    }

    /// The number of tasks in its jobs.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Writes it down in `store`; from now on its tasks count as queued.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn keep(&self, run: &Frozen, store: &Store) -> Result<()> {
        write_atomically(&path(run, store), self.text.as_bytes())?;
        let nodes: Vec<&Node> = self.tasks.iter().map(|&task| &run.plan.nodes[task]).collect();
        hand_over(run, store, &nodes)?;
        remember(run, store)
    }
}

/// The command that deletes the jobs of `run`; none if no manifest of it was ever printed.
#[must_use]
pub fn deletion(run: &Frozen, store: &Store) -> Option<String> {
    let command = || format!("kubectl delete jobs --selector=app.kubernetes.io/instance={}", slug(&run.id));
    path(run, store).exists().then(command)
}

/// `id` as Kubernetes and SkyPilot take it for a name: small letters, digits and dashes, a letter first.
pub(super) fn slug(id: &str) -> String {
    let (name, hash) = id.rsplit_once('-').unwrap_or(("", id));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).skip_while(|c| !c.is_ascii_alphabetic()).take(NAME_LETTERS).collect();
    let name = name.trim_end_matches('-');
    format!("{}-{hash}", if name.is_empty() { "run" } else { name })
}

fn job(run: &Frozen, config: &Config, number: usize, array: &Array) -> minijinja::Value {
    let nodes = array.tasks.iter().map(|&task| &run.plan.nodes[task]);
    let tasks: Vec<_> = nodes
        .map(|node| context! { key => node.key.as_str(), label => node.label.replace(char::is_control, " ") })
        .collect();
    let completions = tasks.len();
    let parallelism = config.max_parallel.map_or(completions, |most| most.get().min(completions));
    let needs = &array.resources;
    let memory = needs.memory.as_ref().map(|memory| format!("{}Mi", Memory::mebibytes(memory)));
    context! {
        name => format!("{}-{number:03}-{}", slug(&run.id), array.stage.name()),
        stage => array.stage.name(),
        tasks, completions, parallelism, memory,
        cores => needs.cores.map(Count::get),
        devices => needs.devices.filter(|&devices| devices > 0),
        accelerator => config.accelerator.as_ref().map_or(ACCELERATOR, Line::as_str),
    }
}

fn path(run: &Frozen, store: &Store) -> PathBuf {
    store.run_dir(&run.id).join("kubernetes.yaml")
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn names_are_what_kubernetes_takes() {
        let long = "Token_Losses.and much more than fits into a name-0123abcd";
        let names = ["toy-0123abcd", "7 Übung-0123abcd", "2024-0123abcd", long].map(slug);
        let expected = ["toy-0123abcd", "bung-0123abcd", "run-0123abcd", "token-losses-and-much-mo-0123abcd"];
        assert_eq!(names, expected);
    }
}
