//! What launchers do before and after a queue: scripts, submissions that fail half-way, single stages, limits. The queue
//! is a few lines of shell; `tests/slurm.rs` has the real one.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use tiny::{Lab, Said, assert_same, files, results};

/// Slurm's commands, as far as `runner` asks them.
const SHIMS: [(&str, &str); 4] = [
    (
        "sbatch",
        r#"echo "$@" >> sbatch.log; n=$(wc -l < sbatch.log)
if [ "$n" -gt "$(cat limit 2>/dev/null || echo 99)" ]; then echo "sbatch: error: QOSMaxSubmitJobLimit" >&2; exit 1; fi
echo $((100 + n))"#,
    ),
    ("squeue", "cat queue"),
    ("scontrol", "echo 'MaxArraySize            = 2'"),
    ("scancel", r#"echo "$@" >> scancel.log"#),
];

const LAUNCH: &str = r#"
extends = "tiny.toml"
seeds = [0, 1]

[launch.stages.default]
memory = "1G"

[launch.stages.ppo]
cores = 2
memory = "4G"
devices = 1
time = "2h"
slurm = { partition = "gpu", max_parallel = 1, setup = ["module load cuda", "source 'my env'/bin/activate"] }

[launch.slurm]
partition = "short"
account = "lab"
extra = ["--exclude=node[7-9]"]
"#;

/// A folder with the recipe `launch.toml`, and Slurm's commands where `shims` says so.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("launch.toml", LAUNCH);
    fs::create_dir(lab.path("bin")).unwrap();
    for (name, lines) in SHIMS {
        let name = format!("bin/{name}");
        lab.write(&name, &format!("#!/bin/sh\n{lines}\n"));
        fs::set_permissions(lab.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    lab.write("queue", "");
    lab
}

fn said(lab: &Lab, arguments: &[&str]) -> Said {
    let path = format!("{}:/usr/bin:/bin", lab.path("bin").display());
    Said::of(&lab.runner(arguments).env("PATH", path).output().unwrap())
}

fn submit(lab: &Lab) -> Said {
    said(lab, &["run", "launch.toml", "--launcher", "slurm"])
}

fn lines(lab: &Lab, name: &str) -> Vec<String> {
    fs::read_to_string(lab.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The only run of the lab's store.
fn run(lab: &Lab) -> (String, PathBuf) {
    let entry = fs::read_dir(lab.path(".runner/runs")).unwrap().next().unwrap().unwrap();
    (entry.file_name().into_string().unwrap(), entry.path())
}

/// The key of the first stage of that kind.
fn key(lab: &Lab, stage: &str) -> String {
    let plan: Value = serde_json::from_slice(&fs::read(run(lab).1.join("run.json")).unwrap()).unwrap();
    let mut nodes = plan["plan"]["nodes"].as_array().unwrap().iter();
    nodes.find(|node| node["stage"] == stage).unwrap()["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_dry_run_prints_every_script_and_leaves_nothing() {
    let lab = lab();
    let shown = said(&lab, &["run", "launch.toml", "--launcher", "slurm", "--dry-run"]).fine();
    assert!(shown.err.contains("16 arrays with 29 tasks would be submitted"), "{}", shown.err);
    assert!(!lab.path(".runner").exists() && lines(&lab, "sbatch.log").is_empty());
    let scripts: Vec<&str> = shown.out.split("# JOB").collect();
    let ppo = scripts.iter().find(|script| script.contains("--job-name=ppo/")).unwrap();
    let last = scripts.last().unwrap();
    let text = format!("{ppo}{last}").replace(lab.path("").to_str().unwrap().trim_end_matches('/'), "LAB");
    let text = text.replace(env!("CARGO_BIN_EXE_runner"), "BIN/runner");
    insta::with_settings!({filters => vec![("[0-9a-f]{32}", "KEY"), ("launch-[0-9a-f]{8}", "launch-ID")]}, {
        insta::assert_snapshot!(text);
    });
}

#[test]
fn arrays_wait_for_what_they_read_and_the_same_command_submits_what_is_not_in_the_queue() {
    let lab = lab();
    let first = submit(&lab).fine();
    let id = run(&lab).0;
    assert_eq!(first.out, format!("{id}\n"));
    assert!(first.err.contains("16 arrays with 29 tasks and a job for the report are submitted"), "{}", first.err);
    let submitted = lines(&lab, "sbatch.log");
    assert_eq!(submitted.len(), 17);
    assert!(submitted[0].ends_with("slurm/001-data.sh") && !submitted[0].contains("dependency"), "{submitted:?}");
    assert!(submitted[1].starts_with("--parsable --dependency=afterany:101 "), "{submitted:?}");
    let all: Vec<String> = (101..117).map(|job| job.to_string()).collect();
    let last = format!("--parsable --dependency=afterany:{} ", all.join(":"));
    assert!(submitted[16].starts_with(&last), "{submitted:?}");

    // Only data (job 101) is still in the queue.
    lab.write("queue", "101 0\n");
    let second = submit(&lab).fine();
    assert!(second.err.contains("15 arrays with 28 tasks") && second.err.contains("1 tasks were"), "{}", second.err);
    let submitted = lines(&lab, "sbatch.log");
    assert!(submitted[17].starts_with("--parsable --dependency=afterany:101 "), "{submitted:?}");
    assert!(submitted[17].ends_with("slurm/018-tokenizer.sh"), "{submitted:?}");

    let cancelled = said(&lab, &["cancel", &id]).fine();
    assert!(cancelled.err.starts_with("1 jobs cancelled"), "{}", cancelled.err);
    assert_eq!(lines(&lab, "scancel.log"), ["101"]);
}

#[test]
fn a_submission_that_fails_half_way_is_known_and_can_be_continued() {
    let lab = lab();
    lab.write("limit", "3");
    let said = submit(&lab);
    assert_eq!(said.code, Some(1));
    let id = run(&lab).0;
    assert!(said.err.contains("3 of 17 jobs are in the queue, the next was refused"), "{}", said.err);
    assert!(said.err.contains("QOSMaxSubmitJobLimit") && said.err.contains(&format!("runner cancel {id}")));
    lab.write("limit", "99");
    lab.write("queue", "101 0\n102 0\n103 0\n103 1\n");
    let said = submit(&lab).fine();
    assert!(said.err.contains("13 arrays with 25 tasks"), "{}", said.err);
}

#[test]
fn without_slurm_the_message_says_so() {
    let lab = Lab::new();
    let output = lab.runner(&["run", "tiny.toml", "--launcher", "slurm"]).env("PATH", "/nowhere").output().unwrap();
    let said = Said::of(&output);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("there is no command `sbatch` here"), "{}", said.err);
    let said = lab.said(&["run", "tiny.toml", "--dry-run"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("add `--launcher slurm`"), "{}", said.err);
    let said = lab.said(&["run", "tiny.toml", "--launcher", "slurm", "--jobs", "4"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("is `max_parallel` in `[launch.slurm]`"), "{}", said.err);
}

#[test]
fn a_signal_before_the_beginning_is_refused() {
    let lab = lab();
    let said = said(&lab, &["run", "launch.toml", "--launcher", "slurm", "--set", "launch.stages.ppo.time=\"1m\""]);
    assert!(
        said.err.contains("expected `slurm.signal_seconds` below their time of 60 seconds, found 120"),
        "{}",
        said.err
    );
}

#[test]
fn single_stages_make_the_same_results_as_a_run() {
    let lab = lab();
    submit(&lab).fine();
    let (id, folder) = run(&lab);
    let skipped = lab.said(&["exec-stage", &id, &key(&lab, "sft")]);
    assert_eq!(skipped.code, Some(1));
    assert!(
        skipped.err.contains("stage `sft/seed=0` is skipped: it is made from what is not there: `data`, `tokenizer`")
    );
    let path = folder.join("run.json").display().to_string();
    let one = lab.said(&["exec-stage", &path, &key(&lab, "data")[..8]]).fine();
    assert!(one.err.contains("✓ data"), "{}", one.err);
    let again = lab.said(&["exec-stage", &id, &key(&lab, "data")]).fine();
    assert!(again.err.contains("`data` is done already"), "{}", again.err);
    lab.said(&["exec-stage", &id, &key(&lab, "tokenizer")]).fine();
    let status = |stage: &str| -> Value {
        let path = folder.join(format!("tasks/{}.json", key(&lab, stage)));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    assert_eq!((&status("data")["state"], &status("data")["attempt"]), (&"done".into(), &1.into()));
    assert_eq!((&status("sft")["state"], &status("ppo")["state"]), (&"skipped".into(), &"queued".into()));
    assert!(files(&folder.join("events")).len() >= 2, "a file a process");

    let written = fs::read_to_string(&path).unwrap();
    fs::write(&path, written.replacen("\"stage\":\"edits\",\"version\":1", "\"stage\":\"edits\",\"version\":0", 1))
        .unwrap();
    let older = lab.said(&["exec-stage", &id, &key(&lab, "edits")]);
    assert_eq!(older.code, Some(2));
    assert!(older.err.contains("expected version 0 of the code of `edits` stages, found 1"), "{}", older.err);

    for (arguments, expected) in [
        (["exec-stage", "nothing", "0"], "no run `nothing` in the store `.runner`: there are `launch-"),
        (["exec-stage", &id, "zz"], "expected the key of one of the run's 29 stages, found `zz`"),
        (["exec-stage", "no/run.json", "0"], "cannot open `no/run.json`"),
    ] {
        let said = lab.said(&arguments);
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn limits_hold_back_and_change_no_byte() {
    let lab = Lab::new();
    let arguments = ["run", "tiny.toml", "--set", "launch.stages.ppo.memory=\"4G\"", "--memory", "2G"];
    let said = lab.said(&arguments);
    assert_eq!(said.code, Some(2));
    let expected = "stage `ppo/sequence/kl=0.1/budget=24/seed=0` can never run: it needs 4096M of `memory`, and the limit of this \
                    run is 2048M";
    assert!(said.err.contains(expected), "{}", said.err);
    lab.said(&["run", "tiny.toml", "--store", "one", "--out", "one", "--cores", "1", "--fail-fast"]).fine();
    lab.said(&["run", "tiny.toml", "--store", "all", "--out", "all"]).fine();
    assert_same(&results(&lab.path("all")), &results(&lab.path("one")));
}
