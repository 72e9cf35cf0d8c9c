//! Commands as texts: those that launchers have carried out, and those that they ask.

use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Frozen;
use crate::store::Store;

/// The command that does one stage of `run`, but for the stage's key at its end.
pub(super) fn exec_stage(run: &Frozen, store: &Store) -> Result<Vec<String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let store = text(&here(store.root())?)?;
    Ok(vec![text(&program)?, "exec-stage".to_owned(), "--store".to_owned(), store, run.id.clone()])
}

/// `path` from the root of the file system.
pub(super) fn here(path: &Path) -> Result<PathBuf> {
    absolute(path).context("the working directory is gone")
}

/// `path` as a text that is the path.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("`{}` is not valid UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// `word` as a shell reads it as one word.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What `command` writes to stdout; `absent` says what it means that there is no such command.
pub(super) fn ask(command: &mut Command, absent: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no command `{name}` here: {absent}"),
        output => output.with_context(|| format!("cannot start `{name}`"))?,
    };
    let [said, complaint] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    if !output.status.success() {
        // HyperQueue complains on stdout where its answer is to be JSON.
        let why = if complaint.trim().is_empty() { said.trim() } else { complaint.trim() };
        bail!("`{name}` failed ({}): {why}", output.status);
    }
    Ok(said)
}
