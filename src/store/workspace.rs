//! Where a running stage writes.
//!
//! A workspace holds its key's claim as long as it lives. Finishing it seals the files with a manifest and renames the
//! folder into place; dropping it leaves the folder, so that a later run finds the checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::claim::Held;
use super::durable::{sync, sync_dir, write};
use super::error::at;
use super::{Artefact, Checkpoints, Error, FileRecord, Key, MANIFEST, Manifest, Provenance, Verified, entries, remove};
use crate::compute::MemoryWatch;

/// Moments of training that a manifest remembers at most.
const MARKS: usize = 128;

/// The folder of checkpoints in a workspace; no part of the result.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// What a result is: everything in its manifest that is known before it is computed.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The kind of stage.
    pub stage: String,
    /// The stage's code version.
    pub version: u32,
    /// The result's name.
    pub key: Key,
    /// The config that the stage runs with.
    pub config: Value,
    /// What it is made from: (role, key).
    pub inputs: Vec<(String, Key)>,
}

/// The working folder of a running stage.
#[derive(Debug)]
pub struct Workspace {
    identity: Identity,
    device: String,
    dir: PathBuf,
    target: PathBuf,
    started: Instant,
    memory: MemoryWatch,
    marks: Mutex<Vec<(usize, f64)>>,
    verified: Verified,
    claim: Held,
    // Held, never read: the lock goes when the file is closed, after the claim.
    _lock: Option<File>,
}

impl Workspace {
    /// The claim's folder, empty but for a checkpoint, to become `target`.
    pub(super) fn begin(
        identity: Identity,
        device: String,
        target: PathBuf,
        (claim, lock): (Held, Option<File>),
        verified: Verified,
    ) -> Result<Self, Error> {
        let dir = claim.folder();
        // What an interrupted run left beside its checkpoint may be half a file; the stage writes it again.
        for name in entries(&dir)?.iter().filter(|name| *name != CHECKPOINT) {
            remove(&dir.join(name))?;
        }
        Ok(Self {
            identity,
            device,
            dir,
            target,
            started: Instant::now(),
            memory: MemoryWatch::start(),
            marks: Mutex::default(),
            verified,
            claim,
            _lock: lock,
        })
    }

    /// Refuses when another process has taken the key over: what went wrong since is a consequence of that.
    ///
    /// # Errors
    /// [`Error::ClaimLost`].
    pub fn check_claim(&self) -> Result<(), Error> {
        let Identity { stage, key, .. } = &self.identity;
        self.claim.check().map_err(|owner| Error::ClaimLost { stage: stage.clone(), key: key.clone(), owner })
    }

    /// Remembers that `step` steps of training are done by now.
    pub fn mark(&self, step: usize) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push((step, self.started.elapsed().as_secs_f64()));
    }

    /// The folder that becomes the result.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store's folder for answers of endpoints, which all stages share: what is in it is no result.
    ///
    /// # Panics
    /// Never: a result lies three folders below the store.
    #[must_use]
    pub fn answers(&self) -> PathBuf {
        self.target.ancestors().nth(3).expect("`results/<stage>/<key>`").join("answers")
    }

    /// The folder for checkpoints, removed when the stage is done.
    #[must_use]
    pub fn checkpoint_dir(&self) -> PathBuf {
        self.dir.join(CHECKPOINT)
    }

    /// The checkpoints in [`Workspace::checkpoint_dir`].
    #[must_use]
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.checkpoint_dir())
    }

    /// The path at which to write the file `name` (relative, folders are created).
    ///
    /// # Errors
    /// When `name` leaves the folder or is the store's own.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let components: Vec<_> = Path::new(name).components().collect();
        let plain = components.iter().all(|component| matches!(component, Component::Normal(_)));
        let first = components.first().map(|component| component.as_os_str());
        if !plain || first.is_none_or(|first| first == MANIFEST || first == CHECKPOINT) {
            return Err(Error::FileName { file: name.to_owned(), stage: self.identity.stage.clone() });
        }
        // Only below the folder: were it gone, another process would have taken it.
        let mut path = self.dir.clone();
        for component in components {
            if path != self.dir && !path.is_dir() {
                fs::create_dir(&path).map_err(at("create", &path))?;
            }
            path.push(component);
        }
        Ok(path)
    }

    /// Writes `bytes` as the file `name`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name)?;
        fs::write(&path, bytes).map_err(at("write", &path))
    }

    /// Writes `value` as the JSON file `name`, indented.
    ///
    /// # Errors
    /// When `value` is no JSON or the file cannot be written.
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec_pretty(value).map_err(|reason| self.unwritable(name, reason))?;
        bytes.push(b'\n');
        self.write_bytes(name, &bytes)
    }

    /// Writes `rows` as the JSON Lines file `name`.
    ///
    /// # Errors
    /// When a row is no JSON or the file cannot be written.
    pub fn write_jsonl<T: Serialize>(&self, name: &str, rows: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut bytes, &row).map_err(|reason| self.unwritable(name, reason))?;
            bytes.push(b'\n');
        }
        self.write_bytes(name, &bytes)
    }

    /// Seals the folder and makes it the result; both survive a loss of power.
    ///
    /// # Errors
    /// When the files cannot be read back or the folder cannot be renamed, and [`Error::ClaimLost`] when that is no longer
    /// this process's to do.
    pub fn finish(self) -> Result<Artefact, Error> {
        match self.publish() {
            Ok(manifest) => {
                let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
                verified.extend(manifest.files.keys().map(|name| self.target.join(name)));
                drop(verified);
                Ok(Artefact::new(self.target, Box::new(manifest), self.verified))
            }
            Err(error) => self.check_claim().and(Err(error)),
        }
    }

    fn publish(&self) -> Result<Manifest, Error> {
        self.check_claim()?;
        remove(&self.checkpoint_dir())?;
        let files = self.records()?;
        let Identity { stage, version, key, config, inputs } = self.identity.clone();
        let seconds = self.started.elapsed().as_secs_f64();
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let (peak_memory_bytes, marks) = (self.memory.peak_bytes(), thinned(&marks, MARKS));
        let provenance = Provenance { peak_memory_bytes, marks, ..Provenance::here(&self.device, seconds) };
        let manifest = Manifest { stage, version, key, config, inputs, files, provenance };
        let mut bytes = serde_json::to_vec_pretty(&manifest).expect("strings, numbers and JSON values are JSON");
        bytes.push(b'\n');
        // Neither the manifest nor the rename may overtake the contents when the machine stops.
        write(&self.dir.join(MANIFEST), &bytes)?;
        sync_dir(&self.dir)?;
        let parent = self.target.parent().unwrap_or(&self.target);
        fs::create_dir_all(parent).map_err(at("create", parent))?;
        self.clear_target()?;
        fs::rename(&self.dir, &self.target).map_err(at("rename to", &self.target))?;
        sync_dir(parent)?;
        Ok(manifest)
    }

    /// Removes what stands in the result's place: something damaged, or it would have been found when the work began.
    fn clear_target(&self) -> Result<(), Error> {
        let Identity { stage, key, .. } = &self.identity;
        if !self.target.exists() {
            return Ok(());
        }
        let found = Artefact::open(&self.target, stage, key, Verified::default());
        if found.is_ok_and(|found| found.is_some_and(|found| found.verify().is_ok())) {
            // Whoever published it had the claim after this process.
            return Err(Error::ClaimLost { stage: stage.clone(), key: key.clone(), owner: None });
        }
        remove(&self.target)
    }

    /// What the manifest says of every file; the files are on the disk by then.
    fn records(&self) -> Result<BTreeMap<String, FileRecord>, Error> {
        let mut records = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in entries(&self.dir.join(&folder))? {
                let name = if folder.is_empty() { entry } else { format!("{folder}/{entry}") };
                let path = self.dir.join(&name);
                if path.is_dir() {
                    folders.push(name);
                } else {
                    sync(&path)?;
                    records.insert(name, FileRecord::of(&path)?);
                }
            }
            if !folder.is_empty() {
                sync_dir(&self.dir.join(&folder))?;
            }
        }
        Ok(records)
    }

    fn unwritable(&self, file: &str, reason: serde_json::Error) -> Error {
        Error::Unwritable { file: file.to_owned(), stage: self.identity.stage.clone(), reason }
    }
}

/// At most about `most` of `all`, evenly spread, the last one among them.
fn thinned<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let stride = all.len().div_ceil(most).max(1);
    let mut kept: Vec<T> = all.iter().rev().step_by(stride).copied().collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_many_is_kept() {
        let all: Vec<usize> = (0..300).collect();
        let kept = thinned(&all, 128);
        assert!(kept.len() <= 128 && kept.last() == Some(&299) && kept.windows(2).all(|pair| pair[1] - pair[0] == 3));
        assert_eq!(thinned(&all[..3], 128), [0, 1, 2]);
        assert_eq!(thinned::<usize>(&[], 128), [0; 0]);
    }
}
