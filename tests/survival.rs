//! Runs that survive: killed at any moment, stopped by a signal, two at once, they end with the same bytes.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tiny::{Lab, Said, assert_same, files, results};

/// The lines of a run's `events.jsonl`.
fn events(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn start(lab: &Lab, store: &str, out: &str) -> Child {
    let mut command = lab.runner(&["run", "tiny.toml", "--store", store, "--out", out]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `now` holds or the run is over; says whether it is still running.
fn wait_until(child: &mut Child, mut now: impl FnMut() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if now() {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// One variant for every kind of trainer.
const KINDS: &str = r#"
extends = "tiny.toml"
sft.steps = 60
reward.epochs = 12
ppo.steps = 20
checkpoints.every_steps = 1

[[variants]]
name = "sequence"
reward = { sequence = { data = "preferences" } }
credit = "end_of_sequence"

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"

[[variants]]
name = "tlcr"
reward = { token = { loss = "tlcr" } }
credit = "per_token"
"#;

/// The next of a fixed sequence of numbers below `end`.
fn next(state: &mut u64, end: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % end
}

#[test]
fn killed_again_and_again_it_ends_with_the_same_bytes() {
    let lab = Lab::new();
    lab.write("kinds.toml", KINDS);
    // As many at once as there are trainers of a kind: all of them are killed, whichever comes first in the plan.
    let arguments = |place| ["run", "kinds.toml", "--jobs", "4", "--store", place, "--out", place];
    let whole = lab.said(&arguments("whole")).fine();
    let (store, log) = (lab.path("killed"), lab.path("killed/events.jsonl"));
    let trainers = ["sft/", "reward/sequence/", "reward/token/", "reward/tlcr/", "ppo/"];
    let (mut kills, mut results_before, mut random) = (0, BTreeSet::new(), 1);
    // For every trainer a few kills in its middle, each followed by one when the clock says.
    for (round, trainer) in trainers.iter().flat_map(|trainer| [trainer; 2]).enumerate() {
        for by_clock in [false, true] {
            let seen = fs::read(&log).map_or(0, |bytes| bytes.len());
            let mut command = lab.runner(&arguments("killed"));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let (mut slept, patience, steps) = (0, next(&mut random, 60), 2 + next(&mut random, 3));
            let alive = wait_until(&mut child, || {
                slept += 1;
                let log = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&log[seen.min(log.len())..]).into_owned();
                let progress = |of: &str| {
                    let at_work = |line: &&str| line.contains("\"progress\"") && line.contains(of);
                    text.lines().filter(at_work).count() as u64
                };
                // Something is left for the rounds to come. Sampling tells of every response, and is no training.
                let trained = trainers.iter().map(|trainer| progress(trainer)).sum::<u64>();
                if by_clock { slept > patience || trained > 12 } else { progress(trainer) > steps || trained > 150 }
            });
            thread::sleep(Duration::from_micros(next(&mut random, 8000)));
            child.kill().unwrap();
            child.wait().unwrap();
            kills += usize::from(alive);
            let found: BTreeSet<String> = results(&store).into_keys().collect();
            assert!(found.is_superset(&results_before), "round {round}: what was done stays done");
            results_before = found;
        }
    }
    let end = lab.said(&arguments("killed")).fine();
    assert!(kills > 15, "the run was killed {kills} times only");
    let resumed: Vec<_> = events(&log).into_iter().filter(|event| event["resumed_from"].is_u64()).collect();
    for trainer in trainers {
        let here = |event: &&Value| event["stage"].as_str().unwrap().starts_with(trainer);
        assert!(resumed.iter().any(|event| here(&event)), "no `{trainer}` went on from a checkpoint");
    }
    assert_eq!(end.out, whole.out);
    assert_same(&results(&lab.path("whole")), &results(&store));
    assert_eq!(files(&store.join("partial")), Vec::<PathBuf>::new());
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Longer training, and no checkpoint that a signal did not ask for.
const PATIENT: [&str; 10] = [
    "--set",
    "sft.steps=80",
    "--set",
    "reward.epochs=8",
    "--set",
    "ppo.steps=8",
    "--set",
    "checkpoints.every_steps=1000",
    "--set",
    "checkpoints.every_minutes=60",
];

#[test]
fn a_polite_signal_saves_at_the_next_step_and_ends_with_130() {
    let lab = Lab::new();
    let log = lab.path("out/events.jsonl");
    let arguments = [&["run", "tiny.toml", "--store", "store", "--out", "out"][..], &PATIENT].concat();
    let mut seen = 0;
    let mut saved: Vec<(String, u64)> = Vec::new();
    for (polite, stage) in [("-INT", "sft/"), ("-TERM", "reward/"), ("-USR1", "ppo/")] {
        let mut child = lab.runner(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let works = |event: &&str| event.contains("\"progress\"") && event.contains(stage);
        let now = || fs::read_to_string(&log).unwrap_or_default().lines().skip(seen).filter(works).count() > 2;
        assert!(wait_until(&mut child, now), "{stage} is never seen at work");
        signal(&child, polite);
        let said = Said::of(&child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(130), "{said:?}");
        let end = "interrupted: what is done is kept; the same command goes on from there\n";
        assert!(said.err.ends_with(end), "{}", said.err);

        let run = events(&log).split_off(seen);
        seen += run.len();
        let of_kind = |kind: &str| run.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<_>>();
        let resumed = of_kind("stage_started").into_iter().filter(|event| event["resumed_from"].is_u64());
        let place = |event: &Value, step: &str| (event["stage"].to_string(), event[step].as_u64().unwrap());
        let resumed: Vec<_> = resumed.map(|event| place(&event, "resumed_from")).collect();
        assert!(saved.iter().all(|place| resumed.contains(place)), "saved {saved:?}, resumed {resumed:?}");
        let stopped = of_kind("stage_interrupted");
        assert!(stopped.iter().any(|event| event["stage"].as_str().unwrap().starts_with(stage)), "{}", said.err);
        for event in &stopped {
            let (step, folder) = (&event["step"], event["folder"].as_str().unwrap());
            assert!(said.err.contains(&format!("stopped after step {step}, saved in `{folder}`")), "{}", said.err);
            assert!(lab.path(folder).is_dir(), "{folder}");
        }
        saved = stopped.iter().map(|event| place(event, "step")).collect();
        assert_eq!(of_kind("run_interrupted").len(), 1);
        assert_eq!(of_kind("stage_failed").len(), 0, "{}", said.err);
    }
    lab.said(&arguments).fine();
    let whole = [&["run", "tiny.toml", "--store", "whole", "--out", "whole"][..], &PATIENT[..6]].concat();
    lab.said(&whole).fine();
    assert_same(&results(&lab.path("whole")), &results(&lab.path("store")));
}

#[test]
fn a_second_signal_ends_at_once() {
    let lab = Lab::new();
    // One step takes seconds.
    let arguments = ["run", "tiny.toml", "--out", "out", "--set", "sft.batch_size=4000"];
    let mut child = lab.runner(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = lab.path("out/events.jsonl");
    let trains = || fs::read_to_string(&log).unwrap_or_default().contains("\"stage\":\"sft/");
    assert!(wait_until(&mut child, trains));
    signal(&child, "-INT");
    signal(&child, "-TERM");
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{said:?}");
    assert!(said.err.contains("stopping: ") && !said.err.contains("stopped after"), "{}", said.err);
}

#[test]
fn two_processes_on_one_store_share_the_work() {
    let lab = Lab::new();
    let children = ["left", "right"].map(|out| start(&lab, "store", out));
    for child in children {
        Said::of(&child.wait_with_output().unwrap()).fine();
    }
    let both = ["left/events.jsonl", "right/events.jsonl"].map(|log| events(&lab.path(log)));
    let ran = both.iter().flatten().filter_map(|event| event["ran"].as_u64()).sum::<u64>();
    assert_eq!(Some(ran), both[0][0]["stages"].as_u64());
    lab.said(&["run", "tiny.toml", "--store", "alone", "--out", "alone"]).fine();
    assert_same(&results(&lab.path("alone")), &results(&lab.path("store")));
}

#[test]
fn who_slept_too_long_has_lost_its_claim_and_publishes_nothing() {
    let lab = Lab::new();
    // One stage at a time, so that the sleeper is in the middle of the one that it works on; locks would hide that it
    // sleeps, beats do not.
    let start = |out| {
        let arguments = [&["run", "tiny.toml", "--store", "store", "--jobs", "1", "--out", out][..], &PATIENT[..6]];
        let mut command = lab.runner(&arguments.concat());
        command.env("RUNNER_CLAIM_PATIENCE", "1.5").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for trainer in ["sft/", "ppo/"] {
        let mut sleeper = start("sleeper");
        let at_work = |event: &&str| event.contains("\"progress\"") && event.contains(trainer);
        let log = || fs::read_to_string(lab.path("sleeper/events.jsonl")).unwrap_or_default();
        assert!(
            wait_until(&mut sleeper, || log().lines().filter(at_work).count() > 2),
            "{trainer} is not seen at work"
        );
        signal(&sleeper, "-STOP");
        let other = if trainer == "sft/" {
            // What waits for a claim hears a signal too.
            let mut waiter = start("waiter");
            let waits = || fs::read_to_string(lab.path("waiter/events.jsonl")).unwrap_or_default();
            assert!(wait_until(&mut waiter, || waits().contains("stage_waiting")));
            signal(&waiter, "-TERM");
            let said = Said::of(&waiter.wait_with_output().unwrap());
            assert_eq!(said.code, Some(130), "{}", said.err);
            assert!(said.err.contains(&format!("waits for process {} on `", sleeper.id())), "{}", said.err);
            let mut other = start("other");
            let log = || fs::read_to_string(lab.path("other/events.jsonl")).unwrap_or_default();
            assert!(
                wait_until(&mut other, || log().contains("\"resumed_from\"")),
                "goes on from the sleeper's checkpoint"
            );
            other
        } else {
            start("other")
        };
        // The one wakes while the other works, or after all is done.
        let other = if trainer == "sft/" {
            signal(&sleeper, "-CONT");
            other
        } else {
            let said = Said::of(&other.wait_with_output().unwrap()).fine();
            assert!(said.err.contains("report: other"), "{}", said.err);
            signal(&sleeper, "-CONT");
            start("other")
        };
        let lost = Said::of(&sleeper.wait_with_output().unwrap());
        assert_eq!(lost.code, Some(1), "{}", lost.err);
        assert!(lost.err.contains("lost the claim on `"), "{}", lost.err);
        Said::of(&other.wait_with_output().unwrap()).fine();
        if trainer == "sft/" {
            fs::remove_dir_all(lab.path("store/results/ppo")).unwrap();
            fs::remove_dir_all(lab.path("store/results/report")).unwrap();
        }
    }
    let arguments = [&["run", "tiny.toml", "--store", "whole", "--out", "whole"][..], &PATIENT[..6]].concat();
    lab.said(&arguments).fine();
    assert_same(&results(&lab.path("whole")), &results(&lab.path("store")));
    assert_eq!(files(&lab.path("store/partial")), Vec::<PathBuf>::new());
}
