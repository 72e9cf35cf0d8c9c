//! Answers on the disk: one file an endpoint and model, that only grows. A line is written and synced before its answer is used.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Answer;
use super::gate::Gate;
use super::request::Sealed;

/// One line of the file. The request is kept for people; what is looked up is its hash.
#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    url: &'a str,
    request: Value,
    answer: &'a Answer,
}

/// What of a line is read again.
#[derive(Deserialize)]
struct Kept {
    key: String,
    answer: Answer,
}

/// The answers of one endpoint and model, shared by all of this process that ask it.
pub(super) struct Answers {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    pub(super) gate: Gate,
}

struct State {
    file: File,
    /// How much of the file has been read.
    read: u64,
    known: BTreeMap<String, Slot>,
}

enum Slot {
    Here(Answer),
    /// Somebody is asking for it.
    Asked,
}

/// What is known of a request.
pub(super) enum Found {
    /// It was answered before.
    Here(Answer),
    /// Nobody has asked: the caller has to, and to say how it ended.
    Missing,
}

impl Answers {
    /// The answers in `folder` of `model` at `base_url`; the folder is made where it is missing.
    ///
    /// # Errors
    /// When the file cannot be made, read or written to.
    pub(super) fn open(folder: &Path, base_url: &str, model: &str) -> Result<Arc<Self>> {
        static OPEN: Mutex<BTreeMap<PathBuf, Weak<Answers>>> = Mutex::new(BTreeMap::new());
        let name = blake3::hash(format!("{}\n{model}", base_url.trim_end_matches('/')).as_bytes()).to_hex();
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot find `{}`", folder.display()))?;
        let path = folder.join(format!("{}.jsonl", &name[..16]));
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answers) = open.get(&path).and_then(Weak::upgrade) {
            answers.refresh()?;
            return Ok(answers);
        }
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open `{}`", path.display()))?;
        let state = Mutex::new(State { file, read: 0, known: BTreeMap::new() });
        let answers = Arc::new(Self { path: path.clone(), state, changed: Condvar::new(), gate: Gate::default() });
        answers.refresh()?;
        open.insert(path, Arc::downgrade(&answers));
        Ok(answers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what other processes have written since. A line that a kill tore is passed over.
    pub(super) fn refresh(&self) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut bytes = Vec::new();
        state.file.seek(SeekFrom::Start(state.read))?;
        state.file.read_to_end(&mut bytes).with_context(|| format!("cannot read `{}`", self.path.display()))?;
        // What follows the last line's end may still be on its way, or is all that a kill left.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        state.read += whole as u64;
        for line in bytes[..whole].split(|&byte| byte == b'\n') {
            if let Ok(Kept { key, answer }) = serde_json::from_slice(line) {
                state.known.insert(key, Slot::Here(answer));
            }
        }
        Ok(())
    }

    /// What is known of `key`; waits while somebody else of this process is asking for it.
    pub(super) fn find(&self, key: &str) -> Found {
        let mut state = self.state();
        loop {
            match state.known.get(key) {
                Some(Slot::Here(answer)) => return Found::Here(answer.clone()),
                Some(Slot::Asked) => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => {
                    state.known.insert(key.to_owned(), Slot::Asked);
                    return Found::Missing;
                }
            }
        }
    }

    /// Notes that nobody asks for `key` any more, and there is no answer.
    pub(super) fn give_up(&self, key: &str) {
        self.state().known.remove(key);
        self.changed.notify_all();
    }

    /// Writes down what was answered.
    ///
    /// # Errors
    /// When the line cannot be written; the answer is then not known either.
    pub(super) fn keep(&self, request: &Sealed, answer: &Answer) -> Result<()> {
        let written = self.write(request, answer).with_context(|| format!("cannot write to `{}`", self.path.display()));
        let mut state = self.state();
        match written {
            Ok(()) => state.known.insert(request.key.clone(), Slot::Here(answer.clone())),
            Err(_) => state.known.remove(&request.key),
        };
        drop(state);
        self.changed.notify_all();
        written
    }

    fn write(&self, request: &Sealed, answer: &Answer) -> Result<()> {
        let line = Line { key: &request.key, url: &request.url, request: serde_json::from_str(&request.body)?, answer };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut state = self.state();
        // After a torn line a new one has to begin.
        let length = state.file.seek(SeekFrom::End(0))?;
        if length > 0 {
            let mut last = [0];
            state.file.seek(SeekFrom::End(-1))?;
            state.file.read_exact(&mut last)?;
            if last != *b"\n" {
                bytes.insert(0, b'\n');
            }
        }
        state.file.write_all(&bytes)?;
        Ok(state.file.sync_data()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Config, Request};

    fn sealed(question: &str) -> Sealed {
        let config: Config = serde_json::from_str(r#"{"base_url": "http://a/v1", "model": "m"}"#).unwrap();
        Request::of("", question).sealed(&config)
    }

    fn known(answers: &Answers, request: &Sealed) -> Option<String> {
        match answers.find(&request.key) {
            Found::Here(answer) => Some(answer.text),
            Found::Missing => {
                answers.give_up(&request.key);
                None
            }
        }
    }

    #[test]
    fn a_torn_last_line_costs_that_line_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Answers::open(folder.path(), "http://a/v1", "m").unwrap();
        let (one, two, three) = (sealed("one"), sealed("two"), sealed("three"));
        let answer = |text: &str| Answer { text: text.to_owned(), ..Answer::default() };
        let answers = open();
        answers.keep(&one, &answer("1")).unwrap();
        answers.keep(&two, &answer("2")).unwrap();
        let path = answers.path.clone();
        drop(answers);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let answers = open();
        assert_eq!([known(&answers, &one), known(&answers, &two)], [Some("1".to_owned()), None]);
        answers.keep(&three, &answer("3")).unwrap();
        drop(answers);
        let answers = open();
        assert_eq!([known(&answers, &one), known(&answers, &three)], [Some("1".to_owned()), Some("3".to_owned())]);
    }

    #[test]
    fn what_another_process_wrote_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Answers::open(folder.path(), "http://a/v1", "m").unwrap();
        let request = sealed("one");
        assert_eq!(known(&ours, &request), None);
        let line = format!(r#"{{"key":"{}","answer":{{"text":"theirs"}}}}"#, request.key);
        fs::write(&ours.path, format!("{line}\n")).unwrap();
        ours.refresh().unwrap();
        assert_eq!(known(&ours, &request), Some("theirs".to_owned()));
    }
}
