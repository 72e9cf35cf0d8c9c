//! What housekeeping needs to know and may do: who is at work, what lies where, how something leaves or enters at once.
//!
//! Whoever begins work holds the store together with others; whoever collects garbage holds it alone, for as long as it
//! takes to rename. What is to be kept is `launch`'s to decide.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::error::at;
use super::{
    Artefact, Error, Key, Lock, Lookup, MANIFEST, Owner, Store, claim, durable, entries, folders, format, remove,
};

/// Numbers what is put aside, so that two threads do not take the same name.
static ASIDE: AtomicUsize = AtomicUsize::new(0);

/// A hold on the store; it goes when this is dropped.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

/// A result as it lies on disk, whole or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of stage, where the folder says.
    pub stage: Option<String>,
    /// Its name.
    pub key: Key,
    /// Its folder.
    pub dir: PathBuf,
}

impl Store {
    /// Holds the store beside others, so that nothing is collected meanwhile.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn share(&self) -> Result<Guard, Error> {
        format::mark(&self.root)?;
        let (file, path) = self.guard_file()?;
        match file.lock_shared() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(at("lock", &path)(error)),
            _ => Ok(Guard(file)),
        }
    }

    /// Holds the store alone, or nothing while others hold it.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn seize(&self) -> Result<Option<Guard>, Error> {
        let (file, path) = self.guard_file()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                Err(at("lock", &path)(error))
            }
            _ => Ok(Some(Guard(file))),
        }
    }

    /// Whether a process is at work on `key`. The claim of another machine counts until somebody takes it over: from here
    /// nobody can tell.
    #[must_use]
    pub fn is_claimed(&self, key: &Key) -> bool {
        let lock = File::open(self.root.join("locks").join(format!("{key}.lock")));
        let is_locked = lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let elsewhere = |owner: Owner| !self.sharing.locks || !owner.is_of_this_machine();
        is_locked || claim::owner(&self.partial_dir(key)).is_some_and(elsewhere)
    }

    /// Whether the process `pid` of the machine `host` has a claim that beat lately.
    #[must_use]
    pub fn is_beating(&self, host: &str, pid: &str) -> bool {
        let lately = |dir: &Path| {
            let silence = claim::last_beat(dir).map(|beat| SystemTime::now().duration_since(beat).unwrap_or_default());
            silence.is_some_and(|silence| silence < 2 * self.sharing.patience)
        };
        self.unfinished().unwrap_or_default().iter().any(|place| {
            let owner = claim::owner(&place.dir);
            owner.is_some_and(|owner| owner.host == host && owner.pid.to_string() == pid) && lately(&place.dir)
        })
    }

    /// Every folder of a result, damaged ones included.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn places(&self) -> Result<Vec<Place>, Error> {
        let mut found = Vec::new();
        for stage in folders(&self.root.join("results"))? {
            for key in folders(&self.root.join("results").join(&stage))?.iter().filter_map(|name| Key::parse(name)) {
                found.push(Place { stage: Some(stage.clone()), dir: self.result_dir(&stage, &key), key });
            }
        }
        Ok(found)
    }

    /// Every folder of unfinished work.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Place>, Error> {
        let names = folders(&self.root.join("partial"))?;
        let keys = names.iter().filter_map(|name| Key::parse(name));
        Ok(keys.map(|key| Place { stage: None, dir: self.partial_dir(&key), key }).collect())
    }

    /// The hashes of all files that are kept, with what an interrupted copy left.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn kept_files(&self) -> Result<Vec<String>, Error> {
        entries(&self.root.join("files"))
    }

    /// What earlier removals and imports left on their way; nothing reads it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn in_transit(&self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.transit();
        Ok(entries(&folder)?.into_iter().map(|name| folder.join(name)).collect())
    }

    /// A new path on the store's file system that no reader looks at.
    ///
    /// # Errors
    /// When the store is not writable.
    pub fn aside(&self) -> Result<PathBuf, Error> {
        let folder = self.transit();
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        Ok(folder.join(format!("{}-{}", std::process::id(), ASIDE.fetch_add(1, Ordering::Relaxed))))
    }

    /// Takes `path` out of the store at once; its bytes are still there, under the name that is returned.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn take_away(&self, path: &Path) -> Result<PathBuf, Error> {
        let aside = self.aside()?;
        fs::rename(path, &aside).map_err(at("move away", path))?;
        Ok(aside)
    }

    /// Removes what [`Store::in_transit`] or [`Store::take_away`] returned.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn discard(&self, aside: &Path) -> Result<(), Error> {
        remove(aside)
    }

    /// Makes the folder `dir`, complete and with its manifest, the result of `stage` under `key`; none when there is a
    /// whole one or somebody computes it.
    ///
    /// # Errors
    /// When the folder cannot be renamed, or is not that result.
    pub fn adopt(&self, dir: &Path, stage: &str, key: &Key) -> Result<bool, Error> {
        if self.is_claimed(key) {
            return Ok(false);
        }
        let _lock = match self.lock(key, || false)? {
            Lock::Held(file) => Some(file),
            Lock::Unsupported => None,
            Lock::GivenUp => return Ok(false),
        };
        let target = self.result_dir(stage, key);
        let Some(artefact) = Artefact::open(dir, stage, key, Arc::clone(&self.verified))? else {
            return Err(at("read", &dir.join(MANIFEST))(io::ErrorKind::NotFound.into()));
        };
        if matches!(self.find_verified(stage, key), Lookup::Found(_)) {
            return Ok(false);
        }
        for name in artefact.manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
            durable::sync(&dir.join(name))?;
        }
        remove(&target)?;
        let parent = self.root.join("results").join(stage);
        fs::create_dir_all(&parent).map_err(at("create", &parent))?;
        fs::rename(dir, &target).map_err(at("rename to", &target))?;
        durable::sync_dir(&parent)?;
        Ok(true)
    }

    fn transit(&self) -> PathBuf {
        self.root.join("transit")
    }

    fn guard_file(&self) -> Result<(File, PathBuf), Error> {
        let folder = self.root.join("locks");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        let path = folder.join("store.lock");
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(at("open", &path))?;
        Ok((file, path))
    }
}

/// Bytes of the file or of all files below the folder `path`; 0 where there is nothing.
#[must_use]
pub fn bytes_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    entries(path).unwrap_or_default().iter().map(|name| bytes_of(&path.join(name))).sum()
}
