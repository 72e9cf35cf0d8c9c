//! Events as plain lines: for logs, pipes and continuous integration.
//!
//! Progress of a stage is written every few seconds at most; [`super::Live`] is the sink for terminals.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sentence::sentence;
use super::{Event, Sink};
use crate::units::duration;

/// Time between two lines on the progress of one stage.
const INTERVAL: Duration = Duration::from_secs(5);

/// Writes a line for most events.
pub struct Plain {
    interval: Duration,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    stages: BTreeMap<String, Pace>,
}

/// How fast a stage goes, measured from its first progress: a resumed stage begins in the middle.
struct Pace {
    since: Instant,
    from: usize,
    said: Instant,
}

impl Default for Plain {
    fn default() -> Self {
        Self::new(Box::new(io::stderr()), INTERVAL)
    }
}

impl Plain {
    /// Lines to `out`, at least `interval` between two on the progress of the same stage.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, interval: Duration) -> Self {
        Self { interval, state: Mutex::new(State { out, stages: BTreeMap::new() }) }
    }
}

impl Sink for Plain {
    fn emit(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            Event::Progress { stage, done, total, unit } => state.progress(self.interval, stage, *done, *total, unit),
            other => sentence(other),
        };
        if let Event::StageFinished { stage, .. } | Event::StageFailed { stage, .. } = event {
            state.stages.remove(stage);
        }
        if let Some(line) = line {
            // A closed stderr is no reason to stop, and there is nowhere left to say so.
            let _ = writeln!(state.out, "{line}");
        }
    }
}

impl State {
    fn progress(&mut self, interval: Duration, stage: &str, done: usize, total: usize, unit: &str) -> Option<String> {
        let now = Instant::now();
        let Some(pace) = self.stages.get_mut(stage) else {
            self.stages.insert(stage.to_owned(), Pace { since: now, from: done, said: now });
            return None;
        };
        if now.duration_since(pace.said) < interval {
            return None;
        }
        pace.said = now;
        let seconds = now.duration_since(pace.since).as_secs_f64().max(1e-9);
        let rate = done.saturating_sub(pace.from) as f64 / seconds;
        let left = if rate > 0.0 {
            format!(", {rate:.1} {unit}/s, {} left", duration(total.saturating_sub(done) as f64 / rate))
        } else {
            String::new()
        };
        Some(format!("  {stage}: {done}/{total} {unit}{left}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(interval: Duration, events: &[Event]) -> Vec<String> {
        let out = Shared::default();
        let sink = Plain::new(Box::new(out.clone()), interval);
        for event in events {
            sink.emit(event);
        }
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn progress(done: usize) -> Event {
        Event::Progress { stage: "sft".into(), done, total: 100, unit: "steps".into() }
    }

    #[test]
    fn progress_is_rare_and_the_rest_is_not() {
        let stage = || "sft".to_owned();
        let mut events = vec![Event::StageStarted { stage: stage(), key: "0".into(), resumed_from: Some(40) }];
        events.extend((41..=100).map(progress));
        events.push(Event::StageFinished { stage: stage(), wall_seconds: 2.0 });
        assert_eq!(lines(Duration::from_hours(1), &events), ["  sft: resumes at step 40", "✓ sft (2.0 s)"]);
    }

    #[test]
    fn progress_names_what_is_done_and_its_rate() {
        let said = lines(Duration::ZERO, &[progress(40), progress(41)]);
        assert_eq!(said.len(), 1, "the first sight of a stage has no rate yet");
        assert!(said[0].starts_with("  sft: 41/100 steps, ") && said[0].ends_with(" left"), "{}", said[0]);
    }
}
