//! Faults of disks, files and clocks, each injected: every one ends in a clear message or in the work done again, never in
//! another result.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tiny::{Lab, assert_same, files, results};

/// A file system in memory, mounted at a folder until it is dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// None, with a notice, where this process may not mount anything.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { at });
        }
        eprintln!("skipped: cannot mount a file system at `{}`", at.display());
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.at).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// What an undisturbed run of `tiny.toml` leaves.
fn whole(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    lab.said(&["run", "tiny.toml", "--store", "whole", "--out", "whole"]).fine();
    results(&lab.path("whole"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_once_there_is_space() {
    let lab = Lab::new();
    let whole = whole(&lab);
    let mut stopped = Vec::new();
    for (name, size) in [("small", "100k"), ("larger", "400k"), ("larger_still", "700k")] {
        let Some(disk) = Disk::mount(lab.path(name), size) else { return };
        let arguments = ["run", "tiny.toml", "--store", name, "--out", "out"];
        let said = lab.said(&arguments);
        assert_eq!(said.code, Some(1), "{}", said.err);
        let named = format!("cannot write `{name}/");
        assert!(said.err.contains(&named) && said.err.contains("No space left on device"), "{}", said.err);
        let kept = results(&disk.at);
        disk.remount("size=64m");
        lab.said(&arguments).fine();
        let found = results(&disk.at);
        assert!(kept.iter().all(|(name, bytes)| found[name] == *bytes), "what was there stays");
        assert_same(&whole, &found);
        stopped.push(kept.len());
    }
    assert!(stopped[0] < stopped[2], "the disks were full at different moments: {stopped:?}");
}

#[test]
fn a_store_that_may_only_be_read_is_read() {
    let lab = Lab::new();
    let Some(disk) = Disk::mount(lab.path("store"), "64m") else { return };
    let run = |more: &[&str]| lab.said(&[&["run", "tiny.toml", "--store", "store", "--out", "out"][..], more].concat());
    let first = run(&[]).fine();
    disk.remount("ro");
    let again = run(&[]).fine();
    assert_eq!(again.out, first.out);
    assert!(again.err.contains("warning: `plan` and `ls` will not know of this run: cannot write"), "{}", again.err);
    assert!(again.err.contains("Read-only file system") && again.err.contains("nothing to do"), "{}", again.err);
    lab.said(&["plan", "tiny.toml", "--store", "store"]).fine();

    let changed = ["--set", "ppo.gae_lambda=0.9"];
    let refused = run(&changed);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("error: cannot") && refused.err.contains("`store/"), "{}", refused.err);
    assert!(refused.err.contains("Read-only"), "{}", refused.err);
    disk.remount("rw");
    run(&changed).fine();
}

#[test]
fn whatever_file_is_damaged_is_made_again() {
    let lab = Lab::new();
    let whole = whole(&lab);
    let store = lab.path("whole");
    let harm = |bytes: &mut Vec<u8>, way: usize| {
        let middle = bytes.len() / 2;
        match way {
            0 => bytes[middle] ^= 4,
            1 => bytes.truncate(bytes.len() / 3),
            _ => bytes.clear(),
        }
    };
    for round in 0..6 {
        // One file of every result but the report, which reads them all and is gone.
        fs::remove_dir_all(store.join("results/report")).unwrap();
        let mut of_result: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for name in files(&store.join("results")) {
            let result = name.iter().take(2).collect();
            of_result.entry(result).or_default().push(store.join("results").join(name));
        }
        let mut damaged = 0;
        for (i, names) in of_result.values().enumerate() {
            let path = &names[round % names.len()];
            let mut bytes = fs::read(path).unwrap();
            let before = bytes.clone();
            if !bytes.is_empty() {
                harm(&mut bytes, (round + i) % 3);
            }
            fs::write(path, &bytes).unwrap();
            damaged += usize::from(bytes != before);
        }
        assert!(damaged > 10, "damaged {damaged} results of {}", of_result.len());
        let said = lab.said(&["run", "tiny.toml", "--store", "whole", "--out", "whole"]).fine();
        assert!(said.err.matches(" is damaged: expected ").count() >= damaged, "{damaged}: {}", said.err);
        assert_same(&whole, &results(&store));
    }
}

#[test]
fn every_reader_compares_before_it_reads() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    let result = |stage: &str, file: &str| {
        let root = lab.path(".runner/results").join(stage);
        root.join(files(&root).into_iter().find(|name| name.ends_with(file)).unwrap())
    };
    let generate = ["generate", "--model", "sft/seed=0", "--prompt", "blue heron =>", "--greedy"];
    let refused = |expected: &str| {
        let said = lab.said(&generate);
        assert!(said.code != Some(0) && said.err.contains(expected), "{}", said.err);
        assert_eq!(said.out, "");
    };
    lab.said(&generate).fine();
    for (path, what) in [
        (result("sft", "model.safetensors"), "`model.safetensors` of stage `sft` is damaged"),
        (result("tokenizer", "tokenizer.json"), "`tokenizer.json` of stage `tokenizer` is damaged"),
    ] {
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        refused(what);
        fs::write(&path, good).unwrap();
    }
    // What a manifest says of a config is read too, and stands in its key.
    let path = result("sft", "manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replace("\"max_response_tokens\": 36", "\"max_response_tokens\": 32");
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
    refused("no result");
    let said = lab.said(&["plan", "tiny.toml"]).fine();
    assert!(said.out.contains("cached (deleted, but all that is made from it is there)"), "{}", said.out);

    // The report that is handed out is whole.
    let path = result("report", "report.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replacen("0.", "1.", 1)).unwrap();
    let said = lab.said(&["report", "tiny.toml"]).fine();
    assert!(said.err.contains("`report.json` of stage `report` is damaged"), "{}", said.err);
    let prompts = |report: Value| (report["prompts"].clone(), report["variants"].clone(), report["curves"].clone());
    assert_eq!(
        prompts(read_json(&lab.path("reports/tiny/report.json"))),
        prompts(serde_json::from_str(&good).unwrap())
    );
}

/// Kills a run of `tiny.toml` in the middle of SFT; returns its checkpoints, the oldest first.
fn interrupted(lab: &Lab) -> Vec<PathBuf> {
    let progress =
        || fs::read_to_string(lab.path("out/events.jsonl")).unwrap_or_default().matches("\"progress\"").count();
    let before = progress();
    let arguments = ["run", "tiny.toml", "--out", "out", "--set", "sft.steps=80"];
    let mut child = lab.runner(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Two checkpoints, at every other step.
    while progress() < before + 5 {
        assert_eq!(child.try_wait().unwrap(), None, "the run is over before it can be killed");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let root = lab.path(".runner/partial");
    let mut folders: Vec<PathBuf> = files(&root).iter().map(|name| root.join(name.parent().unwrap())).collect();
    folders.dedup();
    folders.retain(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")));
    folders
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let lab = Lab::new();
    let step = |folder: &Path| folder.file_name().unwrap().to_str().unwrap()[5..].parse::<u64>().unwrap();
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let resumed = || {
        let log = fs::read_to_string(lab.path("out/events.jsonl")).unwrap();
        let mut events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let started = |event: &Value| event["event"] == "stage_started" && event["stage"] == "sft/seed=0";
        events.rfind(started).unwrap()["resumed_from"].as_u64()
    };

    let saved = interrupted(&lab);
    let [.., before, last] = saved.as_slice() else { panic!("two checkpoints are kept: {saved:?}") };
    flip(&last.join("model.safetensors"));
    let (before, last) = (step(before), step(last));
    let saved = interrupted(&lab);
    assert_eq!(resumed(), Some(before), "in place of {last}");
    for folder in &saved {
        fs::remove_file(folder.join("checksums.json")).unwrap();
    }
    let arguments = ["run", "tiny.toml", "--out", "out", "--set", "sft.steps=80"];
    let said = lab.said(&arguments).fine();
    assert_eq!(resumed(), None);
    let warned = said.err.matches("sft/seed=0: the checkpoint after step").count();
    assert_eq!(warned, saved.len(), "{}", said.err);

    lab.said(&[&arguments[..2], &["--store", "whole"], &arguments[2..]].concat()).fine();
    assert_same(&results(&lab.path("whole")), &results(&lab.path(".runner")));
}

#[test]
fn stores_of_other_versions_are_read_or_refused() {
    let lab = Lab::new();
    let whole = whole(&lab);
    let marker = lab.path("whole/store.json");
    let written = fs::read(&marker).unwrap();
    let arguments = ["run", "tiny.toml", "--store", "whole", "--out", "whole"];
    for (text, found) in [("{\"format\":3}", "format 3"), ("{\"form", "`{\"form`")] {
        fs::write(&marker, text).unwrap();
        let said = lab.said(&arguments);
        assert_eq!(said.code, Some(2), "{}", said.err);
        let expected = format!("expected format 2 or older in `whole/store.json`, found {found}\n\nhint: ");
        assert!(said.err.contains(&expected), "{}", said.err);
    }
    // A store of format 1: no marker, and a checkpoint directly under the key.
    fs::remove_file(&marker).unwrap();
    let plan: Value = serde_json::from_str(&lab.said(&["plan", "tiny.toml", "--json"]).fine().out).unwrap();
    let sft = plan["nodes"].as_array().unwrap().iter().find(|node| node["stage"] == "sft").unwrap();
    let key = sft["key"].as_str().unwrap();
    fs::create_dir_all(lab.path("whole/partial").join(key).join("checkpoint/step-00000004")).unwrap();
    fs::write(lab.path("whole/partial").join(key).join("model.safetensors"), "half").unwrap();
    fs::remove_dir_all(lab.path("whole/results/sft")).unwrap();
    fs::remove_dir_all(lab.path("whole/results/report")).unwrap();
    let said = lab.said(&arguments).fine();
    assert!(said.err.contains(", 14 cached, 2 to run"), "{}", said.err);
    assert_eq!(fs::read(&marker).unwrap(), written);
    assert_same(&whole, &results(&lab.path("whole")));
    assert_eq!(files(&lab.path("whole/partial")), Vec::<PathBuf>::new());
}

#[test]
fn no_clock_decides_anything() {
    let lab = Lab::new();
    let whole = whole(&lab);
    let store = lab.path("whole");
    for started in [0, u64::MAX] {
        for name in files(&store.join("results")).iter().filter(|name| name.ends_with("manifest.json")) {
            let path = store.join("results").join(name);
            let mut manifest = read_json(&path);
            manifest["provenance"]["started"] = json!(started);
            fs::write(&path, manifest.to_string()).unwrap();
        }
        let date = if started == 0 { "1970-01-02" } else { "2099-01-01" };
        let touched = Command::new("find").arg(&store).args(["-exec", "touch", "-d", date, "{}", "+"]).status();
        assert!(touched.unwrap().success());
        let said = lab.said(&["run", "tiny.toml", "--store", "whole", "--out", "whole"]).fine();
        assert!(said.err.contains("nothing to do"), "{}", said.err);
        assert_same(&whole, &results(&store));
        let ages = ["ls", "show"].map(|command| {
            let arguments = [&[command][..], if command == "show" { &["report"] } else { &[] }, &["--store", "whole"]];
            lab.said(&arguments.concat()).fine().out
        });
        // A run is as old as what last happened in it, and that was just now.
        assert!(ages[0].contains("seconds ago"), "{}", ages[0]);
        assert!(ages[1].contains(if started == 0 { " days ago" } else { " 0 seconds ago" }), "{}", ages[1]);
    }
    // Work that is left over from the future goes on as well.
    let saved = interrupted(&lab);
    let touched = Command::new("touch").args(["-d", "2099-01-01"]).args(&saved).status();
    assert!(touched.unwrap().success());
    let said = lab.said(&["run", "tiny.toml", "--out", "out", "--set", "sft.steps=80"]).fine();
    assert!(said.err.contains("sft/seed=0: resumes at step "), "{}", said.err);
}
