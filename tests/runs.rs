//! Many runs in one store: listed, compared, tagged, collected, carried to another store, watched.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiny::{Lab, assert_same, files, results};

/// The same recipe with one key changed: nine stages are shared.
const CHANGED: [&str; 4] = ["run", "tiny.toml", "--set", "ppo.gae_lambda=0.8"];

/// A lab in which the recipe and its change have been run, in this order.
fn two_runs() -> Lab {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    lab.said(&CHANGED).fine();
    lab
}

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    serde_json::from_str(&lab.said(arguments).fine().out).unwrap()
}

/// The ids that `ls` lists.
fn ids(lab: &Lab, filters: &[&str]) -> Vec<String> {
    let listed = json(lab, &[&["ls", "--json"][..], filters].concat());
    listed.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
}

fn state(lab: &Lab, run: &str) -> String {
    json(lab, &["show", run, "--json"])["summary"]["state"].as_str().unwrap().to_owned()
}

/// The usage error of a command.
fn refused(lab: &Lab, arguments: &[&str]) -> String {
    let said = lab.said(arguments);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{}", said.err);
    said.err
}

fn folder_names(dir: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(dir) else { return Vec::new() };
    listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A run whose first training takes far longer than any test.
fn long_run(lab: &Lab) -> Child {
    let mut command = lab.runner(&["run", "tiny.toml", "--set", "sft.steps=1000000", "--out", "long"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = lab.path("long/events.jsonl");
    while !fs::read_to_string(&log).unwrap_or_default().contains("\"progress\"") {
        assert!(child.try_wait().unwrap().is_none(), "the run is over");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn runs_are_listed_named_and_compared() {
    let lab = two_runs();
    let [changed, base] = ids(&lab, &[]).try_into().unwrap();
    assert_eq!(ids(&lab, &["-n", "1"]), [changed.as_str()], "the last active first");
    // The same command again is the same run, and now the last active one.
    lab.said(&["run", "tiny.toml"]).fine();
    assert_eq!(ids(&lab, &[]), [base.as_str(), changed.as_str()]);
    let listed = json(&lab, &["ls", "--json"]);
    assert_eq!(listed[0]["stages"], json!({ "done": 16, "failed": 0, "missing": 0, "all": 16 }));
    assert!(listed[0]["headline"]["win_rate"].is_f64() && listed[0]["state"] == "done", "{listed}");

    lab.said(&["tag", &changed, "short-sighted"]).fine();
    assert_eq!(ids(&lab, &["--tag", "short*"]), [changed.as_str()]);
    assert_eq!(ids(&lab, &["--name", "t?ny", "--state", "done"]).len(), 2);
    assert_eq!(ids(&lab, &["--name", "other"]).len() + ids(&lab, &["--state", "failed"]).len(), 0);
    assert!(
        refused(&lab, &["ls", "--state", "asleep"]).contains("unknown variant `asleep`, expected one of `running`")
    );
    assert!(refused(&lab, &["tag", &changed, "../x"]).contains("expected a tag of letters"));
    assert!(refused(&lab, &["show", "short-sigthed"]).contains("no result has the label or key"));
    assert!(refused(&lab, &["compare", "short-sigthed"]).contains("did you mean `short-sighted`?"));
    assert!(refused(&lab, &["compare", "tiny-"]).contains("`tiny-` names 2 runs:"));

    let shown = lab.said(&["show", "short-sighted"]).fine().out;
    assert!(shown.starts_with(&format!("run {changed} (done)\n  tags      short-sighted\n")), "{shown}");
    assert!(shown.contains("restaurants.toml (") && shown.contains("report  "), "{shown}");
    let shown = lab.said(&["show", "sft/seed=0"]).fine().out;
    assert!(shown.starts_with("sft "), "a label is still a label: {shown}");
    assert!(shown.contains(" on `flex` with "), "where it was computed, not what the recipe left open: {shown}");

    let difference = json(&lab, &["diff", "tiny.toml", "short-sighted", "--json"]);
    assert_eq!(difference["changes"], json!([{ "key": "ppo.gae_lambda", "a": [0.95], "b": [0.8] }]));
    let count = |list: &str| difference[list].as_array().unwrap().len();
    assert_eq!([count("shared"), count("only_a"), count("only_b")], [9, 7, 7]);

    let compared = lab.said(&["compare", "short-sighted", &base, "--csv", "--sort", "win_rate"]).fine().out;
    let mut lines = compared.lines();
    assert_eq!(lines.next(), Some("run,ppo.gae_lambda,variant,win_rate,interval,kl_nats,length"));
    assert_eq!(lines.count(), 4, "two variants each");
    let all = lab.said(&["compare", &base, "--all", "--md"]).fine().out;
    assert!(all.contains("| ppo.steps |") && all.contains("| sequence |"), "{all}");

    lab.said(&["tag", "--delete", "short-sighted"]).fine();
    assert!(refused(&lab, &["tag", "--delete", "short-sighted"]).contains("no tag `short-sighted`"));
}

#[test]
fn points_of_a_sweep_are_compared_by_its_axes() {
    let lab = Lab::new();
    lab.write(
        "sweep.toml",
        "extends = \"tiny.toml\"\n[sweep.product]\nppo.gae_lambda = [0.8, 0.95]\nppo.steps = [2, 4]\n",
    );
    lab.said(&["run", "sweep.toml"]).fine();
    let listed = json(&lab, &["ls", "--json"]);
    let best = &listed[0]["headline"];
    assert!(best["point"].as_str().unwrap().contains("gae_lambda="), "{listed}");
    let compared = lab.said(&["compare", "sweep", "--csv", "--sort", "win_rate"]).fine().out;
    let rows: Vec<Vec<&str>> = compared.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["gae_lambda", "steps", "variant", "win_rate", "interval", "kl_nats", "length"]);
    assert_eq!(rows.len(), 1 + 4 * 2);
    assert_eq!((rows[1][2], rows[1][3].parse().ok()), (best["variant"].as_str().unwrap(), best["win_rate"].as_f64()));
    // One of its points is the recipe itself: the same numbers, from its report.
    lab.said(&["run", "tiny.toml"]).fine();
    let alone = lab.said(&["compare", "tiny", "--csv"]).fine().out;
    let numbers = |row: &str| row.split_once(',').map(|(_, numbers)| numbers.to_owned());
    for row in alone.lines().skip(1) {
        let same = format!("0.95,4,{},{}", row.split(',').next().unwrap(), numbers(row).unwrap());
        assert!(compared.contains(&same), "{same} is not in {compared}");
    }
    let difference = json(&lab, &["diff", "tiny", "sweep", "--json"]);
    assert_eq!(difference["changes"][0], json!({ "key": "ppo.gae_lambda", "a": [0.95], "b": [0.8, 0.95] }));
    lab.said(&["export", "sweep", "--out", "sweep.tar.zst"]).fine();
    // Who only unpacks it finds the report.
    lab.said(&["export", "sweep", "--out", "sweep.tar"]).fine();
    let unpacked = tar::Archive::new(fs::File::open(lab.path("sweep.tar")).unwrap()).unpack(lab.path("unpacked"));
    unpacked.unwrap();
    for page in ["index.html", "report.json", "points.parquet"] {
        let bytes = |folder: &str| fs::read(lab.path(folder).join(page)).unwrap();
        assert!(bytes("unpacked/report") == bytes("reports/sweep"), "{page}");
    }
    lab.said(&["import", "sweep.tar.zst", "--store", "other"]).fine();
    assert!(lab.said(&["run", "sweep.toml", "--store", "other"]).fine().err.contains("nothing to do"));
}

#[test]
fn a_list_reads_nothing_but_summaries() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    let id = ids(&lab, &[]).remove(0);
    let run = lab.path(".runner/runs").join(&id);
    let summary: Value = serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap();
    // Without plans, results and reports: what is listed cannot come from there.
    let fill = |store: &str, count: usize| {
        for i in 0..count {
            let dir = lab.path(store).join(format!("runs/tiny-{i:08}"));
            fs::create_dir_all(dir.join("events")).unwrap();
            for file in files(&run.join("events")) {
                fs::copy(run.join("events").join(&file), dir.join("events").join(&file)).unwrap();
            }
            let mut summary = summary.clone();
            summary["id"] = json!(format!("tiny-{i:08}"));
            fs::write(dir.join("summary.json"), summary.to_string()).unwrap();
        }
    };
    fill("many", 1000);
    fill("one", 1);
    let seconds = |store: &str, count: usize| {
        let once = || {
            let before = Instant::now();
            assert_eq!(ids(&lab, &["--store", store]).len(), count);
            before.elapsed().as_secs_f64()
        };
        (0..5).map(|_| once()).fold(f64::INFINITY, f64::min)
    };
    let (one, many) = (seconds("one", 1), seconds("many", 1000));
    eprintln!("`ls` over 1,000 runs takes {:.1} times as long as over 1", many / one);
    // The process's own start hides much of it: what must not be is a cost for each run that is like a whole command.
    assert!(many < 100.0 * one, "{many} s against {one} s");
}

#[test]
fn only_a_run_that_somebody_works_on_is_running() {
    let lab = Lab::new();
    let mut child = long_run(&lab);
    let id = ids(&lab, &["--state", "running"]).remove(0);
    let now = json(&lab, &["watch", "--once", "--json"]);
    assert_eq!((now["run"].as_str(), now["attended"].as_bool()), (Some(id.as_str()), Some(true)));
    let stage = now["stages"].as_array().unwrap().iter().find(|stage| stage["label"] == "sft/seed=0").unwrap();
    assert_eq!(stage["standing"]["state"], "running");
    assert_eq!(stage["progress"]["total"], 1_000_000);
    // What a run at work wants is not garbage, its checkpoints included.
    assert!(lab.said(&["gc", "--delete"]).fine().err.ends_with("nothing to delete\n"));
    let watch = lab.runner(&["watch", &id]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let watched = tiny::Said::of(&watch.wait_with_output().unwrap());
    assert_eq!(watched.code, Some(1), "{watched:?}");
    assert!(watched.err.contains("nobody works on it any more, 2 of 16 stages are done"), "{}", watched.err);
    assert!(watched.err.contains("the same command goes on from there: "), "{}", watched.err);
    assert_eq!(ids(&lab, &["--state", "interrupted"]), [id.as_str()]);
    let shown = lab.said(&["show", &id]).fine().out;
    assert!(shown.lines().any(|line| line.starts_with("sft/seed=0") && line.ends_with("stopped")), "{shown}");
    assert!(refused(&lab, &["watch"]).contains("no run is at work"));
}

#[test]
fn a_watch_ends_as_its_run_does() {
    let lab = Lab::new();
    let mut run = lab.runner(&["run", "tiny.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while ids(&lab, &[]).is_empty() {
        thread::sleep(Duration::from_millis(2));
    }
    let watched = lab.said(&["watch", "tiny"]).fine();
    assert!(run.wait().unwrap().success());
    assert!(watched.out.contains("16 stages done, "), "{}", watched.out);
    assert!(watched.err.contains(": done, best "), "{}", watched.err);
    assert_eq!(state(&lab, "tiny"), "done");

    let failing = ["run", "tiny.toml", "--set", "sft.optimizer.learning_rate=1e30", "--out", "failing"];
    assert_eq!(lab.said(&failing).code, Some(1));
    assert_eq!(state(&lab, "tiny"), "failed");
    let watched = lab.said(&["watch", "tiny"]);
    assert_eq!(watched.code, Some(1), "{watched:?}");
    assert!(watched.err.contains("1 of 16 stages failed"), "{}", watched.err);
}

#[test]
fn what_nobody_needs_is_collected_and_nothing_else() {
    let lab = two_runs();
    let store = lab.path(".runner");
    let [changed, base] = ids(&lab, &[]).try_into().unwrap();
    let whole = results(&store);
    // By default the last run of a recipe stays, and what only the one before reached goes; a tag or a recipe keeps it.
    for arguments in [vec!["gc", "--keep", "tiny.toml"], vec!["gc"]] {
        let said = lab.said(&arguments).fine();
        let expected = if arguments.len() > 1 { "would delete 1 run; " } else { "would delete 1 run, 7 results; " };
        assert!(said.err.starts_with(expected) && said.out.contains(&base), "{}", said.err);
        assert_eq!(results(&store), whole, "nothing was asked to go");
    }
    lab.said(&["tag", &base, "base"]).fine();
    assert!(lab.said(&["gc", "--delete"]).fine().err.ends_with("nothing to delete\n"));
    lab.said(&["tag", "--delete", "base"]).fine();
    let stray = store.join("partial").join("0".repeat(32));
    fs::create_dir_all(&stray).unwrap();
    fs::write(store.join("files").join("f".repeat(64)), "named by nobody").unwrap();
    fs::create_dir_all(store.join("transit/1-1")).unwrap();
    let said = lab.said(&["gc", "--delete"]).fine();
    let expected = "deleted: 1 run, 7 results, 1 unfinished stage, 1 file, 1 leftover; ";
    assert!(said.err.starts_with(expected), "{}", said.err);
    assert!(!stray.exists() && folder_names(&store.join("transit")).is_empty());
    assert_eq!(ids(&lab, &[]), [changed.as_str()]);
    let again = lab.said(&CHANGED).fine();
    assert!(again.err.ends_with("nothing to do: all 16 stages are cached\n"), "{}", again.err);
    lab.said(&["run", "tiny.toml"]).fine();
    assert_same(&whole, &results(&store));
}
