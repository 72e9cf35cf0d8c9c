//! A complete result, as its readers see it.
//!
//! No file is handed out before its size and checksum were compared with the manifest, once in a process. What the files
//! mean is known to the stage that wrote them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use serde::de::DeserializeOwned;

use super::error::at;
use super::{Error, FileRecord, Key, MANIFEST, Manifest, Verified};

/// A complete result.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is and where it comes from.
    pub manifest: Box<Manifest>,
    /// Whether this process made it, rather than found it in the store.
    pub fresh: bool,
    verified: Verified,
}

impl Artefact {
    /// A result that this process has just sealed.
    pub(super) const fn new(dir: PathBuf, manifest: Box<Manifest>, verified: Verified) -> Self {
        Self { dir, manifest, fresh: true, verified }
    }

    /// The result in `dir`, or none where there is no manifest; checks the manifest and all sizes.
    pub(super) fn open(dir: &Path, stage: &str, key: &Key, verified: Verified) -> Result<Option<Self>, Error> {
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(at("read", &path)(error)),
        };
        let damaged = |expected: String, found: String| Error::Damaged {
            file: MANIFEST.to_owned(),
            stage: stage.to_owned(),
            expected,
            found,
            dir: dir.to_owned(),
        };
        let manifest: Box<Manifest> =
            serde_json::from_slice(&bytes).map_err(|error| damaged("a manifest".to_owned(), error.to_string()))?;
        // The key is a hash of what the manifest says of config and inputs: readers take both from there.
        let computed = manifest.computed_key();
        if computed != *key || manifest.key != *key || manifest.stage != stage {
            return Err(damaged(format!("the key `{key}`"), format!("`{computed}` of `{}`", manifest.stage)));
        }
        let artefact = Self { dir: dir.to_owned(), manifest, fresh: false, verified };
        for (name, record) in &artefact.manifest.files {
            let found = fs::metadata(dir.join(name)).ok().map(|metadata| metadata.len());
            if found != Some(record.bytes) {
                return Err(artefact.damaged(name, size(Some(record.bytes)), size(found)));
            }
        }
        Ok(Some(artefact))
    }

    /// The path of the file `name`, after its checksum was compared.
    ///
    /// # Errors
    /// When the result has no such file or it is damaged.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let Some(record) = self.manifest.files.get(name) else {
            let (file, stage) = (name.to_owned(), self.manifest.stage.clone());
            return Err(Error::NoSuchFile { file, stage, known: self.manifest.files.keys().cloned().collect() });
        };
        let path = self.dir.join(name);
        if self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) {
            return Ok(path);
        }
        let found = match FileRecord::of(&path) {
            Ok(found) => found,
            Err(Error::Io { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(self.damaged(name, size(Some(record.bytes)), size(None)));
            }
            Err(error) => return Err(error),
        };
        if found.bytes != record.bytes {
            return Err(self.damaged(name, size(Some(record.bytes)), size(Some(found.bytes))));
        }
        if found.blake3 != record.blake3 {
            return Err(self.damaged(name, checksum(record), checksum(&found)));
        }
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok(path)
    }

    /// The bytes of the file `name`.
    ///
    /// # Errors
    /// When the result has no such file, or it is damaged or unreadable.
    pub fn read_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name)?;
        fs::read(&path).map_err(at("read", &path))
    }

    /// The JSON file `name`.
    ///
    /// # Errors
    /// As [`Artefact::read_bytes`], and when it does not hold a `T`.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let bytes = self.read_bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|reason| self.malformed(name, reason.line(), reason))
    }

    /// The rows of the JSON Lines file `name`.
    ///
    /// # Errors
    /// As [`Artefact::read_bytes`], and when a line does not hold a `T`.
    pub fn read_jsonl<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, Error> {
        let bytes = self.read_bytes(name)?;
        let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        lines
            .map(|(i, line)| serde_json::from_slice(line).map_err(|reason| self.malformed(name, i + 1, reason)))
            .collect()
    }

    /// Compares every file with the manifest.
    ///
    /// # Errors
    /// At the first damaged file.
    pub fn verify(&self) -> Result<(), Error> {
        self.manifest.files.keys().try_for_each(|name| self.path(name).map(drop))
    }

    fn damaged(&self, file: &str, expected: String, found: String) -> Error {
        let (file, stage) = (file.to_owned(), self.manifest.stage.clone());
        Error::Damaged { file, stage, expected, found, dir: self.dir.clone() }
    }

    fn malformed(&self, file: &str, line: usize, reason: serde_json::Error) -> Error {
        Error::Json { file: file.to_owned(), stage: self.manifest.stage.clone(), line, reason }
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "no file".to_owned(), |bytes| format!("{bytes} bytes"))
}

fn checksum(record: &FileRecord) -> String {
    format!("blake3 `{}`", &record.blake3.get(..16).unwrap_or(&record.blake3))
}
