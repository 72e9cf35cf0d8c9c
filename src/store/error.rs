//! What can go wrong between a stage and its files.
//!
//! Only the store's own errors: what a stage makes of them is the stage's. The messages are whole, so that no field is a
//! `source`: a chain of causes would say it twice.

use std::io;
use std::path::{Path, PathBuf};

use super::{Key, Owner};

/// Why a result could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {verb} `{}`: {reason}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Its reason.
        reason: io::Error,
    },
    /// A file of a result is not what was written.
    #[error(
        "`{file}` of stage `{stage}` is damaged: expected {expected}, found {found} (in `{}`); the same `runner run` \
         computes this result afresh", dir.display()
    )]
    Damaged {
        /// The file's name in the result.
        file: String,
        /// The stage that wrote it.
        stage: String,
        /// Size or checksum in the manifest.
        expected: String,
        /// Size or checksum on disk.
        found: String,
        /// The result's folder.
        dir: PathBuf,
    },
    /// Another process took the key over while this one worked on it.
    #[error(
        "lost the claim on `{stage}` {} to {}: this process did not move for too long, or lost sight of the store; what it \
         computed here is dropped, the other's result counts", key.short(), named(owner.as_ref())
    )]
    ClaimLost {
        /// The stage.
        stage: String,
        /// The key of its result.
        key: Key,
        /// Who holds it now, where that is known.
        owner: Option<Owner>,
    },
    /// A store that this version does not understand.
    #[error(
        "cannot use this store: expected format {known} or older in `{}`, found {found}\n\nhint: use the version of \
         `runner` that wrote it, or another `--store`", path.display()
    )]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The newest format known here.
        known: u32,
        /// What it says.
        found: String,
    },
    /// A result has no file of that name.
    #[error("stage `{stage}` has no file `{file}`; it has {}", listed(known))]
    NoSuchFile {
        /// The name asked for.
        file: String,
        /// The stage.
        stage: String,
        /// The names it has.
        known: Vec<String>,
    },
    /// A file is whole, but not of the form that its reader expects.
    #[error("`{file}` of stage `{stage}`, line {line}: {reason}")]
    Json {
        /// The file's name in the result.
        file: String,
        /// The stage that wrote it.
        stage: String,
        /// Line, counted from 1.
        line: usize,
        /// What serde says.
        reason: serde_json::Error,
    },
    /// A value that JSON cannot hold.
    #[error("cannot write `{file}` of stage `{stage}` as JSON: {reason}")]
    Unwritable {
        /// The file's name in the result.
        file: String,
        /// The stage that writes it.
        stage: String,
        /// What serde says.
        reason: serde_json::Error,
    },
    /// A file name that would leave the result's folder.
    #[error(
        "stage `{stage}` cannot have a file `{file}`: expected a relative path without `..`, and neither `manifest.json` nor in `checkpoint`"
    )]
    FileName {
        /// The name asked for.
        file: String,
        /// The stage.
        stage: String,
    },
}

/// Turns an I/O error into one that says what was tried on which path.
pub(super) fn at<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |reason| Error::Io { verb, path: path.to_owned(), reason }
}

fn named(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "another process, which is done".to_owned(), Owner::to_string)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<_> = names.iter().take(10).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(quoted.len());
    if more == 0 { quoted.join(", ") } else { format!("{} and {more} more", quoted.join(", ")) }
}
