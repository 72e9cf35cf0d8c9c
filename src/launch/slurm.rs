//! Slurm: a run as job arrays, each after those that make what it reads.
//!
//! Slurm decides what runs where and when; whether a result is there is said by the store alone. A task that finds its
//! inputs missing says so and ends, so that dependencies are on ends, not on successes: one failure blocks nothing else.

mod queue;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::script::{Script, Scripts};
use super::tasks::{hand_back, hand_over};
use super::{Frozen, arrays, demand, needs, remember};
use crate::recipe::Experiment;
use crate::stage::node::{Demand, Node, Stage};
use crate::store::{Key, Store, write_atomically};

/// Tasks in one array where there is no cluster to ask: Slurm's own default.
const DEFAULT_ARRAY_SIZE: usize = 1001;

/// A job that was submitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    /// Slurm's number for it.
    id: String,
    /// What its tasks compute, in the order of the array; nothing for the job that writes the report.
    keys: Vec<Key>,
}

/// A run in Slurm's hands: `slurm.json` in its folder lists every job that was submitted for it.
#[derive(Debug)]
pub struct Slurm<'a> {
    run: &'a Frozen,
    store: &'a Store,
    jobs: Vec<Job>,
}

/// What there is to submit.
#[derive(Debug)]
pub struct Submission {
    scripts: Vec<Script>,
    /// Tasks that are queued or running already.
    pub in_queue: usize,
}

impl Submission {
    /// The number of arrays.
    #[must_use]
    pub fn arrays(&self) -> usize {
        self.scripts.iter().filter(|script| !script.tasks.is_empty()).count()
    }

    /// The number of tasks in them.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.scripts.iter().map(|script| script.tasks.len()).sum()
    }
}

impl<'a> Slurm<'a> {
    /// What was submitted for `run` so far.
    ///
    /// # Errors
    /// When there is a list of jobs that cannot be read.
    pub fn open(run: &'a Frozen, store: &'a Store) -> Result<Self> {
        let path = record(run, store);
        let jobs = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("`{}`", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        Ok(Self { run, store, jobs })
    }

    /// What is missing in the store and not in the queue. `experiment` is the run's with its recipes as they are now,
    /// which say what stages need; `last` is the command that ends the run.
    ///
    /// # Errors
    /// When the queue cannot be asked, or what a stage needs contradicts itself.
    pub fn missing(&self, experiment: &Experiment, last: &[String]) -> Result<Submission> {
        let plan = &self.run.plan;
        let queue = self.queue()?;
        let demands = demand(plan, self.store).into_iter().enumerate();
        let wanted = demands.filter_map(|(index, demand)| (demand == Demand::Run).then_some(index));
        let (in_queue, chosen): (BTreeSet<usize>, BTreeSet<usize>) =
            wanted.partition(|&index| queue.contains_key(&plan.nodes[index].key));
        let mut scripts = Vec::new();
        if !chosen.is_empty() {
            let max_size = queue::max_array_size().unwrap_or(DEFAULT_ARRAY_SIZE);
            let writer = Scripts { run: self.run, store: self.store, submitted: self.jobs.len() };
            for array in arrays(plan, experiment, &chosen, max_size) {
                let inputs = array.tasks.iter().flat_map(|&task| &plan.nodes[task].inputs);
                let held = inputs.filter_map(|input| queue.get(&plan.nodes[input.node].key).cloned());
                scripts.push(writer.array(scripts.len(), &array, held.collect())?);
            }
            let needs = experiment.points.first().map(|point| needs(&point.recipe.launch, Stage::Report));
            let held = queue.into_values().collect();
            scripts.push(writer.last(scripts.len(), held, &needs.unwrap_or_default(), last)?);
        }
        Ok(Submission { scripts, in_queue: in_queue.len() })
    }

    /// Every script of `submission`, under the command that would submit it.
    #[must_use]
    pub fn shown(&self, submission: &Submission) -> String {
        let folder = self.folder();
        let shown = |(index, script): (usize, &Script)| {
            let after = script.dependency(|other| format!("JOB{}", other + 1));
            let after = after.map_or_else(String::new, |after| format!("{after} "));
            let path = folder.join(&script.name);
            format!("# JOB{}: sbatch --parsable {after}{}\n{}", index + 1, path.display(), script.text)
        };
        submission.scripts.iter().enumerate().map(shown).collect::<Vec<_>>().join("\n")
    }

    /// Hands `submission` to Slurm, job by job; each is in the list of jobs as soon as Slurm has it.
    ///
    /// # Errors
    /// When Slurm refuses a job, or the store is not writable; what was submitted before stays in the queue.
    pub fn submit(&mut self, submission: &Submission) -> Result<()> {
        let logs = self.store.run_dir(&self.run.id).join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create `{}`", logs.display()))?;
        let before = self.jobs.len();
        for (index, script) in submission.scripts.iter().enumerate() {
            self.submit_one(script, before).with_context(|| {
                let all = submission.scripts.len();
                let id = &self.run.id;
                format!(
                    "{index} of {all} jobs are in the queue, the next was refused (`runner cancel {id}` takes them out; the \
                     same command again submits the rest)"
                )
            })?;
        }
        remember(self.run, self.store)
    }

    /// Takes everything of the run out of Slurm's queue, and says how many jobs that were.
    ///
    /// # Errors
    /// When Slurm cannot be asked or refuses.
    pub fn cancel(&self) -> Result<usize> {
        let ids: Vec<&str> = self.jobs.iter().map(|job| job.id.as_str()).collect();
        let queued = queue::queued(&ids)?;
        let ids: BTreeSet<&str> = queued.iter().map(|(id, _)| id.as_str()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        queue::cancel(&ids.iter().copied().collect::<Vec<_>>())?;
        Ok(ids.len())
    }

    /// What is queued or running, and in which job.
    fn queue(&self) -> Result<BTreeMap<Key, String>> {
        let ids: Vec<&str> = self.jobs.iter().map(|job| job.id.as_str()).collect();
        let queued = queue::queued(&ids)?;
        let elements = self.jobs.iter().flat_map(|job| {
            let element = |(task, key): (usize, &Key)| (key.clone(), (job.id.clone(), Some(task)));
            job.keys.iter().enumerate().map(element).collect::<Vec<_>>()
        });
        Ok(elements.filter(|(_, element)| queued.contains(element)).map(|(key, (id, _))| (key, id)).collect())
    }

    fn submit_one(&mut self, script: &Script, before: usize) -> Result<()> {
        let path = self.folder().join(&script.name);
        write_atomically(&path, script.text.as_bytes())?;
        let nodes: Vec<&Node> = script.tasks.iter().map(|&task| &self.run.plan.nodes[task]).collect();
        let earlier = hand_over(self.run, self.store, &nodes)?;
        let after = script.dependency(|other| self.jobs[before + other].id.clone());
        let id = match queue::submit(&path, after.as_deref()) {
            Ok(id) => id,
            Err(error) => {
                hand_back(self.run, self.store, &nodes, earlier)?;
                return Err(error);
            }
        };
        self.jobs.push(Job { id, keys: nodes.iter().map(|node| node.key.clone()).collect() });
        let jobs = serde_json::to_vec_pretty(&self.jobs).expect("strings are JSON");
        Ok(write_atomically(&record(self.run, self.store), &jobs)?)
    }

    fn folder(&self) -> PathBuf {
        self.store.run_dir(&self.run.id).join("slurm")
    }
}

fn record(run: &Frozen, store: &Store) -> PathBuf {
    store.run_dir(&run.id).join("slurm.json")
}
