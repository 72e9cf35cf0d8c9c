//! A run on a terminal: its stages as a tree with state and reason, the curves of what trains, and the time left.
//!
//! Drawn again a few times a second by a thread of its own; what is over becomes a line above. [`super::Plain`] is for pipes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::sentence::sentence;
use super::spark::sparkline;
use super::{Event, Sink};
use crate::units::duration;

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(250);
/// Stages at work that have lines of their own.
const SHOWN: usize = 4;
/// Metrics whose curves are worth a line, the first that a stage has, and what stands beside it.
const CURVES: [&str; 3] = ["reward", "loss", "win_rate"];
const BESIDE: [&str; 2] = ["kl_nats", "train_accuracy"];

/// A stage of the plan, as it is before the run.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its label.
    pub label: String,
    /// Its kind: stages of one kind share a branch.
    pub kind: &'static str,
    /// Why it runs; none where its result is there.
    pub reason: Option<String>,
}

/// Draws a run on stderr.
pub struct Live {
    screen: MultiProgress,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    stages: Vec<Stage>,
    begun: Instant,
    over: bool,
    lines: Vec<ProgressBar>,
}

#[derive(Debug)]
struct Stage {
    listed: Listed,
    phase: Phase,
    /// When it began, and how far it was when it was first heard of since.
    since: Option<(Instant, Option<(Instant, usize)>)>,
    progress: Option<(usize, usize, String)>,
    curves: BTreeMap<String, Vec<f64>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Cached,
    Queued,
    Running,
    /// Another process computes the same.
    Waiting,
    /// It took so many seconds.
    Done(f64),
    Failed,
    Stopped,
}

impl Live {
    /// A view of `stages`, in the plan's order.
    #[must_use]
    pub fn new(stages: Vec<Listed>) -> Self {
        let screen = MultiProgress::new();
        let shared = Arc::new(Mutex::new(State::new(stages, Instant::now())));
        let (weak, drawn) = (Arc::downgrade(&shared), screen.clone());
        thread::spawn(move || {
            while let Some(shared) = weak.upgrade() {
                {
                    let mut state = lock(&shared);
                    if state.over {
                        return;
                    }
                    state.draw(&drawn);
                }
                drop(shared);
                thread::sleep(TICK);
            }
        });
        Self { screen, shared }
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Live {
    fn drop(&mut self) {
        lock(&self.shared).end();
    }
}

impl Sink for Live {
    fn emit(&self, event: &Event) {
        let mut state = lock(&self.shared);
        state.take(event, Instant::now());
        let is_end = matches!(event, Event::RunFinished { .. } | Event::RunInterrupted);
        if is_end {
            state.end();
        }
        drop(state);
        // The tree says what begins.
        let told = !matches!(event, Event::StageStarted { resumed_from: None, .. } | Event::RunStarted { .. });
        if let Some(line) = sentence(event).filter(|_| told) {
            // A closed stderr is no reason to stop, and there is nowhere left to say so.
            let _ = self.screen.println(line);
        }
    }
}

impl State {
    fn new(stages: Vec<Listed>, now: Instant) -> Self {
        let stage = |listed: Listed| {
            let phase = if listed.reason.is_some() { Phase::Queued } else { Phase::Cached };
            Stage { listed, phase, since: None, progress: None, curves: BTreeMap::new() }
        };
        Self { stages: stages.into_iter().map(stage).collect(), begun: now, over: false, lines: Vec::new() }
    }

    fn take(&mut self, event: &Event, now: Instant) {
        let (Event::StageStarted { stage, .. }
        | Event::StageWaiting { stage, .. }
        | Event::Progress { stage, .. }
        | Event::Metrics { stage, .. }
        | Event::StageFinished { stage, .. }
        | Event::StageFailed { stage, .. }
        | Event::StageInterrupted { stage, .. }) = event
        else {
            return;
        };
        let Some(found) = self.stages.iter_mut().find(|known| known.listed.label == *stage) else { return };
        match event {
            Event::StageStarted { .. } => (found.phase, found.since) = (Phase::Running, Some((now, None))),
            Event::StageWaiting { .. } => found.phase = Phase::Waiting,
            Event::Progress { done, total, unit, .. } => {
                if let Some((_, first)) = &mut found.since {
                    first.get_or_insert((now, *done));
                }
                found.progress = Some((*done, *total, unit.clone()));
            }
            Event::Metrics { values, .. } => {
                for (name, value) in values {
                    found.curves.entry(name.clone()).or_default().push(*value);
                }
            }
            Event::StageFinished { wall_seconds, .. } => found.phase = Phase::Done(*wall_seconds),
            Event::StageFailed { .. } => found.phase = Phase::Failed,
            Event::StageInterrupted { .. } => found.phase = Phase::Stopped,
            _ => {}
        }
    }

    fn draw(&mut self, screen: &MultiProgress) {
        let lines = self.tree(Instant::now());
        while self.lines.len() < lines.len() {
            let bar = screen.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            self.lines.push(bar);
        }
        for gone in self.lines.split_off(lines.len()) {
            gone.finish_and_clear();
            screen.remove(&gone);
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(line);
            bar.tick();
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.lines.drain(..).for_each(|bar| bar.finish_and_clear());
    }

    /// The lines to draw.
    fn tree(&self, now: Instant) -> Vec<String> {
        let mut kinds: Vec<&str> = Vec::new();
        for stage in &self.stages {
            if !kinds.contains(&stage.listed.kind) {
                kinds.push(stage.listed.kind);
            }
        }
        let mut lines = vec![self.head(now)];
        for (i, kind) in kinds.iter().enumerate() {
            let (branch, trunk) = if i + 1 == kinds.len() { ("└─", "  ") } else { ("├─", "│ ") };
            let stages: Vec<&Stage> = self.stages.iter().filter(|stage| stage.listed.kind == *kind).collect();
            lines.push(format!("{branch} {}", summary(kind, &stages)));
            let working: Vec<&&Stage> =
                stages.iter().filter(|s| matches!(s.phase, Phase::Running | Phase::Waiting)).collect();
            for stage in working.iter().take(SHOWN) {
                lines.extend(stage.lines(now).into_iter().map(|line| format!("{trunk}  {line}")));
            }
            if working.len() > SHOWN {
                lines.push(format!("{trunk}  and {} more at work", working.len() - SHOWN));
            }
        }
        lines
    }

    fn head(&self, now: Instant) -> String {
        let count = |is: fn(&Phase) -> bool| self.stages.iter().filter(|stage| is(&stage.phase)).count();
        let done = count(|phase| matches!(phase, Phase::Cached | Phase::Done(_)));
        let (running, failed) = (count(|phase| *phase == Phase::Running), count(|phase| *phase == Phase::Failed));
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        let spent = duration(now.duration_since(self.begun).as_secs_f64());
        let left = match self.left(now) {
            Some((seconds, true)) => format!("about {} left", duration(seconds)),
            Some((seconds, false)) => format!("more than {} left", duration(seconds)),
            None => "time left not known yet".to_owned(),
        };
        format!("{done} of {} done, {running} at work{failed}; {spent} so far, {left}", self.stages.len())
    }

    /// Seconds left, and whether all that is to come has been seen before: stages at work by their own rate, others by the mean of
    /// their kind, side by side as now.
    fn left(&self, now: Instant) -> Option<(f64, bool)> {
        let (mut sum, mut all, mut longest) = (0.0, true, 0.0_f64);
        for stage in &self.stages {
            let seconds = match stage.phase {
                Phase::Running => stage.left(now).or_else(|| self.typical(stage.listed.kind)),
                Phase::Queued | Phase::Waiting => self.typical(stage.listed.kind),
                _ => continue,
            };
            all &= seconds.is_some();
            sum += seconds.unwrap_or(0.0);
            longest = longest.max(seconds.unwrap_or(0.0));
        }
        let side_by_side = self.stages.iter().filter(|stage| stage.phase == Phase::Running).count().max(1);
        (sum > 0.0).then(|| ((sum / side_by_side as f64).max(longest), all))
    }

    fn typical(&self, kind: &str) -> Option<f64> {
        let seconds =
            self.stages.iter().filter(|stage| stage.listed.kind == kind).filter_map(|stage| match stage.phase {
                Phase::Done(seconds) => Some(seconds),
                _ => None,
            });
        let known: Vec<f64> = seconds.collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

/// A kind of stage in one line: how many are done, each as a mark, and why the next one has not begun.
fn summary(kind: &str, stages: &[&Stage]) -> String {
    let mark = |phase: &Phase| match phase {
        Phase::Cached => '=',
        Phase::Done(_) => '✓',
        Phase::Running => '●',
        Phase::Waiting => '◌',
        Phase::Queued => '·',
        Phase::Failed => '✗',
        Phase::Stopped => '◼',
    };
    let done = stages.iter().filter(|stage| matches!(stage.phase, Phase::Cached | Phase::Done(_))).count();
    let marks: String = stages.iter().take(40).map(|stage| mark(&stage.phase)).collect();
    let more = if stages.len() > 40 { "…" } else { "" };
    let is_idle = stages.iter().all(|stage| matches!(stage.phase, Phase::Queued | Phase::Cached | Phase::Done(_)));
    let next = stages.iter().find(|stage| stage.phase == Phase::Queued).filter(|_| is_idle);
    let reason = next.and_then(|stage| stage.listed.reason.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!("  to run: {reason}"));
    format!("{kind:<12} {done:>3}/{:<3} {marks}{more}{reason}", stages.len())
}

impl Stage {
    /// Units a second since it began or was resumed, and the seconds that are left at that rate.
    fn rate(&self, now: Instant) -> Option<(f64, f64)> {
        let ((since, from), (done, total, _)) = (self.since?.1?, self.progress.as_ref()?);
        let (seconds, units) = (now.duration_since(since).as_secs_f64(), done.checked_sub(from)?);
        if units == 0 || seconds <= 0.0 {
            return None;
        }
        let rate = units as f64 / seconds;
        Some((rate, total.saturating_sub(*done) as f64 / rate))
    }

    fn left(&self, now: Instant) -> Option<f64> {
        self.rate(now).map(|(_, left)| left)
    }

    fn lines(&self, now: Instant) -> Vec<String> {
        let (mark, label) = (if self.phase == Phase::Running { '●' } else { '◌' }, &self.listed.label);
        let progress = match (&self.phase, &self.progress) {
            (Phase::Waiting, _) => "waits for another process that computes the same".to_owned(),
            (_, Some((done, total, unit))) => {
                let (rate, left) = self.rate(now).map_or_else(Default::default, |(rate, left)| {
                    (format!(" {rate:.1}/s"), format!(" {} left", duration(left)))
                });
                format!("{} {done}/{total} {unit}{rate}{left}", bar(*done, *total))
            }
            (_, None) => {
                let since = self.since.map_or(0.0, |(since, _)| now.duration_since(since).as_secs_f64());
                format!("{} so far", duration(since))
            }
        };
        let mut lines = vec![format!("{mark} {label}  {progress}")];
        let reason = self.listed.reason.as_deref().unwrap_or_default();
        let curve = |name: &&str| {
            let values = self.curves.get(*name)?;
            Some(format!("{name} {} {:.3}", sparkline(values, 24, None), values.last()?))
        };
        let mut below: Vec<String> = CURVES.iter().find_map(curve).into_iter().collect();
        below.extend(BESIDE.iter().find_map(curve));
        if !reason.is_empty() {
            below.push(reason.to_owned());
        }
        if !below.is_empty() {
            lines.push(format!("    {}", below.join("   ")));
        }
        lines
    }
}

fn bar(done: usize, total: usize) -> String {
    const WIDTH: usize = 16;
    let full = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
    format!("{}{}", "━".repeat(full), "─".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (State, Instant) {
        let listed = |label: &str, kind, reason: Option<&str>| Listed {
            label: label.to_owned(),
            kind,
            reason: reason.map(str::to_owned),
        };
        let now = Instant::now();
        let stages = vec![
            listed("data", "data", None),
            listed("sft/seed=0", "sft", Some("never run")),
            listed("ppo/a", "ppo", Some("`ppo.gae_lambda` changed: 0.95 -> 1.0")),
            listed("ppo/b", "ppo", Some("input `reward` runs")),
        ];
        (State::new(stages, now), now)
    }

    fn metrics(stage: &str, value: f64) -> Event {
        Event::Metrics { stage: stage.to_owned(), step: 1, values: BTreeMap::from([("reward".to_owned(), value)]) }
    }

    #[test]
    fn the_tree_has_state_reason_curve_and_time_left() {
        let (mut state, now) = state();
        let later = |seconds| now + Duration::from_secs(seconds);
        state.take(&Event::StageFinished { stage: "sft/seed=0".into(), wall_seconds: 30.0 }, later(30));
        state.take(&Event::StageStarted { stage: "ppo/a".into(), key: "0".into(), resumed_from: None }, later(30));
        for (seconds, done) in [(30, 0), (40, 20)] {
            let progress = Event::Progress { stage: "ppo/a".into(), done, total: 60, unit: "iterations".into() };
            state.take(&progress, later(seconds));
            state.take(&metrics("ppo/a", done as f64), later(seconds));
        }
        insta::assert_snapshot!(state.tree(later(40)).join("\n"), @r"
        2 of 4 done, 1 at work; 40.0 s so far, more than 20.0 s left
        ├─ data           1/1   =
        ├─ sft            1/1   ✓
        └─ ppo            0/2   ●·
            ● ppo/a  ━━━━━─────────── 20/60 iterations 2.0/s 20.0 s left
                reward ▁█ 20.000   `ppo.gae_lambda` changed: 0.95 -> 1.0
        ");
        state.take(&Event::StageFinished { stage: "ppo/a".into(), wall_seconds: 30.0 }, later(60));
        let lines = state.tree(later(60));
        assert!(lines[0].ends_with("about 30.0 s left"), "{}", lines[0]);
        assert!(lines[3].ends_with("✓·  to run: input `reward` runs"), "{}", lines[3]);
    }

    #[test]
    fn what_ends_clears_the_screen() {
        let live = Live::new(vec![Listed { label: "a".into(), kind: "sft", reason: Some("never run".into()) }]);
        live.emit(&Event::StageStarted { stage: "a".into(), key: "0".into(), resumed_from: None });
        live.emit(&Event::RunFinished { ran: 1, cached: 0, failed: 0, wall_seconds: 1.0 });
        assert!(lock(&live.shared).over && lock(&live.shared).lines.is_empty());
    }
}
