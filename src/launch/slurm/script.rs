//! The scripts that `sbatch` takes: one an array, from the template.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use minijinja::context;

use crate::launch::command::{exec_stage, here, quoted, text};
use crate::launch::template::render;
use crate::launch::{Array, Frozen};
use crate::recipe::launch::Resources;
use crate::store::Store;
use crate::units::Count;

/// Seconds between the signal and the end of a task's time, where the recipe says nothing.
const SIGNAL_SECONDS: usize = 120;

/// A job, ready to submit.
#[derive(Debug)]
pub(super) struct Script {
    /// Its file's name.
    pub name: String,
    pub text: String,
    /// The nodes that its tasks compute; none for the job that writes the report.
    pub tasks: Vec<usize>,
    /// The scripts whose jobs must have ended before it starts, by index.
    pub after: Vec<usize>,
    /// Jobs that are in the queue already and must have ended too.
    pub held: BTreeSet<String>,
}

impl Script {
    /// The argument that says what has to end first, where `job` knows the job of a script; none if there is nothing.
    pub fn dependency(&self, job: impl Fn(usize) -> String) -> Option<String> {
        let jobs: Vec<String> = self.held.iter().cloned().chain(self.after.iter().copied().map(job)).collect();
        (!jobs.is_empty()).then(|| format!("--dependency=afterany:{}", jobs.join(":")))
    }
}

/// What all scripts of a run have in common.
pub(super) struct Scripts<'a> {
    pub run: &'a Frozen,
    pub store: &'a Store,
    /// Jobs submitted before: names count on from there.
    pub submitted: usize,
}

impl Scripts<'_> {
    /// The script of `array`, the one with index `index`.
    pub fn array(&self, index: usize, array: &Array, held: BTreeSet<String>) -> Result<Script> {
        let command = exec_stage(self.run, self.store)?.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let nodes = array.tasks.iter().map(|&task| &self.run.plan.nodes[task]);
        let tasks: Vec<_> = nodes
            .map(|node| context! { key => node.key.as_str(), label => node.label.replace(char::is_control, " ") })
            .collect();
        let slurm = array.resources.slurm.clone().unwrap_or_default();
        let throttle = slurm.max_parallel.map_or_else(String::new, |most| format!("%{}", most.get()));
        let mut options = vec![format!("--array=0-{}{throttle}", tasks.len() - 1)];
        let requeue = slurm.requeue.unwrap_or(true);
        options.push(if requeue { "--requeue" } else { "--no-requeue" }.to_owned());
        options.push(format!("--signal=B:USR1@{}", signal_seconds(array.stage.name(), &array.resources)?));
        let name = array.stage.name();
        let text = self.render(name, "%A_%a", options, &array.resources, &command, &tasks)?;
        let (tasks, after) = (array.tasks.clone(), array.after.clone());
        Ok(Script { name: self.name(index, name), text, tasks, after, held })
    }

    /// The script that ends a run with `command`, after `after` and `held`.
    pub fn last(
        &self,
        after: usize,
        held: BTreeSet<String>,
        resources: &Resources,
        command: &[String],
    ) -> Result<Script> {
        let command = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let text = self.render("last", "%A", Vec::new(), resources, &command, &[])?;
        let (tasks, after) = (Vec::new(), (0..after).collect::<Vec<_>>());
        Ok(Script { name: self.name(after.len(), "last"), text, tasks, after, held })
    }

    fn name(&self, index: usize, stage: &str) -> String {
        format!("{:03}-{stage}.sh", self.submitted + index + 1)
    }

    fn render(
        &self,
        name: &str,
        task: &str,
        own: Vec<String>,
        resources: &Resources,
        command: &str,
        tasks: &[minijinja::Value],
    ) -> Result<String> {
        let directory = std::env::current_dir().context("the working directory is gone")?;
        let logs = here(&self.store.run_dir(&self.run.id).join("logs"))?;
        // A percent sign in a folder's name would be taken for one of Slurm's own.
        let logs = text(&logs)?.replace('%', "%%");
        let mut options = vec![
            format!("--job-name={}", quoted(&format!("{name}/{}", self.run.id))),
            format!("--chdir={}", quoted(&text(&directory)?)),
            format!("--output={}", quoted(&format!("{logs}/{name}-{task}.log"))),
            "--open-mode=append".to_owned(),
        ];
        options.extend(own);
        options.extend(needs(resources));
        let slurm = resources.slurm.clone().unwrap_or_default();
        let setup: Vec<_> = slurm.setup.iter().flatten().map(|line| line.as_str().to_owned()).collect();
        let requeue = slurm.requeue.unwrap_or(true);
        let view = context! { options, setup, requeue, command, tasks };
        render(include_str!("../templates/slurm.sh"), view, "Slurm")
    }
}

/// The options that say what a task needs.
fn needs(resources: &Resources) -> Vec<String> {
    let slurm = resources.slurm.clone().unwrap_or_default();
    let devices = resources.devices.filter(|&devices| devices > 0).map(|devices| format!("gpu:{devices}"));
    let options = [
        ("cpus-per-task", resources.cores.map(|cores| cores.get().to_string())),
        ("mem", resources.memory.as_ref().map(|memory| format!("{}M", memory.mebibytes()))),
        ("time", resources.time.as_ref().map(|time| time.minutes().to_string())),
        ("gres", slurm.gres.map(|gres| gres.as_str().to_owned()).or(devices)),
        ("partition", slurm.partition.map(|partition| partition.as_str().to_owned())),
        ("account", slurm.account.map(|account| account.as_str().to_owned())),
        ("qos", slurm.qos.map(|qos| qos.as_str().to_owned())),
    ];
    let options = options.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", quoted(&value?))));
    let extra = slurm.extra.into_iter().flatten().map(|line| line.as_str().to_owned());
    options.chain(extra).collect()
}

fn signal_seconds(stage: &str, resources: &Resources) -> Result<usize> {
    let declared = resources.slurm.as_ref().and_then(|slurm| slurm.signal_seconds);
    let seconds = declared.map_or(SIGNAL_SECONDS, Count::get);
    let time = resources.time.as_ref().map_or(u64::MAX, |time| time.minutes().saturating_mul(60));
    ensure!(
        (seconds as u64) < time,
        "`{stage}` stages would be stopped as they start: expected `slurm.signal_seconds` below their time of {time} \
         seconds, found {seconds}"
    );
    Ok(seconds)
}
