//! The page on which people edit, in a browser: what they do, what is kept, what comes of it.
//!
//! The acts stand in `browser/annotate.py`, a scenario for each test; it starts the binary, and kills it where that is the point.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod browser;

use std::path::Path;

/// Plays a scenario in a folder of its own.
fn play(scenario: &str) {
    let Some(mut python) = browser::python("annotate.py") else { return };
    let dir = tempfile::tempdir().unwrap();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/qa-feedback/dev_feedback_first400.json");
    let output = python
        .args([scenario, env!("CARGO_BIN_EXE_runner")])
        .arg(shared)
        .current_dir(dir.path())
        .env_remove("RUNNER_STORE")
        .env_remove("RUNNER_LOG")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    eprintln!("{}", text(&output.stdout));
}

#[test]
fn a_response_is_edited_from_the_first_key_to_the_file() {
    play("edit");
}

#[test]
fn answers_without_an_edit_have_their_reasons() {
    play("answers");
}

#[test]
fn what_was_typed_outlives_a_reload_and_a_kill() {
    play("killed");
}

#[test]
fn two_annotators_share_the_work_and_are_compared() {
    play("several");
}

#[test]
fn two_answers_to_one_item_are_both_shown() {
    play("conflict");
}

#[test]
fn foreign_text_is_text() {
    play("hostile");
}

#[test]
fn letters_are_not_split_and_blanks_are_seen() {
    play("unicode");
}

#[test]
fn everybody_can_use_it() {
    play("accessible");
}

#[test]
fn ten_thousand_items_are_as_one() {
    play("many");
}

#[test]
fn twenty_real_items_are_edited_exported_labelled_and_trained_on() {
    play("real");
}
