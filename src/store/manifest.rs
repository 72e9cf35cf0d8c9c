//! What stands beside a result: what it is, what it was made from, by what and when.
//!
//! The one file of a result that two runs may write differently; everything that is compared stands in the other files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::at;
use super::{Error, Key, Provenance};

/// A result's `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The kind of stage.
    pub stage: String,
    /// The stage's code version.
    pub version: u32,
    /// The result's name.
    pub key: Key,
    /// The config that the stage ran with.
    pub config: Value,
    /// What it was made from: (role, key).
    pub inputs: Vec<(String, Key)>,
    /// Every file of the result but this one, by its path in the result.
    pub files: BTreeMap<String, FileRecord>,
    /// Where, when and by what it was made.
    pub provenance: Provenance,
}

impl Manifest {
    /// The key that follows from what it says: its own, unless it is damaged.
    pub(super) fn computed_key(&self) -> Key {
        let inputs: Vec<_> = self.inputs.iter().map(|(role, key)| (role.as_str(), key)).collect();
        Key::of(&self.stage, self.version, &self.config, &inputs)
    }
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its blake3 hash, in hex.
    pub blake3: String,
}

impl FileRecord {
    /// The record of the file at `path`, read piece by piece.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let mut hasher = blake3::Hasher::new();
        let mut file = fs::File::open(path).map_err(at("read", path))?;
        let bytes = std::io::copy(&mut file, &mut hasher).map_err(at("read", path))?;
        Ok(Self { bytes, blake3: hasher.finalize().to_hex().to_string() })
    }
}
