//! Slurm's commands: what they are asked, and what their answers mean.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::launch::command;

/// Hands the script at `path` to Slurm, to start when the jobs that `after` names have ended; returns the job's number.
pub(super) fn submit(path: &Path, after: Option<&str>) -> Result<String> {
    let answer = ask(Command::new("sbatch").arg("--parsable").args(after).arg(path))?;
    // On a cluster of clusters, the cluster's name follows.
    let id = answer.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("expected the number of a job from `sbatch`, found `{}`", answer.trim());
    }
    Ok(id.to_owned())
}

/// What of the jobs `ids` is queued or running: (job, task of the array); no task for a job that is no array.
pub(super) fn queued(ids: &[&str]) -> Result<BTreeSet<(String, Option<usize>)>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let arguments = ["--noheader", "--array", "--format=%F %K", "--jobs"];
    let answer = match ask(Command::new("squeue").args(arguments).arg(ids.join(","))) {
        // Slurm forgets jobs some time after their end, and says this when it has forgotten all of them.
        Err(error) if error.to_string().contains("Invalid job id") => return Ok(BTreeSet::new()),
        answer => answer?,
    };
    let element = |line: &str| {
        let (id, task) = line.trim().split_once(' ')?;
        Some((id.to_owned(), task.trim().parse().ok()))
    };
    Ok(answer.lines().filter_map(element).collect())
}

/// Takes the jobs `ids` out of the queue and stops what runs of them.
pub(super) fn cancel(ids: &[&str]) -> Result<()> {
    ask(Command::new("scancel").args(ids)).map(drop)
}

/// The largest number of tasks that an array may have.
pub(super) fn max_array_size() -> Result<usize> {
    let config = ask(Command::new("scontrol").args(["show", "config"]))?;
    let line = config.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    let size = line.and_then(|line| line.split_once('=')?.1.trim().parse().ok());
    size.context("expected a number as `MaxArraySize` in `scontrol show config`, found none")
}

/// What `command` writes to stdout.
fn ask(command: &mut Command) -> Result<String> {
    command::ask(command, "Slurm is submitted to from a machine of its cluster")
}
