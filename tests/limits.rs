//! Limits of a local run, with toy stages: what runs at the same time, and what a failure stops.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use runner::events::Memory;
use runner::stage::execute::{Summary, execute};
use runner::stage::limits::{Limits, Load};
use runner::stage::node::{Plan, Stage};
use runner::stage::stop::Stop;
use runner::store::Store;
use serde_json::json;

/// One stage that all others read, then `width` that read nothing else.
fn fan(width: usize) -> Plan {
    let mut plan = Plan::new("fan");
    let data = plan.push(Stage::Data, 1, "data", json!({}), &[]);
    for i in 0..width {
        plan.push(Stage::Ppo, 1, format!("ppo {i}"), json!({ "i": i }), &[("data", data)]);
    }
    plan
}

/// Runs `plan` under `limits`; returns what ran together at the worst moment, by number of stages and by load.
fn worst(plan: &Plan, limits: &Limits) -> (Summary, usize, Load) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (now, worst) = (Mutex::new(Vec::new()), Mutex::new((0, Load::default())));
    let index = |label: &str| plan.nodes.iter().position(|node| node.label == label).unwrap();
    let summary = execute(plan, &store, &Memory::default(), limits.clone(), &Stop::default(), &|node, _, _, _| {
        let here = {
            let mut now = now.lock().unwrap();
            now.push(index(&node.label));
            (now.len(), now.iter().fold(Load::default(), |sum, &index| sum + limits.load(index)))
        };
        {
            let mut worst = worst.lock().unwrap();
            worst.0 = worst.0.max(here.0);
            let each = |pick: fn(Load) -> u64| pick(worst.1).max(pick(here.1));
            worst.1 = Load { cores: each(|l| l.cores), memory: each(|l| l.memory), devices: each(|l| l.devices) };
        }
        thread::sleep(Duration::from_millis(15));
        now.lock().unwrap().retain(|&other| other != index(&node.label));
        anyhow::ensure!(node.label != "ppo 0", "as planned");
        Ok(())
    });
    let (most, load) = worst.into_inner().unwrap();
    (summary.unwrap(), most, load)
}

#[test]
fn the_sums_of_what_stages_take_stay_within_the_limits() {
    let plan = fan(12);
    let take = |i: usize| Load { cores: 1 + i as u64 % 3, memory: 100 * (i as u64 % 4), devices: i as u64 % 2 };
    let capacities = [
        Load { cores: 4, ..Load::UNLIMITED },
        Load { memory: 350, ..Load::UNLIMITED },
        Load { devices: 1, ..Load::UNLIMITED },
        Load { cores: 3, memory: 300, devices: 1 },
    ];
    for capacity in capacities {
        let loads = (0..plan.nodes.len()).map(take).collect();
        let (summary, most, load) = worst(&plan, &Limits { jobs: 8, loads, capacity, fail_fast: false });
        assert!(load.fits(capacity), "{load:?} beyond {capacity:?}");
        assert!(most > 1, "something runs beside something else");
        assert_eq!((summary.ran, summary.failed.len()), (12, 1));
    }
}

#[test]
fn stages_at_once_are_limited_too_and_a_bare_number_is_that_limit() {
    let (_, most, _) = worst(&fan(8), &Limits::from(3));
    assert!((2..=3).contains(&most), "{most}");
}

#[test]
fn fail_fast_starts_nothing_after_a_failure() {
    let plan = fan(8);
    let limits = Limits { fail_fast: true, ..Limits::from(1) };
    let (summary, ..) = worst(&plan, &limits);
    assert_eq!((summary.ran, summary.failed.len(), summary.skipped.len()), (1, 1, 7));
    let (summary, ..) = worst(&plan, &Limits::from(1));
    assert_eq!((summary.ran, summary.failed.len(), summary.skipped.len()), (8, 1, 0));
}
