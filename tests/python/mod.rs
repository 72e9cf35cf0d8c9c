//! Other people's programs that tests ask, where they are installed.

use std::path::PathBuf;
use std::process::Command;

/// The Python of the environment that `RUNNER_PYTHON_ENV` names: it has `kubernetes-validate`, `skypilot` and `hyperqueue`. None,
/// with a notice, where nothing is named.
pub fn python() -> Option<Command> {
    let Some(folder) = std::env::var_os("RUNNER_PYTHON_ENV") else {
        eprintln!(
            "skipped: `RUNNER_PYTHON_ENV` names no environment with `kubernetes-validate`, `skypilot` and `hyperqueue`"
        );
        return None;
    };
    Some(Command::new(PathBuf::from(folder).join("bin/python")))
}
