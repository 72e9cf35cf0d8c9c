//! HyperQueue: a run as a job of its own, whose tasks depend on each other as the plan's stages do.
//!
//! Nothing is remembered here: a job is known by its name, and task N of it does node N of the plan, so that HyperQueue's
//! own lists say what is under way. It cancels what depends on a task that failed, and leaves the rest alone: that is what a
//! failed stage stops. Tasks of one job cannot wait for those of another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use minijinja::context;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::command::{ask, exec_stage, here, text};
use super::tasks::{hand_back, hand_over};
use super::template::render;
use super::{Frozen, demand, remember, resources};
use crate::recipe::Experiment;
use crate::recipe::launch::{HyperQueue as Config, Resources};
use crate::stage::node::{Demand, Node};
use crate::store::{Store, write_atomically};
use crate::units::{Count, Line, Memory, Time};

/// What workers call the accelerators that they find by themselves.
const ACCELERATOR: &str = "gpus/nvidia";

/// A run in HyperQueue's hands.
#[derive(Debug)]
pub struct HyperQueue<'a> {
    run: &'a Frozen,
    store: &'a Store,
    /// The name of its jobs: run and store, since the same run may be in two stores.
    name: String,
}

/// What there is to submit.
#[derive(Debug)]
pub struct Submission {
    /// The job's definition file.
    pub text: String,
    /// The nodes that its tasks compute.
    tasks: Vec<usize>,
    /// Tasks that are queued or running already.
    pub in_queue: usize,
    /// Tasks that are made from those, and can be submitted when they have ended.
    pub later: usize,
}

impl Submission {
    /// The number of tasks to submit.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }
}

/// A job, as `hq job list` has it.
#[derive(Deserialize)]
struct Job {
    id: u32,
    name: String,
}

/// A task, as `hq task list` has it.
#[derive(Deserialize)]
struct Listed {
    id: usize,
    state: String,
}

impl<'a> HyperQueue<'a> {
    /// What HyperQueue has of `run`.
    ///
    /// # Errors
    /// When the store's place has no name.
    pub fn open(run: &'a Frozen, store: &'a Store) -> Result<Self> {
        let name = format!("{} in {}", run.id, text(&here(store.root())?)?);
        Ok(Self { run, store, name })
    }

    /// What is missing in the store and not under way, nor made from what is. `experiment` is the run's with its recipes as
    /// they are now, which say what stages need.
    ///
    /// # Errors
    /// When HyperQueue cannot be asked.
    pub fn missing(&self, experiment: &Experiment) -> Result<Submission> {
        let nodes = &self.run.plan.nodes;
        let under_way = self.under_way()?;
        let (mut in_queue, mut later, mut tasks) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (index, demand) in demand(&self.run.plan, self.store).into_iter().enumerate() {
            let waits = |index: usize| in_queue.contains(&index) || later.contains(&index);
            match demand {
                Demand::Run if under_way.contains(&index) => {
                    in_queue.insert(index);
                }
                Demand::Run if nodes[index].inputs.iter().any(|input| waits(input.node)) => {
                    later.insert(index);
                }
                Demand::Run => tasks.push(index),
                _ => {}
            }
        }
        let text = self.render(experiment, &tasks)?;
        Ok(Submission { text, tasks, in_queue: in_queue.len(), later: later.len() })
    }

    /// Hands `submission` to HyperQueue.
    ///
    /// # Errors
    /// When HyperQueue refuses it, or the store is not writable.
    pub fn submit(&self, submission: &Submission) -> Result<()> {
        let logs = self.store.run_dir(&self.run.id).join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create `{}`", logs.display()))?;
        let before = fs::read_dir(self.folder()).map_or(0, Iterator::count);
        let path = self.folder().join(format!("{:03}.toml", before + 1));
        write_atomically(&path, submission.text.as_bytes())?;
        let nodes: Vec<&Node> = submission.tasks.iter().map(|&task| &self.run.plan.nodes[task]).collect();
        let earlier = hand_over(self.run, self.store, &nodes)?;
        if let Err(error) = hq(Command::new("hq").args(["job", "submit-file"]).arg(&path)) {
            hand_back(self.run, self.store, &nodes, earlier)?;
            return Err(error);
        }
        remember(self.run, self.store)
    }

    /// Cancels the run's jobs, and says how many those were.
    ///
    /// # Errors
    /// When HyperQueue cannot be asked or refuses.
    pub fn cancel(&self) -> Result<usize> {
        let jobs = self.jobs()?;
        if !jobs.is_empty() {
            hq(Command::new("hq").args(["job", "cancel"]).arg(jobs.join(",")))?;
        }
        Ok(jobs.len())
    }

    /// The nodes whose tasks wait or run.
    fn under_way(&self) -> Result<BTreeSet<usize>> {
        let jobs = self.jobs()?;
        if jobs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let listed: BTreeMap<String, Vec<Listed>> = listed(&["task", "list", &jobs.join(",")])?;
        let alive = |task: &Listed| matches!(task.state.as_str(), "waiting" | "running");
        Ok(listed.into_values().flatten().filter(alive).map(|task| task.id).collect())
    }

    /// The numbers of the run's jobs that have not ended. A run that was never submitted to HyperQueue needs none there.
    fn jobs(&self) -> Result<Vec<String>> {
        if !self.folder().is_dir() {
            return Ok(Vec::new());
        }
        let jobs: Vec<Job> = listed(&["job", "list"])?;
        Ok(jobs.into_iter().filter(|job| job.name == self.name).map(|job| job.id.to_string()).collect())
    }

    fn render(&self, experiment: &Experiment, tasks: &[usize]) -> Result<String> {
        let config = experiment.points.first().map(|point| point.recipe.launch.hyperqueue.clone()).unwrap_or_default();
        let directory = text(&here(".".as_ref())?)?;
        let logs = text(&here(&self.store.run_dir(&self.run.id).join("logs"))?)?;
        let chosen: BTreeSet<usize> = tasks.iter().copied().collect();
        let view = |&id: &usize| {
            let node = &self.run.plan.nodes[id];
            let inputs: BTreeSet<usize> = node.inputs.iter().map(|input| input.node).collect();
            let needs = resources(experiment, node);
            Ok(context! {
                id,
                label => node.label.replace(char::is_control, " "),
                deps => inputs.intersection(&chosen).copied().collect::<Vec<_>>(),
                command => self.command(node, &config)?,
                minutes => needs.time.as_ref().map(Time::minutes),
                resources => amounts(&needs, &config),
            })
        };
        let tasks = tasks.iter().map(view).collect::<Result<Vec<_>>>()?;
        let crash_limit = config.crash_limit.map(Count::get);
        let view = context! { name => self.name.as_str(), tasks, directory, logs, crash_limit };
        render(include_str!("templates/hyperqueue.toml"), view, "HyperQueue")
    }

    /// The command that does the work of `node`.
    fn command(&self, node: &Node, config: &Config) -> Result<Vec<String>> {
        let mut command = exec_stage(self.run, self.store)?;
        command.push(node.key.to_string());
        let setup: Vec<&str> = config.setup.iter().flatten().map(Line::as_str).collect();
        if !setup.is_empty() {
            let script = format!("{}\nexec \"$0\" \"$@\"", setup.join("\n"));
            command.splice(0..0, ["bash".to_owned(), "-c".to_owned(), script]);
        }
        Ok(command)
    }

    fn folder(&self) -> PathBuf {
        self.store.run_dir(&self.run.id).join("hyperqueue")
    }
}

/// What a task asks for: names and amounts.
fn amounts(needs: &Resources, config: &Config) -> Vec<(String, u64)> {
    let accelerator = config.accelerator.as_ref().map_or(ACCELERATOR, Line::as_str);
    let amounts = [
        ("cpus", Some(needs.cores.map_or(1, Count::get) as u64)),
        ("mem", needs.memory.as_ref().map(Memory::mebibytes)),
        (accelerator, needs.devices.filter(|&devices| devices > 0).map(|devices| devices as u64)),
    ];
    amounts.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?))).collect()
}

/// What HyperQueue answers as JSON.
fn listed<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let answer = hq(Command::new("hq").arg("--output-mode=json").args(arguments))?;
    serde_json::from_str(&answer).with_context(|| format!("cannot read what `hq {}` answers", arguments.join(" ")))
}

fn hq(command: &mut Command) -> Result<String> {
    ask(command, "HyperQueue is submitted to where its client is installed and its server directory is seen")
}
