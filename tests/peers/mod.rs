//! The Python environment of `RUNNER_PYTHON_ENV`, for comparisons with Hugging Face's own libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Its interpreter, where it has `packages`. Where it has not, none and a notice; with `RUNNER_REQUIRE_TRANSFORMERS` set, as in
/// `.ci/run`, that is a failure.
pub fn python(packages: &str) -> Option<PathBuf> {
    let python = Path::new(&std::env::var("RUNNER_PYTHON_ENV").unwrap_or_default()).join("bin/python");
    let missing = match Command::new(&python).args(["-c", &format!("import {packages}")]).output() {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned(),
        Err(error) => format!("`{}`: {error}", python.display()),
    };
    let notice = format!("no `{packages}` in the Python of `RUNNER_PYTHON_ENV`: {missing}");
    assert!(std::env::var_os("RUNNER_REQUIRE_TRANSFORMERS").is_none(), "expected to compare, but there is {notice}");
    eprintln!("skipped: {notice}");
    None
}
