//! Events kept, for whoever wants to look at them afterwards.
//!
//! Grows without bound: for tests and for short computations.

use std::sync::{Mutex, PoisonError};

use super::{Event, Sink};

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Memory {
    events: Mutex<Vec<Event>>,
}

impl Memory {
    /// What happened so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Memory {
    fn emit(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
