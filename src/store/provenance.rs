//! Where a result comes from: the part of a manifest that no key and no comparison sees.
//!
//! Looks at the clock, the command line and git, so that nothing else needs to.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where, when and by what a result was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// This program's version.
    pub runner: String,
    /// The commit of the git checkout that the command ran in.
    pub commit: Option<String>,
    /// Whether that checkout had uncommitted changes.
    pub dirty: Option<bool>,
    /// The recipe's device.
    pub device: String,
    /// Threads of the compute pool.
    pub threads: usize,
    /// The command as typed.
    pub command_line: String,
    /// When the work began, in seconds since 1970-01-01 UTC.
    pub started: u64,
    /// How long it took; of an interrupted computation, the last part.
    pub wall_seconds: f64,
    /// The highest memory use of the process while it did, in bytes, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// When training had done some of its steps: (steps, seconds since the work began or was resumed).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(usize, f64)>,
}

impl Provenance {
    /// This process on `device`, with work that took `wall_seconds` and ends now.
    #[must_use]
    pub fn here(device: &str, wall_seconds: f64) -> Self {
        let (commit, dirty) = checkout();
        Self {
            runner: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.clone(),
            dirty: *dirty,
            device: device.to_owned(),
            threads: rayon::current_num_threads(),
            command_line: command_line(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| {
                let begun = now.as_secs_f64() - wall_seconds;
                std::time::Duration::try_from_secs_f64(begun).map_or(0, |begun| begun.as_secs())
            }),
            wall_seconds,
            peak_memory_bytes: None,
            marks: Vec::new(),
        }
    }
}

/// The command as typed, arguments with spaces in quotes.
fn command_line() -> String {
    let quoted = std::env::args_os().map(|argument| {
        let argument = argument.to_string_lossy().into_owned();
        if argument.is_empty() || argument.contains(char::is_whitespace) { format!("'{argument}'") } else { argument }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Commit and dirty flag of the working directory; asked once, because git takes milliseconds.
fn checkout() -> &'static (Option<String>, Option<bool>) {
    static CHECKOUT: OnceLock<(Option<String>, Option<bool>)> = OnceLock::new();
    CHECKOUT.get_or_init(|| {
        let commit = git(&["rev-parse", "HEAD"]);
        let dirty = commit.as_ref().and_then(|_| git(&["status", "--porcelain", "--untracked-files=no"]));
        (commit, dirty.map(|changes| !changes.is_empty()))
    })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
