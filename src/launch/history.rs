//! What happened in a run so far, read back from the events of all processes that work on it.
//!
//! Files appear and grow while they are read, and a last line may be half written. A process that is gone is known by its
//! file's lock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::host;
use crate::events::{Event, Timed, is_attended};
use crate::store::Store;

/// A run's events, followed.
#[derive(Clone, Debug)]
pub struct History {
    store: Store,
    dir: PathBuf,
    sources: BTreeMap<PathBuf, Source>,
    /// What is known of each stage that began, by label.
    pub stages: BTreeMap<String, StageHistory>,
    /// Warnings in the order in which they came, each with its stage's label.
    pub warnings: Vec<(String, String)>,
    /// When the last event was, in seconds since 1970-01-01 UTC.
    pub last: Option<f64>,
}

/// One process's file.
#[derive(Clone, Debug, Default)]
struct Source {
    /// Bytes that were read, whole lines only.
    read: u64,
    /// Whether it speaks of a whole run that has no end yet; a launcher's task speaks of its stage alone.
    in_run: bool,
    /// Whether what it last spoke of has an end.
    ended: bool,
    /// When its last event was.
    last: f64,
}

/// What is known of one stage.
#[derive(Clone, Debug)]
pub struct StageHistory {
    /// How far it is.
    pub phase: Phase,
    /// Units done, units in all, what is counted.
    pub progress: Option<(usize, usize, String)>,
    /// Measured values in order of steps, by the metric's name.
    pub curves: BTreeMap<String, Vec<f64>>,
    source: PathBuf,
    /// Time and units of the first progress since it began: a resumed stage begins in the middle.
    pace: Option<(f64, usize)>,
    /// When it was last heard of, in seconds since 1970-01-01 UTC.
    pub last: f64,
}

/// How far a stage is, as its process last said.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// At work.
    Running,
    /// Told to stop, and saved.
    Interrupted,
    /// Another process computes the same.
    Waiting,
    /// Its result is in the store.
    Finished,
    /// It failed, with this error.
    Failed(String),
}

impl History {
    /// The history of the run `id` of `store`, from its beginning.
    #[must_use]
    pub fn of(id: &str, store: &Store) -> Self {
        let (dir, store) = (folder(store, id), store.clone());
        let (sources, stages, warnings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut history = Self { store, dir, sources, stages, warnings, last: None };
        history.read_on();
        history
    }

    /// Reads what was written since; the new events, in order of time.
    pub fn read_on(&mut self) -> Vec<Timed> {
        let mut news: Vec<(PathBuf, Timed)> = Vec::new();
        for path in files(&self.dir) {
            let source = self.sources.entry(path.clone()).or_default();
            news.extend(source.lines(&path).into_iter().map(|line| (path.clone(), line)));
        }
        news.sort_by(|a, b| a.1.time.total_cmp(&b.1.time));
        for (path, line) in &news {
            self.take(path, line);
        }
        news.into_iter().map(|(_, line)| line).collect()
    }

    /// Whether a process other than this one works on the run now.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        let own = self.dir.join(own_file());
        files(&self.dir).iter().any(|path| *path != own && self.lives(path))
    }

    /// Whether the process whose file `path` is still works: the file's lock tells on one machine, the beats of its claims
    /// tell of others.
    fn lives(&self, path: &Path) -> bool {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let elsewhere = name.rsplit_once('-').filter(|(name, _)| *name != host());
        is_attended(path) || elsewhere.is_some_and(|(host, pid)| self.store.is_beating(host, pid))
    }

    /// Whether any process ever began.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the process that was last at work ended without saying so.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        let last = self.sources.iter().max_by(|a, b| a.1.last.total_cmp(&b.1.last));
        last.is_some_and(|(path, source)| !source.ended && !self.lives(path))
    }

    /// Whether the process that last spoke of the stage `label` is still there.
    #[must_use]
    pub fn is_alive(&self, label: &str) -> bool {
        self.stages.get(label).is_some_and(|past| self.lives(&past.source))
    }

    fn take(&mut self, path: &Path, line: &Timed) {
        self.last = Some(self.last.map_or(line.time, |last| last.max(line.time)));
        if let Some(source) = self.sources.get_mut(path) {
            source.in_run = match line.event {
                Event::RunStarted { .. } => true,
                Event::RunFinished { .. } => false,
                _ => source.in_run,
            };
            let ends_stage = matches!(line.event, Event::StageFinished { .. } | Event::StageFailed { .. });
            source.ended = matches!(line.event, Event::RunFinished { .. }) || ends_stage && !source.in_run;
            source.last = line.time;
        }
        match &line.event {
            Event::RunStarted { .. } => {
                let mut stages = std::mem::take(&mut self.stages);
                stages.retain(|_, past| match past.phase {
                    // What failed is tried again, and so is what a process that is gone was at.
                    Phase::Failed(_) | Phase::Interrupted => false,
                    Phase::Running | Phase::Waiting => past.source != *path && self.lives(&past.source),
                    Phase::Finished => true,
                });
                self.stages = stages;
            }
            Event::StageInterrupted { stage, .. } => {
                if let Some(past) = self.stages.get_mut(stage) {
                    past.phase = Phase::Interrupted;
                }
            }
            Event::RunInterrupted | Event::RunFinished { .. } => {}
            Event::StageStarted { stage, .. } => self.begin(stage, Phase::Running, path, line.time),
            Event::StageWaiting { stage, .. } => self.begin(stage, Phase::Waiting, path, line.time),
            Event::StageFailed { stage, error } => self.begin(stage, Phase::Failed(error.clone()), path, line.time),
            Event::StageFinished { stage, .. } => match self.stages.get_mut(stage) {
                Some(past) => past.phase = Phase::Finished,
                None => self.begin(stage, Phase::Finished, path, line.time),
            },
            Event::Progress { stage, done, total, unit } => {
                if let Some(past) = self.stages.get_mut(stage) {
                    past.pace.get_or_insert((line.time, *done));
                    past.progress = Some((*done, *total, unit.clone()));
                    past.last = line.time;
                }
            }
            Event::Metrics { stage, values, .. } => {
                if let Some(past) = self.stages.get_mut(stage) {
                    past.last = line.time;
                    for (name, value) in values {
                        past.curves.entry(name.clone()).or_default().push(*value);
                    }
                }
            }
            Event::Warning { stage, message } => self.warnings.push((stage.clone(), message.clone())),
        }
    }

    fn begin(&mut self, stage: &str, phase: Phase, path: &Path, time: f64) {
        let past = StageHistory {
            phase,
            progress: None,
            curves: BTreeMap::new(),
            source: path.to_owned(),
            pace: None,
            last: time,
        };
        self.stages.insert(stage.to_owned(), past);
    }
}

impl StageHistory {
    /// Units a second since it began, and the seconds that it still takes at that rate.
    #[must_use]
    pub fn rate(&self) -> Option<(f64, f64)> {
        let ((since, from), (done, total, _)) = (self.pace?, self.progress.as_ref()?);
        let (seconds, units) = (self.last - since, done.checked_sub(from)?);
        if units == 0 || seconds <= 0.0 {
            return None;
        }
        let rate = units as f64 / seconds;
        Some((rate, total.saturating_sub(*done) as f64 / rate))
    }
}

impl Source {
    /// The whole lines since the last look; a line that is no event is passed over.
    fn lines(&mut self, path: &Path) -> Vec<Timed> {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        text[..whole].split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// The folder of the run's events.
pub(super) fn folder(store: &Store, id: &str) -> PathBuf {
    store.run_dir(id).join("events")
}

/// The name of this process's file: every process has its own, so that none waits for another, also on a shared file
/// system.
pub(super) fn own_file() -> String {
    format!("{}-{}.jsonl", host(), std::process::id())
}

/// The files of events in `dir`, in order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = listing.filter(|path| path.extension().is_some_and(|found| found == "jsonl")).collect();
    files.sort();
    files
}

/// Bytes of all files of events in `dir`: they only grow, so an equal number means that nothing happened.
pub(super) fn length(dir: &Path) -> u64 {
    files(dir).iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(time: f64, event: Event) -> String {
        serde_json::to_string(&Timed { time, event }).unwrap() + "\n"
    }

    fn progress(done: usize) -> Event {
        Event::Progress { stage: "sft".into(), done, total: 100, unit: "steps".into() }
    }

    #[test]
    fn half_lines_wait_and_new_files_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let events = folder(&store, "toy-1");
        let mut history = History::of("toy-1", &store);
        assert!(!history.has_begun());
        fs::create_dir_all(&events).unwrap();
        let mut first = File::create(events.join("a-1.jsonl")).unwrap();
        let begin = line(1.0, Event::StageStarted { stage: "sft".into(), key: "0".into(), resumed_from: Some(40) });
        let (half, rest) = begin.split_at(20);
        first.write_all(half.as_bytes()).unwrap();
        assert!(history.read_on().is_empty());
        first.write_all((rest.to_owned() + &line(2.0, progress(41)) + &line(4.0, progress(45))).as_bytes()).unwrap();
        assert_eq!(history.read_on().len(), 3);
        assert_eq!(history.stages["sft"].rate(), Some((2.0, 27.5)), "measured since it was resumed");
        let failed = Event::StageFailed { stage: "ppo".into(), error: "NaN".into() };
        fs::write(events.join("b-2.jsonl"), line(3.0, failed) + "no event\n").unwrap();
        assert_eq!(history.read_on().len(), 1);
        assert_eq!(history.stages["ppo"].phase, Phase::Failed("NaN".into()));
        assert_eq!(history.last, Some(4.0));
        assert!(history.was_interrupted() && !history.is_attended() && !history.is_alive("sft"));
    }
}
