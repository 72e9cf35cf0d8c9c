//! Keeps a training run's metrics: they go to the listeners at once, into every checkpoint, and into the result.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::events::{Emitter, Event, Sink};
use crate::model::checkpoint::{Checkpoints, Saved};
use crate::store::{self, Workspace};

/// The file of a result, and of a checkpoint, that holds the metrics so far.
const FILE: &str = "metrics.jsonl";

/// A training stage's listener and its place for checkpoints in one, so that a run that was killed and continued leaves
/// the same metrics as one that was not.
pub struct Recorder<'a> {
    emitter: &'a Emitter<'a>,
    checkpoints: store::Checkpoints,
    lines: Mutex<String>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(emitter: &'a Emitter<'a>, workspace: &Workspace) -> Self {
        Self { emitter, checkpoints: workspace.checkpoints(), lines: Mutex::new(String::new()) }
    }

    /// Writes the metrics into the result.
    pub(super) fn finish(self, workspace: &Workspace) -> Result<()> {
        let lines = self.lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(workspace.write_bytes(FILE, lines.as_bytes())?)
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Recorder<'_> {
    fn emit(&self, event: &Event) {
        if let Event::Metrics { step, values, .. } = event {
            let line = serde_json::json!({ "step": step, "values": values });
            let mut lines = self.lines();
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        self.emitter.forward(event);
    }
}

impl Checkpoints for Recorder<'_> {
    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()> {
        let lines = self.lines().clone();
        let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        all.push((FILE, lines.as_bytes()));
        Ok(self.checkpoints.save(step, &all)?)
    }

    fn latest(&self) -> Result<Option<Saved>> {
        let Some((step, mut files)) = self.checkpoints.latest()? else {
            return Ok(None);
        };
        if let Some(lines) = files.remove(FILE) {
            *self.lines() = String::from_utf8(lines)?;
        }
        Ok(Some((step, files.into_iter().collect())))
    }
}
