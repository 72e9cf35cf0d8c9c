//! Writing so that what was written is still there after a loss of power.
//!
//! A rename publishes; everything that it publishes is on the disk before, and the rename itself after.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;
use super::error::at;

/// Numbers temporary files, so that two threads do not write the same one.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// Writes `bytes` to `path` so that a reader sees either the old file or the whole new one; creates its folder.
///
/// # Errors
/// When the folder is not writable; the old file stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(at("create", folder))?;
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp-{}-{writer}", std::process::id()));
    let written = write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path).map_err(at("write", path)));
    if written.is_err() {
        // Half a file is of no use, and its space may be what is missing.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_dir(folder))
}

/// Writes `bytes` to `path` and waits until the disk has them.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_data()
    });
    written.map_err(at("write", path))
}

/// Waits until the disk has the file `path`.
pub(super) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_data()).map_err(at("write", path))
}

/// Waits until the disk has the names in the folder `dir`, where its file system can say so.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(at("write", dir)(error))
        }
        _ => Ok(()),
    }
}
