//! How many requests are under way at once, and when nobody may send: shared by all that ask one endpoint.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// An endpoint that asked one of us to wait means all.
    closed_until: Option<Instant>,
}

/// A place among those under way, given back when dropped.
pub(super) struct Place<'a>(&'a Gate);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer than `most` are under way and nobody has to wait.
    pub(super) fn enter(&self, most: usize) -> Place<'_> {
        let mut state = self.state();
        loop {
            let closed = state.closed_until.and_then(|until| until.checked_duration_since(Instant::now()));
            let wait = match closed {
                Some(left) if !left.is_zero() => left,
                _ if state.under_way < most => {
                    state.under_way += 1;
                    return Place(self);
                }
                _ => Duration::from_mins(1),
            };
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets nobody in for so long.
    pub(super) fn close(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        state.closed_until = state.closed_until.max(Some(until));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_all();
    }
}
