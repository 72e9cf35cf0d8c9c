//! Events as lines of a file, for programs and for later.
//!
//! Appends: a run that continues another one continues its file. Every line is written as it happens, so that a kill
//! loses none.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Event, Sink};

/// A line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When, in seconds since 1970-01-01 UTC.
    pub time: f64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Appends events to a file.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    // None after a failed write: the run goes on without its log.
    file: Mutex<Option<File>>,
}

impl JsonLines {
    /// Opens the file at `path` to append to it; its folder is created.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(Some(file)) })
    }

    /// As [`JsonLines::open`], and locks the file as long as it is open: whoever reads it then knows that its writer lives.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn attended(path: &Path) -> io::Result<Self> {
        let lines = Self::open(path)?;
        if let Some(file) = lines.file.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Waits for a reader that looks right now. A file system without locks costs the knowledge, not the run.
            let _ = file.lock();
        }
        Ok(lines)
    }
}

/// Whether the writer that opened the file at `path` with [`JsonLines::attended`] is still at work.
#[must_use]
pub fn is_attended(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl Sink for JsonLines {
    fn emit(&self, event: &Event) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return };
        let written =
            serde_json::to_vec(&Timed { time, event: event.clone() }).map_err(io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                open.write_all(&line)
            });
        if let Err(error) = written {
            tracing::warn!("cannot write to `{}`, its events end here: {error}", self.path.display());
            *file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn lines_read_back_and_a_second_run_appends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reports/toy/events.jsonl");
        let stage = || "ppo".to_owned();
        let events = [
            Event::StageStarted { stage: stage(), key: "0".into(), resumed_from: None },
            Event::Metrics { stage: stage(), step: 3, values: BTreeMap::from([("kl_nats".to_owned(), 0.25)]) },
            Event::StageFinished { stage: stage(), wall_seconds: 1.5 },
        ];
        for event in &events {
            JsonLines::open(&path).unwrap().emit(event);
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Timed> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.windows(2).all(|pair| pair[0].time <= pair[1].time));
        assert!(lines[0].time > 1.7e9, "seconds since the epoch");
        assert_eq!(lines.into_iter().map(|line| line.event).collect::<Vec<_>>(), events);
    }

    #[test]
    fn a_file_is_attended_as_long_as_its_writer_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events/here-1.jsonl");
        assert!(!is_attended(&path));
        let writer = JsonLines::attended(&path).unwrap();
        assert!(is_attended(&path));
        drop(writer);
        assert!(!is_attended(&path));
    }
}
