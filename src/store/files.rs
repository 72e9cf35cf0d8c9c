//! What a store holds besides results: copies of the files that runs name, and the runs themselves.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::at;
use super::{Error, FileRecord, Store, folders};

/// The blake3 hash of the file at `path`, in hex.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_of(path: &Path) -> Result<String, Error> {
    Ok(FileRecord::of(path)?.blake3)
}

impl Store {
    /// Keeps a copy of the file at `path` and returns its hash, under which [`Store::kept`] finds it.
    ///
    /// # Errors
    /// When the file cannot be read or the store is not writable.
    pub fn keep(&self, path: &Path) -> Result<String, Error> {
        let hash = hash_of(path)?;
        let target = self.kept(&hash);
        if hash_of(&target).ok().as_ref() != Some(&hash) {
            let folder = self.root.join("files");
            fs::create_dir_all(&folder).map_err(at("create", &folder))?;
            let temporary = folder.join(format!("{hash}.tmp-{}", std::process::id()));
            fs::copy(path, &temporary).map_err(at("copy to", &temporary))?;
            fs::rename(&temporary, &target).map_err(at("write", &target))?;
        }
        Ok(hash)
    }

    /// Where the copy of the file with the hash `hash` is kept.
    #[must_use]
    pub fn kept(&self, hash: &str) -> PathBuf {
        self.root.join("files").join(hash)
    }

    /// The folder of the run `id`.
    #[must_use]
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.root.join("runs").join(id)
    }

    /// The ids of all runs, in alphabetical order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn runs(&self) -> Result<Vec<String>, Error> {
        folders(&self.root.join("runs"))
    }
}
