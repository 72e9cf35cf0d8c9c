//! A headless Chromium, driven by Playwright for Python: for tests of pages.
//!
//! Where Playwright is not in the Python environment (`RUNNER_PYTHON_ENV`) or no Chromium is in `PATH`, a test is skipped with a
//! notice; in CI it must not be.

use std::path::Path;
use std::process::Command;

/// A command that runs `script` of this folder, in a Python that can drive a browser; none where there is none.
pub fn python(script: &str) -> Option<Command> {
    let environment = std::env::var("RUNNER_PYTHON_ENV").unwrap_or_default();
    let python = Path::new(&environment).join("bin/python");
    let has = |program: &Path, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let missing = if !has(&python, &["-c", "import playwright"]) {
        "Playwright in the Python environment `RUNNER_PYTHON_ENV`"
    } else if !has(Path::new("chromium"), &["--version"]) {
        "`chromium`"
    } else {
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script));
        return Some(command);
    };
    assert!(std::env::var_os("RUNNER_REQUIRE_BROWSER").is_none(), "expected {missing}, found none");
    eprintln!("skipped: expected {missing}, found none");
    None
}
