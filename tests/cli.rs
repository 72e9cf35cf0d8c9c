//! The binary as its users meet it: help, usage errors, exit codes, pipes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn runner(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.args(arguments).current_dir(dir).env_remove("RUNNER_STORE").env_remove("RUNNER_LOG").env("NO_COLOR", "1");
    command
}

fn output(dir: &Path, arguments: &[&str]) -> Output {
    runner(dir, arguments).output().unwrap()
}

/// Exit code, stdout and stderr, as a reviewer reads them.
fn said(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = output(dir.path(), arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("exit code {}\n--- stdout\n{out}--- stderr\n{err}", output.status.code().unwrap())
}

#[test]
fn help() {
    insta::assert_snapshot!(said(&["--help"]), @r"
    exit code 0
    --- stdout
    Declarative experiments in fine-grained RLHF: one recipe in, one report out

    Usage: runner <COMMAND>

    Commands:
      run          Run a recipe; what is already in the store is not run again
      plan         Say what `run` would do, and why
      check        Check a recipe without touching the store
      explain      Explain a recipe key: type, default, meaning
      report       Write the report of a run, or of several beside each other
      exec-stage   Do one stage of a submitted run, as launchers have it done
      cancel       Take a run that was handed to a queue out of it
      ls           List the runs of the store, the last active first
      show         Show what a run or a result is and where it comes from
      watch        Follow a run that is at work, here or elsewhere
      diff         Say what differs between two runs or recipes, and which stages they share
      compare      Compare what came of runs, or of the points of a sweep
      power        Say how many prompts and seeds it takes to see a difference
      tag          Give a run a name, or list the names
      gc           Remove from the store what nobody needs; says first what that is
      export       Write a run with its results to one file, or a model to a folder
      import       Take such a file into a store
      data         Look at a dataset before a recipe names it
      annotate     Serve the page on which people edit responses
      annotations  What people edited: statistics, agreement, other formats
      label        Align texts or token ids and label what an edit changed
      generate     Let a trained policy answer prompts
      score        Say what a model thinks of given texts, token by token
      winrate      Compute AlpacaEval's win rates from files of annotations
      devices      List what this binary and this machine can compute on, tested
      bench        Measure tokens per second on fixed work
      completions  Print a completion script for a shell

    Options:
      -h, --help     Print help
      -V, --version  Print version
    --- stderr
    ");
}

#[test]
fn help_of_every_command() {
    let commands = [
        "run",
        "plan",
        "check",
        "explain",
        "report",
        "exec-stage",
        "cancel",
        "ls",
        "show",
        "watch",
        "diff",
        "compare",
        "power",
        "tag",
        "gc",
        "export",
        "import",
        "data",
        "annotate",
        "annotations",
        "label",
        "generate",
        "score",
        "winrate",
        "devices",
        "bench",
        "completions",
    ];
    let help = commands.map(|command| format!("$ runner {command} --help\n{}", said(&[command, "--help"])));
    insta::assert_snapshot!(help.join("\n"));
}

#[test]
fn usage_errors_exit_with_2() {
    insta::assert_snapshot!(said(&["ruin", "x.toml"]), @r"
    exit code 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'ruin'

      tip: a similar subcommand exists: 'run'

    Usage: runner <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(said(&["run"]), @r"
    exit code 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <RECIPE>

    Usage: runner run <RECIPE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(said(&["label", "one text"]), @r"
    exit code 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <EDITED>

    Usage: runner label <ORIGINAL> <EDITED>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(said(&["show", "nothing"]), @r"
    exit code 2
    --- stdout
    --- stderr
    error: no result has the label or key `nothing` (a key needs 4 digits or more)

    hint: `runner ls` lists runs, `runner plan RECIPE` labels and keys
    ");
    for arguments in
        [["run", "missing.toml"], ["plan", "missing.toml"], ["check", "missing.toml"], ["report", "missing.toml"]]
    {
        let said = said(&arguments);
        assert!(
            said.starts_with("exit code 2\n--- stdout\n--- stderr\nerror: ") && said.contains("missing.toml"),
            "{said}"
        );
    }
}

#[test]
fn an_empty_store_has_no_runs() {
    insta::assert_snapshot!(said(&["ls"]), @r"
    exit code 0
    --- stdout
    --- stderr
    `.runner` holds no runs
    ");
    insta::assert_snapshot!(said(&["ls", "--json"]), @r"
    exit code 0
    --- stdout
    []
    --- stderr
    ");
}

#[test]
fn a_bad_log_filter_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = runner(dir.path(), &["ls"]).env("RUNNER_LOG", "a=b=c").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`RUNNER_LOG`"));
}

#[test]
fn the_store_is_where_it_was_asked_for_and_looking_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let looks = |store: Option<&str>, arguments: &[&str]| {
        let mut command = runner(dir.path(), arguments);
        if let Some(store) = store {
            command.env("RUNNER_STORE", store);
        }
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert_eq!(looks(None, &["ls"]), "`.runner` holds no runs\n");
    assert_eq!(looks(Some("there"), &["ls"]), "`there` holds no runs\n");
    assert_eq!(looks(Some("there"), &["ls", "--store", "here"]), "`here` holds no runs\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(looks(None, &["ls", "--store", "file"]).starts_with("error: cannot open the store `file`: "));
}

#[test]
fn two_texts_are_shown_as_one_edit() {
    insta::assert_snapshot!(said(&["label", "it is cheap , you idiot .", "it is very cheap ."]), @r"
    exit code 0
    --- stdout
    it is {+very+} cheap [-, you idiot-] .
    --- stderr
    ");
    insta::assert_snapshot!(said(&["label", "--json", "it is cheap", "it was very cheap"]), @r#"
    exit code 0
    --- stdout
    {"distance":2,"original_labels":"USU","edited_labels":"USAU"}
    --- stderr
    "#);
}

#[test]
fn a_bad_pair_is_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pairs.jsonl"), "{\"original\":[1],\"edited\":[]}\n{\"original\":[1]}\n").unwrap();
    let output = output(dir.path(), &["label", "--json", "--input", "pairs.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("error: `pairs.jsonl`, line 2: missing field `edited`"), "{error}");
}

#[test]
fn labels_agree_with_the_fixtures() {
    let fixtures =
        std::env::var_os("RUNNER_FIXTURES").map_or_else(|| PathBuf::from("../shared/fixtures"), PathBuf::from);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixtures).join("edits/pairs.json");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("skipped: no `{}`", path.display());
        return;
    };
    let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
    let output = output(path.parent().unwrap(), &["label", "--json", "--input", "pairs.json"]);
    let found = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        for key in ["id", "distance", "original_labels", "edited_labels"] {
            assert_eq!(found[key], expected[key], "{key} of pair {}", expected["id"]);
        }
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    // More than a pipe holds, so that the writer must notice.
    let pair = format!("{{\"original\":[1],\"edited\":[{}1]}}\n", "2,".repeat(5000));
    fs::write(dir.path().join("pairs.jsonl"), pair.repeat(40)).unwrap();
    let mut command = runner(dir.path(), &["label", "--json", "--input", "pairs.jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        assert!(["run", "explain", "completions"].iter().all(|command| script.contains(command)), "{shell}");
    }
}
