//! Checkpoints kept in memory, and what a run of a trainer left behind.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use runner::events::{Event, Memory};
use runner::model::checkpoint::Checkpoints;

pub type Files = Vec<(String, Vec<u8>)>;

/// Keeps every checkpoint; hands out the one of step `from`.
#[derive(Default)]
pub struct Shelf {
    pub from: Option<(usize, Files)>,
    every: usize,
    saved: Mutex<BTreeMap<usize, Files>>,
}

impl Shelf {
    /// An empty shelf that takes every `every`th step.
    pub fn every(every: usize) -> Self {
        Self { every, ..Self::default() }
    }

    /// A shelf that hands out what was saved at each step of `self`.
    pub fn each(self) -> Vec<Self> {
        let saved = self.saved.into_inner().unwrap();
        saved.into_iter().map(|state| Self { from: Some(state), ..Self::every(self.every) }).collect()
    }

    pub fn steps(&self) -> Vec<usize> {
        self.saved.lock().unwrap().keys().copied().collect()
    }
}

impl Checkpoints for Shelf {
    fn due(&self, step: usize) -> bool {
        step.is_multiple_of(self.every)
    }

    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()> {
        self.saved.lock().unwrap().insert(step, files.to_vec());
        Ok(())
    }

    fn latest(&self) -> Result<Option<(usize, Files)>> {
        Ok(self.from.clone())
    }
}

/// A metric's values in order of step.
pub fn metric(memory: &Memory, name: &str) -> Vec<f64> {
    let events = memory.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::Metrics { values, .. } => Some(values[name]),
            _ => None,
        })
        .collect()
}

/// Asserts that an error names a step, and returns it.
pub fn named_step<T>(result: Result<T>, word: &str) -> usize {
    let error = result.err().expect("a loss that is no number stops the run").to_string();
    let (before, after) = error.split_once(&format!("at {word} ")).expect("the error names the step");
    assert!(before.contains("NaN") || before.contains("inf"), "{error}");
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
