//! Events as progress bars, for terminals.
//!
//! One bar for each running stage, with rate and time left; what is over becomes a line above them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::sentence::{duration, sentence};
use super::{Event, Sink};

const TEMPLATE: &str = "  {prefix:32!} {bar:24.cyan/238} {pos:>6}/{len} {msg} {rate} {left}";
const WAITING: &str = "  {prefix:32!} {spinner} {msg} {elapsed}";

/// Draws progress bars on stderr.
#[derive(Debug, Default)]
pub struct Bars {
    screen: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn begin(&self, stage: &str, message: &str) {
        let bar = self.screen.add(ProgressBar::new_spinner());
        bar.set_style(style(WAITING));
        bar.set_prefix(stage.to_owned());
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        let old = self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.to_owned(), bar);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }

    fn progress(&self, stage: &str, done: usize, total: usize, unit: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bar) = running.get(stage) else { return };
        if bar.length() != Some(total as u64) || bar.message() != unit {
            bar.set_length(total as u64);
            bar.set_message(unit.to_owned());
            bar.set_style(style(TEMPLATE));
            // A resumed stage begins in the middle; its rate is that of the steps done since.
            bar.set_position(done as u64);
            bar.reset_eta();
        }
        bar.set_position(done as u64);
    }

    fn end_all(&self) {
        for bar in std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner)).into_values() {
            bar.finish_and_clear();
        }
    }

    fn end(&self, stage: &str) {
        if let Some(bar) = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(stage) {
            bar.finish_and_clear();
        }
    }
}

impl Sink for Bars {
    fn emit(&self, event: &Event) {
        match event {
            Event::StageStarted { stage, resumed_from, .. } => {
                let message = resumed_from.map_or_else(String::new, |step| format!("resumes at step {step}"));
                self.begin(stage, &message);
                return;
            }
            Event::StageWaiting { stage, owner, .. } => {
                self.begin(stage, &format!("waits for {}", owner.as_deref().unwrap_or("another process")));
                return;
            }
            Event::Progress { stage, done, total, unit } => self.progress(stage, *done, *total, unit),
            Event::StageFinished { stage, .. }
            | Event::StageFailed { stage, .. }
            | Event::StageInterrupted { stage, .. } => self.end(stage),
            Event::RunInterrupted => self.end_all(),
            _ => {}
        }
        if let Some(line) = sentence(event) {
            // A closed stderr is no reason to stop, and there is nowhere left to say so.
            let _ = self.screen.println(line);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("━╸─")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.1}/s", state.per_sec());
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{} left", duration(state.eta().as_secs_f64()));
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        assert!(ProgressStyle::with_template(WAITING).is_ok());
    }

    #[test]
    fn a_bar_lives_as_long_as_its_stage() {
        let bars = Bars {
            screen: MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()),
            ..Bars::default()
        };
        let stage = || "ppo".to_owned();
        bars.emit(&Event::StageStarted { stage: stage(), key: "0".into(), resumed_from: None });
        bars.emit(&Event::Progress { stage: stage(), done: 20, total: 60, unit: "steps".into() });
        let (position, length) = {
            let running = bars.running.lock().unwrap();
            (running["ppo"].position(), running["ppo"].length())
        };
        assert_eq!((position, length), (20, Some(60)));
        bars.emit(&Event::StageFailed { stage: stage(), error: "loss is NaN".into() });
        assert!(bars.running.lock().unwrap().is_empty());
    }
}
