//! The closed list of what happens in a run, and who listens.
//!
//! Trainers emit events; everything a person sees (the view of a run, `events.jsonl`, curves, the report) is read back from
//! them. Nothing here computes.

mod fan;
mod json_lines;
mod live;
mod memory;
mod mlflow;
mod plain;
mod sentence;
mod spark;
mod tensorboard;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use fan::Fan;
pub use json_lines::{JsonLines, Timed, is_attended};
pub use live::{Listed, Live};
pub use memory::Memory;
pub use mlflow::Mlflow;
pub use plain::Plain;
pub use spark::sparkline;
pub use tensorboard::TensorBoard;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run began.
    RunStarted {
        /// The recipe's name.
        recipe: String,
        /// Stages in the plan.
        stages: usize,
        /// Of those, stages whose result is already in the store.
        cached: usize,
    },
    /// A stage began.
    StageStarted {
        /// The stage's label, unique in the plan.
        stage: String,
        /// Its key.
        key: String,
        /// The training step it continues from, when a checkpoint was found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed_from: Option<usize>,
    },
    /// Another process is computing the same result; the stage waits for it.
    StageWaiting {
        /// The stage's label.
        stage: String,
        /// The key that both want.
        key: String,
        /// The process that has it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// A unit of a stage's work is done.
    Progress {
        /// The stage's label.
        stage: String,
        /// Units done.
        done: usize,
        /// Units in all.
        total: usize,
        /// What is counted: `steps`, `responses`, ...
        unit: String,
    },
    /// Numbers measured at a training step. Names are defined in `docs/METRICS.md`.
    Metrics {
        /// The stage's label.
        stage: String,
        /// The step, counted from 1; 0 is before training.
        step: usize,
        /// Name to value.
        values: BTreeMap<String, f64>,
    },
    /// Something a person should look at; stops nothing.
    Warning {
        /// The stage's label; empty for the run as a whole.
        stage: String,
        /// A sentence.
        message: String,
    },
    /// A stage's result is in the store.
    StageFinished {
        /// The stage's label.
        stage: String,
        /// Wall time.
        wall_seconds: f64,
    },
    /// A stage failed; nothing that depends on it will run.
    StageFailed {
        /// The stage's label.
        stage: String,
        /// Why.
        error: String,
    },
    /// A stop was asked for: the stage saved a checkpoint and ended.
    StageInterrupted {
        /// The stage's label.
        stage: String,
        /// Steps done.
        step: usize,
        /// The checkpoint's folder.
        folder: String,
    },
    /// A stop was asked for, and everything that saves has saved; nothing follows.
    RunInterrupted,
    /// The run is over.
    RunFinished {
        /// Stages that ran.
        ran: usize,
        /// Stages that were cached.
        cached: usize,
        /// Stages that failed.
        failed: usize,
        /// Wall time.
        wall_seconds: f64,
    },
}

/// Something that listens to events.
pub trait Sink: Send + Sync {
    /// Takes notice of `event`. Must not fail the run: a sink that cannot write says so once and goes quiet.
    fn emit(&self, event: &Event);
}

impl<S: Sink + ?Sized> Sink for Arc<S> {
    fn emit(&self, event: &Event) {
        (**self).emit(event);
    }
}

/// One stage's view of the run: knows the stage's label, so that trainers need not.
pub struct Emitter<'a> {
    stage: &'a str,
    sink: &'a dyn Sink,
}

impl<'a> Emitter<'a> {
    /// An emitter for the stage labelled `stage`.
    #[must_use]
    pub const fn new(stage: &'a str, sink: &'a dyn Sink) -> Self {
        Self { stage, sink }
    }

    /// The same stage, heard by `sink` instead.
    #[must_use]
    pub const fn through<'b>(&'b self, sink: &'b dyn Sink) -> Emitter<'b> {
        Emitter { stage: self.stage, sink }
    }

    /// Passes on an event as it is.
    pub fn forward(&self, event: &Event) {
        self.sink.emit(event);
    }

    /// Reports `done` of `total` units.
    pub fn progress(&self, done: usize, total: usize, unit: &str) {
        self.sink.emit(&Event::Progress { stage: self.stage.to_owned(), done, total, unit: unit.to_owned() });
    }

    /// Reports numbers measured at `step`.
    pub fn metrics(&self, step: usize, values: impl IntoIterator<Item = (&'static str, f64)>) {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.sink.emit(&Event::Metrics { stage: self.stage.to_owned(), step, values });
    }

    /// Reports something a person should look at.
    pub fn warn(&self, message: impl Into<String>) {
        self.sink.emit(&Event::Warning { stage: self.stage.to_owned(), message: message.into() });
    }
}
