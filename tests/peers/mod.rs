//! The Python environments of `RUNNER_TRANSFORMERS_ENV` and `RUNNER_PYTHON_ENV`, for comparisons with Hugging Face's own libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of the first of them that has `packages`. Where none has, none and a notice; with
/// `RUNNER_REQUIRE_TRANSFORMERS` set that is a failure, if `transformers` is among them.
pub fn python(packages: &str) -> Option<PathBuf> {
    let environments = ["RUNNER_TRANSFORMERS_ENV", "RUNNER_PYTHON_ENV"].into_iter().filter_map(std::env::var_os);
    for environment in environments {
        let python = Path::new(&environment).join("bin/python");
        let imported = Command::new(&python).args(["-I", "-c", &format!("import {packages}")]).output();
        if imported.is_ok_and(|output| output.status.success()) {
            return Some(python);
        }
    }
    let notice = format!("no `{packages}` in the Python of `RUNNER_TRANSFORMERS_ENV` or `RUNNER_PYTHON_ENV`");
    let required = std::env::var_os("RUNNER_REQUIRE_TRANSFORMERS").is_some() && packages.contains("transformers");
    assert!(!required, "expected to compare, but there is {notice}");
    eprintln!("skipped: {notice}");
    None
}
