//! The store and the executor, with toy stages: what is complete, what runs, what a failure or a kill leaves.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use runner::events::{Emitter, Event, Memory};
use runner::stage::Interrupted;
use runner::stage::execute::{Inputs, Summary, execute};
use runner::stage::node::{Node, Plan, Stage};
use runner::stage::reason::{Status, statuses};
use runner::stage::stop::Stop;
use runner::store::{Claim, Error, Lookup, Store, Workspace};
use serde_json::{Value, json};

/// data -> (sft a, sft b) -> report, where `a` takes `steps`.
fn toy(steps: u64) -> Plan {
    let mut plan = Plan::new("toy");
    let data = plan.push(Stage::Data, 1, "data", json!({ "rows": 3 }), &[]);
    let a = plan.push(Stage::Sft, 1, "sft a", json!({ "steps": steps }), &[("data", data)]);
    let b = plan.push(Stage::Ppo, 1, "ppo b", json!({ "steps": 1 }), &[("data", data)]);
    plan.push(Stage::Report, 1, "report", json!({}), &[("policy.a", a), ("policy.b", b)]);
    plan
}

/// Writes what the node was and what it read: enough to see whether order and inputs are right.
fn work(node: &Node, inputs: &Inputs, workspace: &Workspace, _: &Emitter) -> anyhow::Result<()> {
    let mut read = BTreeMap::new();
    for (role, artefact) in inputs.artefacts("") {
        read.insert(role, artefact.read_json::<Value>("out.json")?);
    }
    workspace.write_json("out.json", &json!({ "config": node.config, "read": read }))?;
    workspace.write_jsonl("rows/rows.jsonl", (0..3).map(|i| json!({ "row": i })))?;
    Ok(())
}

fn run(plan: &Plan, store: &Store) -> Summary {
    execute(plan, store, &Memory::default(), 2, &Stop::default(), &work).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn workspace(store: &Store, plan: &Plan, index: usize) -> Workspace {
    match store.claim(plan.identity(index), |_| false).unwrap() {
        Claim::Work(workspace) => *workspace,
        claim => panic!("expected work, found {claim:?}"),
    }
}

fn reasons(plan: &Plan, store: &Store) -> Vec<String> {
    statuses(plan, store).iter().map(Status::to_string).collect()
}

/// Every file under `dir` but the manifests, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "manifest.json") {
                found.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn what_was_written_reads_back() {
    let (_dir, store) = store();
    let plan = toy(1);
    let workspace = workspace(&store, &plan, 0);
    workspace.write_json("a.json", &json!({ "x": 0.1 })).unwrap();
    workspace.write_jsonl("b.jsonl", [1, 2, 3]).unwrap();
    workspace.write_bytes("deep/c", b"\0\xff").unwrap();
    workspace.checkpoints().save(1, &[("state", b"s")]).unwrap();
    let artefact = workspace.finish().unwrap();
    assert_eq!(artefact.manifest.files.keys().collect::<Vec<_>>(), ["a.json", "b.jsonl", "deep/c"]);
    let reopened = Store::open(store.root()).unwrap();
    let Lookup::Found(artefact) = reopened.find("data", &plan.nodes[0].key) else { panic!("finished is found") };
    assert_eq!(artefact.read_json::<Value>("a.json").unwrap(), json!({ "x": 0.1 }));
    assert_eq!(artefact.read_jsonl::<u8>("b.jsonl").unwrap(), [1, 2, 3]);
    assert_eq!(artefact.read_bytes("deep/c").unwrap(), b"\0\xff");
    let missing = artefact.read_bytes("d").unwrap_err().to_string();
    assert_eq!(missing, "stage `data` has no file `d`; it has `a.json`, `b.jsonl`, `deep/c`");
    let malformed = artefact.read_jsonl::<bool>("b.jsonl").unwrap_err().to_string();
    assert!(malformed.starts_with("`b.jsonl` of stage `data`, line 1: "), "{malformed}");
}

#[test]
fn names_that_leave_the_folder_or_hide_the_manifest_are_refused() {
    let (_dir, store) = store();
    let workspace = workspace(&store, &toy(1), 0);
    for name in ["", "../x", "/tmp/x", "a/../b", "manifest.json", "checkpoint/x"] {
        assert!(matches!(workspace.path(name), Err(Error::FileName { .. })), "{name}");
    }
}

#[test]
fn an_interrupted_stage_leaves_no_result_and_keeps_its_checkpoint_only() {
    let (_dir, store) = store();
    let plan = toy(1);
    let killed = workspace(&store, &plan, 0);
    killed.write_bytes("half", b"hal").unwrap();
    killed.checkpoints().save(40, &[("weights", b"w")]).unwrap();
    drop(killed);
    assert!(matches!(store.find("data", &plan.nodes[0].key), Lookup::Missing));
    assert_eq!(store.interrupted_at(&plan.nodes[0].key), Some(40));
    assert_eq!(reasons(&plan, &store)[0], "run: interrupted at step 40, will resume");

    let memory = Memory::default();
    let summary = execute(&plan, &store, &memory, 1, &Stop::default(), &|node, inputs, workspace, emitter| {
        assert!(!workspace.dir().join("half").exists());
        if node.stage == Stage::Data {
            let (step, files) = workspace.checkpoints().latest(|_| ())?.expect("the checkpoint is still there");
            assert_eq!((step, files["weights"].as_slice()), (40, b"w".as_slice()));
        }
        work(node, inputs, workspace, emitter)
    });
    let summary = summary.unwrap();
    assert_eq!((summary.ran, summary.failed.len()), (4, 0));
    let resumed =
        |event: &Event| matches!(event, Event::StageStarted { stage, resumed_from: Some(40), .. } if stage == "data");
    assert!(memory.events().iter().any(resumed));
    assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_folder_without_manifest_is_no_result_and_is_replaced() {
    let (_dir, store) = store();
    let plan = toy(1);
    run(&plan, &store);
    let key = &plan.nodes[1].key;
    let dir = store.root().join("results/sft").join(key.as_str());
    fs::remove_file(dir.join("manifest.json")).unwrap();
    fs::write(dir.join("stray"), b"x").unwrap();
    assert!(matches!(store.find("sft", key), Lookup::Missing));
    drop(workspace(&store, &plan, 1));
    workspace(&store, &plan, 1).finish().unwrap();
    assert!(!dir.join("stray").exists());
}

#[test]
fn damage_is_seen_named_and_repaired() {
    let (_dir, store) = store();
    let plan = toy(1);
    run(&plan, &store);
    let pristine = files(&store.root().join("results"));
    let path = store.root().join("results/report").join(plan.nodes[3].key.as_str()).join("out.json");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[5] ^= 1;
    for (bytes, found) in [(&flipped[..], "blake3"), (&whole[..7], "7 bytes")] {
        fs::write(&path, bytes).unwrap();
        // What this process has seen whole it trusts: damage comes between runs.
        let store = Store::open(store.root()).unwrap();
        let Lookup::Damaged(error) = store.find_verified("report", &plan.nodes[3].key) else {
            panic!("{found} unseen")
        };
        let message = error.to_string();
        assert!(message.starts_with("`out.json` of stage `report` is damaged: expected "), "{message}");
        assert!(message.contains(&format!("found {found}")) && message.contains("afresh"), "{message}");
        let memory = Memory::default();
        let summary = execute(&plan, &store, &memory, 2, &Stop::default(), &work).unwrap();
        assert_eq!((summary.ran, summary.cached), (1, 3));
        assert!(memory.events().iter().any(|event| matches!(event, Event::Warning { stage, .. } if stage == "report")));
        assert_eq!(files(&store.root().join("results")), pristine);
    }
}

#[test]
fn two_that_want_one_key_compute_it_once() {
    let (_dir, store) = store();
    let plan = toy(1);
    let (computed, both) = (AtomicUsize::new(0), Barrier::new(2));
    let memories = [Memory::default(), Memory::default()];
    thread::scope(|scope| {
        for memory in &memories {
            // A store of its own, as another process has.
            let store = Store::open(store.root()).unwrap();
            let (plan, computed, both) = (&plan, &computed, &both);
            scope.spawn(move || {
                both.wait();
                let summary =
                    execute(plan, &store, memory, 2, &Stop::default(), &|node, inputs, workspace, emitter| {
                        computed.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(50));
                        work(node, inputs, workspace, emitter)
                    });
                assert!(summary.unwrap().artefacts.iter().all(Option::is_some));
            });
        }
    });
    assert_eq!(computed.load(Ordering::SeqCst), 4);
}

#[test]
fn who_waits_says_so_and_finds_the_result() {
    let (_dir, store) = store();
    let plan = toy(1);
    let holder = workspace(&store, &plan, 0);
    let memory = Memory::default();
    let waiting =
        || memory.events().iter().any(|event| matches!(event, Event::StageWaiting { stage, .. } if stage == "data"));
    let ran = thread::scope(|scope| {
        let other = Store::open(store.root()).unwrap();
        let (plan, memory) = (&plan, &memory);
        let run = scope.spawn(move || execute(plan, &other, memory, 1, &Stop::default(), &work).unwrap());
        while !waiting() {
            thread::sleep(Duration::from_millis(2));
        }
        holder.write_json("out.json", &json!("from the holder")).unwrap();
        holder.finish().unwrap();
        run.join().unwrap().ran
    });
    assert_eq!(ran, 3, "the waiting one takes the holder's data");
}

#[test]
fn a_stop_ends_training_with_a_checkpoint_and_starts_nothing_more() {
    let (_dir, store) = store();
    let (plan, stop, memory) = (toy(1), Stop::default(), Memory::default());
    let summary = execute(&plan, &store, &memory, 1, &stop, &|node, inputs, workspace, emitter| {
        if node.label != "sft a" {
            return work(node, inputs, workspace, emitter);
        }
        stop.ask();
        workspace.checkpoints().save(7, &[])?;
        Err(anyhow::Error::from(Interrupted { step: 7 }).context("in the middle"))
    });
    let summary = summary.unwrap();
    assert_eq!((summary.ran, summary.cached, summary.failed), (1, 0, vec![]));
    assert_eq!(
        (summary.interrupted, summary.skipped),
        (vec!["sft a".to_owned()], vec!["ppo b".into(), "report".into()])
    );
    let events = memory.events();
    assert!(matches!(events.last(), Some(Event::StageInterrupted { step: 7, .. })), "{events:?}");
    assert_eq!(reasons(&plan, &store)[1], "run: interrupted at step 7, will resume");
}

#[test]
fn a_second_run_does_no_work() {
    let (_dir, store) = store();
    let plan = toy(1);
    assert_eq!(run(&plan, &store).ran, 4);
    let before = files(store.root());
    let again =
        execute(&plan, &store, &Memory::default(), 2, &Stop::default(), &|node, _, _, _| panic!("{} runs", node.label))
            .unwrap();
    assert_eq!((again.ran, again.cached, again.failed.len()), (0, 4, 0));
    assert_eq!(files(store.root()), before);
}

#[test]
fn what_nothing_needs_is_not_touched() {
    let (_dir, store) = store();
    run(&toy(1), &store);
    fs::remove_dir_all(store.root().join("results/data")).unwrap();
    assert_eq!(run(&toy(1), &store).ran, 0);
    assert!(reasons(&toy(1), &store)[0].starts_with("cached (deleted"));
    // `sft a` with other steps reads the data again; `ppo b` does not, and its result stays.
    let summary = run(&toy(2), &store);
    assert_eq!((summary.ran, summary.cached), (3, 1));
}

#[test]
fn an_unwanted_reader_of_a_stage_that_runs_stays_untouched() {
    // data -> labels -> report 1 (cached), and data -> ppo: `labels` is deleted, and nothing that runs reads it.
    let build = |steps: u64| {
        let mut plan = Plan::new("two ends");
        let data = plan.push(Stage::Data, 1, "data", json!({}), &[]);
        let labels = plan.push(Stage::Labels, 1, "labels", json!({}), &[("data", data)]);
        plan.push(Stage::Report, 1, "report", json!({}), &[("labels", labels)]);
        plan.push(Stage::Ppo, 1, "ppo", json!({ "steps": steps }), &[("data", data)]);
        plan
    };
    let (_dir, store) = store();
    run(&build(1), &store);
    for stage in ["data", "labels"] {
        fs::remove_dir_all(store.root().join("results").join(stage)).unwrap();
    }
    assert_eq!(run(&build(2), &store).ran, 2);
    assert!(!store.root().join("results/labels").exists());
}

#[test]
fn a_failure_stops_what_is_made_from_it_and_nothing_else() {
    let (_dir, store) = store();
    let plan = toy(1);
    for (panics, expected) in [(false, "no memory: 3 bytes short"), (true, "stage `sft a` panicked: index 3 of 2")] {
        let memory = Memory::default();
        let summary = execute(&plan, &store, &memory, 1, &Stop::default(), &|node, inputs, workspace, emitter| {
            if node.label == "sft a" {
                assert!(!panics, "index {} of 2", 3);
                return Err(anyhow::anyhow!("3 bytes short").context("no memory"));
            }
            work(node, inputs, workspace, emitter)
        });
        let summary = summary.unwrap();
        assert_eq!(summary.failed, [("sft a".to_owned(), expected.to_owned())]);
        assert_eq!(summary.skipped, ["report"]);
        assert!(summary.artefacts[2].is_some() && summary.artefacts[3].is_none());
        let failed = Event::StageFailed { stage: "sft a".into(), error: expected.into() };
        assert!(memory.events().contains(&failed));
        let reasons = reasons(&plan, &store);
        assert_eq!(reasons[1], format!("run: failed last time: {expected}"));
        assert_eq!(reasons[3], "run: input `policy.a` runs");
    }
    workspace(&store, &plan, 1).checkpoints().save(7, &[]).unwrap();
    assert!(reasons(&plan, &store)[1].ends_with("index 3 of 2; will resume at step 7"));
    assert_eq!(run(&plan, &store).ran, 2, "what was done is kept");
}

#[test]
fn inputs_come_before_their_readers() {
    let (_dir, store) = store();
    let order = Mutex::new(Vec::new());
    let plan = toy(1);
    execute(&plan, &store, &Memory::default(), 4, &Stop::default(), &|node, inputs, workspace, emitter| {
        work(node, inputs, workspace, emitter)?;
        order.lock().unwrap().push(node.label.clone());
        Ok(())
    })
    .unwrap();
    let order = order.into_inner().unwrap();
    assert_eq!((order.len(), order[0].as_str(), order[3].as_str()), (4, "data", "report"));
}

#[test]
fn artefacts_do_not_depend_on_the_number_of_jobs() {
    let all: Vec<_> = [1, 4]
        .map(|jobs| {
            let (_dir, store) = store();
            execute(&toy(1), &store, &Memory::default(), jobs, &Stop::default(), &work).unwrap();
            files(&store.root().join("results"))
        })
        .into();
    assert_eq!(all[0].len(), 8);
    assert_eq!(all[0], all[1]);
}

#[test]
fn a_wrong_role_is_named_with_the_right_ones() {
    let (_dir, store) = store();
    let plan = toy(1);
    let summary =
        execute(&plan, &store, &Memory::default(), 1, &Stop::default(), &|node, inputs, workspace, emitter| {
            if node.stage == Stage::Report {
                let named: Vec<_> = inputs.artefacts("policy.").map(|(name, _)| name).collect();
                assert_eq!(named, ["a", "b"]);
                inputs.artefact("policy")?;
            }
            work(node, inputs, workspace, emitter)
        });
    assert_eq!(summary.unwrap().failed[0].1, "expected an input `policy`, found `policy.a`, `policy.b`");
}

#[test]
fn reasons_follow_the_changes() {
    let (_dir, store) = store();
    let plan = toy(60);
    assert_eq!(reasons(&plan, &store), ["run: never run"; 4]);
    run(&plan, &store);
    assert_eq!(reasons(&plan, &store), ["cached"; 4]);
    assert_eq!(
        reasons(&toy(80), &store),
        ["cached", "run: `steps` changed: 60 -> 80", "cached", "run: input `policy.a` runs"]
    );
    run(&toy(80), &store);
    let report = store.root().join("results/report").join(toy(80).nodes[3].key.as_str());
    fs::remove_dir_all(&report).unwrap();
    assert_eq!(reasons(&toy(80), &store), ["cached", "cached", "cached", "run: its result was deleted"]);
    assert_eq!(reasons(&toy(60), &store), ["cached"; 4], "the older recipe's results are still there");
}
