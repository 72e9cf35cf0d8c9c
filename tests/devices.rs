//! The real binary on every device that it has. That their numbers are right is tested by the numeric suites, which run on
//! the device that `RUNNER_TEST_DEVICE` names.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tiny::{Lab, results};

/// What `runner devices` says of each device.
fn listed(lab: &Lab) -> Vec<Value> {
    let said = lab.said(&["devices", "--json"]).fine();
    let mut listed: Value = serde_json::from_str(&said.out).unwrap();
    serde_json::from_value(listed["devices"].take()).unwrap()
}

fn name(device: &Value) -> String {
    device["device"].as_str().unwrap().to_owned()
}

#[test]
fn every_device_is_usable_or_says_what_it_needs() {
    let lab = Lab::new();
    let devices = listed(&lab);
    let mut names: Vec<_> = devices.iter().map(name).collect();
    names.retain(|name| !name.contains(':') || name.ends_with(":0") || name.ends_with("mps"));
    let all = "flex libtorch libtorch:cuda:0 libtorch:mps vulkan wgpu metal cuda:0 rocm:0";
    assert_eq!(names.join(" "), all);
    for device in &devices {
        let name = name(device);
        if device["usable"] == true {
            let error = device["self_test_error"].as_f64().unwrap();
            assert!(error < 1e-5, "`{name}` differs from `flex` by {error}");
            continue;
        }
        let reason = device["reason"].as_str().unwrap();
        let feature = device["feature"].as_str().unwrap();
        let is_named = if device["built"] == true {
            reason.contains("this machine has no device") || reason.contains("the self-test ended with")
        } else {
            reason.contains(feature)
        };
        assert!(is_named, "{name}: {reason}");
        let said = lab.said(&["run", "tiny.toml", "--set", &format!("device='{name}'")]);
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(reason), "{}", said.err);
        assert!(results(&lab.path(".runner")).is_empty(), "work was done before `{name}` was refused");
    }
    let said = lab.said(&["devices"]).fine();
    assert!(said.out.ends_with("here\n") && said.out.contains("flex             yes"), "{}", said.out);
}

#[test]
fn a_device_that_does_not_exist_is_named_with_those_that_do() {
    let lab = Lab::new();
    for (value, found) in [("'gpu'", "found `gpu`"), ("'cuda:x'", "found `cuda:x`"), ("3", "device")] {
        let said = lab.said(&["check", "tiny.toml", "--set", &format!("device={value}")]);
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains(found) && !said.err.contains("panicked"), "{}", said.err);
    }
}

/// The loss of every step of supervised training; what comes later is made from sampled text, which rounding can change.
fn losses(store: &Path) -> Vec<f64> {
    let names = tiny::files(&store.join("results"));
    let name = names.iter().find(|name| name.starts_with("sft") && name.ends_with("metrics.jsonl")).unwrap();
    let text = fs::read_to_string(store.join("results").join(name)).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["values"]["loss"].as_f64().unwrap();
    text.lines().map(loss).collect()
}

#[test]
fn a_whole_experiment_runs_on_every_device_and_again_to_the_same_bytes() {
    let lab = Lab::new();
    let run = |device: &str, store: &str| {
        let device = format!("device='{device}'");
        lab.said(&["run", "tiny.toml", "--set", &device, "--store", store]).fine();
        lab.path(store)
    };
    let expected = losses(&run("flex", "flex-store"));
    assert_eq!(expected.len(), 20);
    for device in listed(&lab) {
        let name = name(&device);
        if device["usable"] != true || name == "flex" {
            eprintln!("skipped: no device `{name}` here to run an experiment on, or nothing to compare it with");
            continue;
        }
        let first = run(&name, &format!("{name}-store"));
        for (step, (found, expected)) in losses(&first).iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 1e-4 * expected, "step {step} on `{name}`: {expected}, {found}");
        }
        let keys = |store: &Path| results(store).into_keys().collect::<Vec<_>>();
        assert_ne!(keys(&first), keys(&lab.path("flex-store")), "other bits, other keys");
        let again = run(&name, &format!("{name}-again"));
        tiny::assert_same(&results(&first), &results(&again));
    }
}

#[test]
fn replicas_share_the_work_and_change_no_result() {
    let lab = Lab::new();
    let run = |change: &str, store: &str| {
        lab.said(&["run", "tiny.toml", "--set", change, "--store", store]).fine();
        let mut found = results(&lab.path(store));
        // The report shows the recipe.
        found.retain(|name, _| !name.starts_with("report"));
        found
    };
    let one = run("replicas=1", "one");
    tiny::assert_same(&one, &run("replicas=3", "three"));
    tiny::assert_same(&one, &run("devices=['flex']", "listed"));
}

#[test]
fn devices_of_a_list_are_of_one_kind_and_differ() {
    let lab = Lab::new();
    for (changes, expected) in [
        (&["devices=['cuda:0', 'rocm:0']"][..], "expected `devices` of one kind"),
        (&["devices=['cuda:0', 'cuda:0']"], "`devices` names `cuda:0` twice"),
        (&["device='flex'", "devices=['cuda:0', 'cuda:1']"], "`device` and `devices` are both given"),
        (&["devices=['cuda:0', 'cuda:1']"], "--features cuda"),
        (&["devices=[]"], "`devices` is empty"),
        (&["devices=['auto', 'flex']"], "`devices` names `auto`"),
        (&["replicas=0"], "replicas"),
        (&["replicas=100000"], "expected at most 1024, found 100000"),
        (&["replicas='all'"], "`auto`, or a whole number of at least 1"),
    ] {
        let sets = changes.iter().flat_map(|change| ["--set", change]);
        let arguments: Vec<&str> = ["run", "tiny.toml"].into_iter().chain(sets).collect();
        let said = lab.said(&arguments);
        assert_ne!(said.code, Some(0), "{changes:?}");
        assert!(said.err.contains(expected) && !said.err.contains("panicked"), "{changes:?}: {}", said.err);
    }
}
