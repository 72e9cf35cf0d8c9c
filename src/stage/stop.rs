//! Whether a run was asked to stop, and whether everything that saves has saved.
//!
//! The one word between whoever hears a signal and the stages: the first asks, trainers' checkpoints answer. Nothing
//! here is global; a process has one because its command makes one.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A wish to stop: shared by who utters it and who follows it.
#[derive(Default)]
pub struct Stop {
    state: Mutex<State>,
    saved: Option<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Debug, Default)]
struct State {
    asked: bool,
    holds: usize,
}

/// As long as it lives, its stage still has something to save.
#[derive(Debug)]
pub(super) struct Hold<'a>(&'a Stop);

impl Stop {
    /// Calls `saved` as soon as a stop was asked for and no stage has anything left to save.
    #[must_use]
    pub fn new(saved: impl Fn() + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), saved: Some(Box::new(saved)) }
    }

    /// Asks for it: no stage starts any more, and training stages save at their next step.
    pub fn ask(&self) {
        let mut state = self.state();
        state.asked = true;
        let all_saved = state.holds == 0;
        drop(state);
        if all_saved {
            self.tell();
        }
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.state().asked
    }

    /// Puts the end off until the hold is dropped.
    pub(super) fn hold(&self) -> Hold<'_> {
        self.state().holds += 1;
        Hold(self)
    }

    fn tell(&self) {
        if let Some(saved) = &self.saved {
            saved();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.holds -= 1;
        let all_saved = state.asked && state.holds == 0;
        drop(state);
        if all_saved {
            self.0.tell();
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counted() -> (Arc<AtomicUsize>, Stop) {
        let count = Arc::new(AtomicUsize::new(0));
        let stop = Stop::new({
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        (count, stop)
    }

    #[test]
    fn the_end_comes_with_the_last_hold() {
        let (count, stop) = counted();
        let (first, second) = (stop.hold(), stop.hold());
        drop(first);
        assert!(!stop.is_asked());
        let third = stop.hold();
        stop.ask();
        drop(second);
        assert_eq!((stop.is_asked(), count.load(Ordering::SeqCst)), (true, 0));
        drop(third);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn with_nothing_to_save_the_end_comes_at_once() {
        let (count, stop) = counted();
        stop.ask();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
