//! Runs in HyperQueue's hands. Its command is a few lines of shell that remember what they were asked; the tasks of a job that
//! was submitted are really carried out, by this test, as HyperQueue's workers do it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tiny::{Lab, Said, assert_same, files, results};

/// `hq`: takes jobs, lists what the files `list` and `tasks` say, and has no server where there is a file `down`.
const HQ: &str = r#"#!/bin/sh
echo "$@" >> hq.log
if [ -e down ]; then echo "Error: No access record found" >&2; exit 1; fi
case "$*" in
    "job submit-file "*)
        echo submitted >> jobs
        cp "$3" "job-$(wc -l < jobs).toml" ;;
    "--output-mode=json job list") cat list ;;
    "--output-mode=json task list "*) cat tasks ;;
    "job cancel "*) ;;
    *) exit 2 ;;
esac
"#;

/// Three points that share all but PPO, one of which fails.
const SWEEP: &str = r#"
extends = "tiny.toml"

[ppo]
steps = 2

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"

[sweep.product]
ppo.policy_optimizer.learning_rate = [1e-3, 1e-4]

[[sweep.cases]]
name = "diverges"
ppo.policy_optimizer.learning_rate = 1e30

[launch.stages.ppo]
cores = 2
memory = "1G"
devices = 1
time = "2h"

[launch.hyperqueue]
crash_limit = 9
setup = ["export SET_UP='by the recipe'", "echo \"$SET_UP\" >> set-up.log"]
"#;

/// A job's definition file, as far as it is used here; HyperQueue refuses keys that it does not know, too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    name: String,
    #[serde(rename = "task")]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    id: usize,
    #[serde(default)]
    deps: Vec<usize>,
    command: Vec<String>,
    cwd: String,
    stdout: String,
    stderr: String,
    time_limit: Option<String>,
    crash_limit: Option<u32>,
    request: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    resources: BTreeMap<String, u64>,
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("sweep.toml", SWEEP);
    fs::create_dir(lab.path("bin")).unwrap();
    lab.write("bin/hq", HQ);
    fs::set_permissions(lab.path("bin/hq"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.write("list", "[]");
    lab
}

fn said(lab: &Lab, arguments: &[&str]) -> Said {
    let path = format!("{}:/usr/bin:/bin", lab.path("bin").display());
    Said::of(&lab.runner(arguments).env("PATH", path).output().unwrap())
}

fn submit(lab: &Lab) -> Said {
    said(lab, &["run", "sweep.toml", "--launcher", "hyperqueue"])
}

fn asked(lab: &Lab) -> Vec<String> {
    fs::read_to_string(lab.path("hq.log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn job(lab: &Lab, number: usize) -> Job {
    toml::from_str(&fs::read_to_string(lab.path(&format!("job-{number}.toml"))).unwrap()).unwrap()
}

/// Has `hq` say that there is a job `name` with tasks in these states.
fn list(lab: &Lab, name: &str, tasks: &BTreeMap<usize, &str>) {
    let jobs = serde_json::json!([{ "id": 7, "name": name }, { "id": 8, "name": "another" }]);
    lab.write("list", &jobs.to_string());
    let tasks: Vec<Value> = tasks.iter().map(|(id, state)| serde_json::json!({ "id": id, "state": state })).collect();
    lab.write("tasks", &serde_json::json!({ "7": tasks }).to_string());
}

/// Does what HyperQueue's workers do with the first job: a task whose inputs failed is not begun.
fn work(lab: &Lab) {
    let mut successes = BTreeMap::new();
    for task in job(lab, 1).tasks {
        if task.deps.iter().any(|id| !successes.get(id).expect("inputs come first")) {
            successes.insert(task.id, false);
            continue;
        }
        let log = task.stderr.replace("%{JOB_ID}", "7").replace("%{INSTANCE_ID}", "0");
        let log = log.replace("%{TASK_ID}", &task.id.to_string());
        assert!(!log.contains("%{") && task.stdout == "none", "{log}");
        let mut command = Command::new(&task.command[0]);
        lab.prepare(command.args(&task.command[1..]));
        command.current_dir(&task.cwd).stderr(File::create(log).unwrap());
        command.env("HQ_JOB_ID", "7").env("HQ_TASK_ID", task.id.to_string());
        successes.insert(task.id, command.status().unwrap().success());
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// How many tasks of the run `id` say that they are in each state.
fn states(lab: &Lab, id: &str) -> BTreeMap<String, usize> {
    let folder = lab.path(".runner/runs").join(id).join("tasks");
    let mut states = BTreeMap::new();
    for name in files(&folder) {
        *states.entry(json(&folder.join(name))["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    states
}

fn count<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.map(|(state, count)| (state.to_owned(), count)).into()
}

fn state(lab: &Lab) -> String {
    let listed: Value = serde_json::from_str(&lab.said(&["ls", "--json"]).fine().out).unwrap();
    listed[0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_dry_run_prints_the_job_and_leaves_nothing() {
    let lab = lab();
    let shown = said(&lab, &["run", "sweep.toml", "--launcher", "hyperqueue", "--dry-run"]).fine();
    assert!(shown.err.contains("a job with 17 tasks would be submitted, 0 tasks are under way"), "{}", shown.err);
    assert!(!lab.path(".runner").exists() && asked(&lab).is_empty());
    let job: Job = toml::from_str(&shown.out).unwrap();
    let store = lab.path(".runner").display().to_string();
    assert!(job.name.starts_with("sweep-") && job.name.ends_with(&format!(" in {store}")), "{}", job.name);
    let ppo = job.tasks.iter().find(|task| task.time_limit.is_some()).unwrap();
    assert_eq!((ppo.time_limit.as_deref(), ppo.crash_limit), (Some("120m"), Some(9)));
    let needs = [("cpus", 2), ("gpus/nvidia", 1), ("mem", 1024)].map(|(name, amount)| (name.to_owned(), amount));
    assert_eq!(ppo.request[0].resources, needs.into());
    assert_eq!(job.tasks[0].request[0].resources, [("cpus".to_owned(), 1)].into());
    assert!(shown.out.contains("# ppo/token/"), "{}", shown.out);
}

#[test]
fn a_sweep_in_hyperqueue_ends_like_a_local_one() {
    let lab = lab();
    let id = submit(&lab).fine().out.trim().to_owned();
    work(&lab);
    assert_eq!(states(&lab, &id), count([("done", 14), ("failed", 1), ("skipped", 2)]));
    let set_up = fs::read_to_string(lab.path("set-up.log")).unwrap();
    assert!(set_up.starts_with("by the recipe\n") && set_up.lines().count() == 15, "{set_up}");
    let status = lab.path(".runner/runs").join(&id).join("tasks");
    let jobs: Vec<Value> = files(&status).iter().map(|name| json(&status.join(name))["job"].clone()).collect();
    assert!(jobs.contains(&"7@0".into()), "{jobs:?}");
    // It ends, since nothing counts as queued.
    let watched = lab.said(&["watch", &id]);
    assert_eq!(watched.code, Some(1));
    assert!(watched.err.contains("1 of 17 stages failed"), "{}", watched.err);

    let local = lab.said(&["run", "sweep.toml", "--store", "local", "--out", "local-report"]);
    assert_eq!(local.code, Some(1), "{}", local.err);
    assert_same(&results(&lab.path("local")), &results(&lab.path(".runner")));
    lab.said(&["report", &id, "--out", "report"]).fine();
    let names = files(&lab.path("report"));
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let same = fs::read(lab.path("report").join(&name)).unwrap()
            == fs::read(lab.path("local-report").join(&name)).unwrap();
        assert!(same, "{}", name.display());
    }
}

#[test]
fn what_is_under_way_or_done_is_not_submitted_again() {
    let lab = lab();
    let first = submit(&lab).fine();
    let id = first.out.trim().to_owned();
    assert!(first.err.contains("a job with 17 tasks is submitted"), "{}", first.err);
    assert_eq!((states(&lab, &id), state(&lab)), (count([("queued", 17)]), "queued".to_owned()));
    assert_eq!(asked(&lab).len(), 1, "nothing can be under way yet: {:?}", asked(&lab));

    let name = job(&lab, 1).name;
    list(&lab, &name, &(0..17).map(|id| (id, "waiting")).collect());
    let again = submit(&lab).fine();
    assert!(again.err.contains("nothing to submit: 17 tasks are queued or running"), "{}", again.err);
    assert_eq!(asked(&lab).last().unwrap(), "--output-mode=json task list 7");
    list(&lab, &name, &[(0, "running"), (1, "canceled")].into());
    let again = submit(&lab).fine();
    assert!(again.err.contains("16 tasks are made from what is under way"), "{}", again.err);
    list(&lab, "the same run in another store", &(0..17).map(|id| (id, "waiting")).collect());

    work(&lab);
    let again = submit(&lab).fine();
    assert!(again.err.contains("a job with 3 tasks is submitted"), "the failed one and its heirs: {}", again.err);
    let tasks = job(&lab, 2).tasks;
    let deps: Vec<Vec<usize>> = tasks.iter().map(|task| task.deps.clone()).collect();
    let (ppo, responses) = (tasks[0].id, tasks[1].id);
    assert_eq!(deps, [vec![], vec![ppo], vec![ppo, responses]], "what is done is not waited for");
    list(&lab, &name, &BTreeMap::new());
    let cancelled = said(&lab, &["cancel", &id]).fine();
    assert!(cancelled.err.contains("1 jobs cancelled"), "{}", cancelled.err);
    assert_eq!(asked(&lab).last().unwrap(), "job cancel 7");
    assert_eq!(states(&lab, &id), count([("done", 14), ("interrupted", 3)]));
    assert_ne!(state(&lab), "queued");
}

#[test]
fn what_hyperqueue_refuses_is_said_and_not_queued() {
    let lab = lab();
    lab.write("down", "");
    let refused = submit(&lab);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("`hq` failed (exit status: 1): Error: No access record found"), "{}", refused.err);
    let id = fs::read_dir(lab.path(".runner/runs")).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(states(&lab, id.to_str().unwrap()), count([("interrupted", 17)]));
    fs::remove_file(lab.path("down")).unwrap();
    lab.write("list", "no JSON");
    let refused = submit(&lab);
    assert!(refused.err.contains("cannot read what `hq job list` answers"), "{}", refused.err);

    let absent =
        lab.runner(&["run", "tiny.toml", "--launcher", "hyperqueue"]).env("PATH", "/nowhere").output().unwrap();
    let absent = Said::of(&absent);
    assert_eq!(absent.code, Some(1));
    assert!(absent.err.contains("there is no command `hq` here"), "{}", absent.err);
    for (argument, value, expected) in [
        ("--out", "elsewhere", "`runner report RUN --out DIR` writes it"),
        ("--cores", "4", "what HyperQueue may is what its workers have"),
    ] {
        let said = lab.said(&["run", "tiny.toml", "--launcher", "hyperqueue", argument, value]);
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(expected), "{}", said.err);
    }
}
