//! What a training stage has around its trainer: metrics that are kept, checkpoints at the right moments, and an end on
//! request.
//!
//! Metrics go to the listeners at once, into every checkpoint, and into the result. When a checkpoint is due is decided
//! here and nowhere else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::stop::Stop;
use crate::events::{Emitter, Event, Sink};
use crate::model::checkpoint::{Checkpoints, Config, Saved};
use crate::store::{self, Workspace};

/// The file of a result, and of a checkpoint, that holds the metrics so far.
const FILE: &str = "metrics.jsonl";

/// Training ended before its time because a stop was asked for; its checkpoint is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted after step {step}, which is saved")]
pub struct Interrupted {
    /// Steps done.
    pub step: usize,
}

/// A training stage's listener and its place for checkpoints in one, so that a run that was killed and continued leaves
/// the same metrics as one that was not.
pub struct Recorder<'a> {
    emitter: &'a Emitter<'a>,
    workspace: &'a Workspace,
    checkpoints: store::Checkpoints,
    config: Config,
    stop: &'a Stop,
    lines: Mutex<String>,
    /// When the last checkpoint was saved, or training began.
    saved: Mutex<Instant>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(emitter: &'a Emitter<'a>, workspace: &'a Workspace, config: Config, stop: &'a Stop) -> Self {
        let checkpoints = workspace.checkpoints().keeping(config.keep.get());
        let (lines, saved) = (Mutex::default(), Mutex::new(Instant::now()));
        Self { emitter, workspace, checkpoints, config, stop, lines, saved }
    }

    /// The stage's emitter, heard by this recorder.
    pub(super) fn emitter(&self) -> Emitter<'_> {
        self.emitter.through(self)
    }

    /// Tells the listeners of numbers from before training that are no part of the result.
    pub(super) fn tell(&self, values: impl IntoIterator<Item = (&'static str, f64)>) {
        self.emitter.metrics(0, values);
    }

    /// Writes the metrics into the result.
    pub(super) fn finish(&self, workspace: &Workspace) -> Result<()> {
        Ok(workspace.write_bytes(FILE, self.lines().as_bytes())?)
    }

    fn lines(&self) -> MutexGuard<'_, String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Instant> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Recorder<'_> {
    fn emit(&self, event: &Event) {
        if let Event::Metrics { step, values, .. } = event {
            self.workspace.mark(*step);
            let line = serde_json::json!({ "step": step, "values": values });
            let mut lines = self.lines();
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        self.emitter.forward(event);
    }
}

impl Checkpoints for Recorder<'_> {
    fn due(&self, step: usize) -> bool {
        let patience = Duration::try_from_secs_f64(60.0 * self.config.every_minutes.get()).unwrap_or(Duration::MAX);
        step.is_multiple_of(self.config.every_steps.get()) || self.saved().elapsed() >= patience || self.stop.is_asked()
    }

    /// [`Interrupted`] where a stop was asked for.
    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()> {
        let lines = self.lines().clone();
        let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        all.push((FILE, lines.as_bytes()));
        self.checkpoints.save(step, &all)?;
        *self.saved() = Instant::now();
        if self.stop.is_asked() { Err(Interrupted { step }.into()) } else { Ok(()) }
    }

    fn latest(&self) -> Result<Option<Saved>> {
        let latest = self.checkpoints.latest(|step| {
            self.emitter.warn(format!("the checkpoint after step {step} is damaged and passed over"));
        });
        let Some((step, mut files)) = latest? else { return Ok(None) };
        if let Some(lines) = files.remove(FILE) {
            *self.lines() = String::from_utf8(lines)?;
        }
        Ok(Some((step, files.into_iter().collect())))
    }
}
