//! Which version of the store's layout a folder has, as `store.json` says.
//!
//! Format 1 had no such file and kept a stage's checkpoint directly in `partial/<key>/`; its results are read as they are,
//! its checkpoints are not: that work begins again.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::at;
use super::{Error, write_atomically};

/// The format that this version writes.
const FORMAT: u32 = 2;

const FILE: &str = "store.json";

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
}

/// The format of the store at `root`; that of unmarked stores is 1.
///
/// # Errors
/// When it is newer than this version, or the file says nothing of the kind.
pub(super) fn check(root: &Path) -> Result<u32, Error> {
    let path = root.join(FILE);
    let refused = |found| Error::Format { path: path.clone(), known: FORMAT, found };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(1),
        Err(error) => return Err(at("read", &path)(error)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Marker { format }) if format <= FORMAT => Ok(format),
        Ok(Marker { format }) => Err(refused(format!("format {format}"))),
        Err(_) => Err(refused(format!("`{}`", String::from_utf8_lossy(&bytes).trim()))),
    }
}

/// Marks the store at `root` as one of this version, if it is not yet.
///
/// # Errors
/// As [`check`], and when the file cannot be written.
pub(super) fn mark(root: &Path) -> Result<(), Error> {
    if check(root)? == FORMAT {
        return Ok(());
    }
    let marker = serde_json::json!(Marker { format: FORMAT }).to_string() + "\n";
    write_atomically(&root.join(FILE), marker.as_bytes())
}
