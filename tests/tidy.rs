//! What a machine can see of the house rules: imports point down, modules say what they are for, files stay small, the
//! documents keep step with the code.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file below `folder` with that extension, in order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    let sources: Vec<_> = files(Path::new("src"), "rs").into_iter().map(read).collect();
    assert!(sources.len() > 50, "found only {} sources", sources.len());
    sources
}

/// The rooms in the order of `src/lib.rs`.
fn rooms() -> Vec<String> {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let name = |line: &str| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned());
    let rooms: Vec<String> = lib.lines().filter_map(name).collect();
    assert!(rooms.len() > 10, "found only {rooms:?}");
    rooms
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// What stands directly below `crate::` in `text`: one name, or those of a braced list.
fn imported(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(identifier(rest).to_owned());
            continue;
        };
        let (mut depth, mut entry) = (0, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(identifier(entry.trim()).to_owned());
                    entry.clear();
                }
                c => entry.push(c),
            }
        }
        names.insert(identifier(entry.trim()).to_owned());
    }
    names
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::{a, b::{c, d},\n e::F};\n// use crate::no;\nfn f() { crate::g::h(); }";
    let expected: BTreeSet<String> = ["a", "b", "e", "g"].map(str::to_owned).into();
    assert_eq!(imported(text), expected);
}

#[test]
fn imports_point_down() {
    let rooms = rooms();
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let mut seen = 0;
    for (path, text) in sources() {
        let room = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(own) = place(room.trim_end_matches(".rs")) else { continue };
        for (name, other) in imported(&text).iter().filter_map(|name| Some((name, place(name)?))) {
            seen += 1;
            assert!(
                other <= own,
                "{}: expected imports from rooms listed before `{room}` in src/lib.rs, found `{name}`",
                path.display()
            );
        }
    }
    assert!(seen > 100, "saw only {seen} imports");
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{}: expected `//!` in the first line", path.display());
    }
}

#[test]
fn no_file_is_longer_than_four_hundred_lines() {
    let tests =
        files(Path::new("tests"), "rs").into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let long = sources().into_iter().chain(tests).map(|(path, text)| (path, text.lines().count()));
    let long: Vec<_> = long.filter(|(_, lines)| *lines > 400).collect();
    assert!(long.is_empty(), "longer than 400 lines: {long:?}");
}

/// The names in `text` that are written as `("name", value)` in a list.
fn metric_names(text: &str) -> BTreeSet<String> {
    let parts: Vec<&str> = text.split("(\"").collect();
    let name = |pair: &[&str]| {
        let in_list = pair[0].ends_with(|c: char| c.is_whitespace() || c == '[');
        let (name, rest) = pair[1].split_once('"')?;
        (in_list && rest.starts_with(", ")).then(|| name.to_owned())
    };
    parts.windows(2).filter_map(name).collect()
}

#[test]
fn the_documents_define_every_metric_of_a_trainer() {
    let document = fs::read_to_string("docs/METRICS.md").unwrap();
    let mut names = BTreeSet::new();
    for (_, text) in
        sources().into_iter().filter(|(_, text)| text.contains("emitter.metrics(") || text.contains("descend("))
    {
        names.extend(metric_names(&text));
    }
    for expected in ["loss", "grad_norm", "train_accuracy", "kl_nats", "clip_fraction"] {
        assert!(names.contains(expected), "`{expected}` is not among {names:?}");
    }
    let missing: Vec<_> = names.iter().filter(|name| !document.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/METRICS.md does not define {missing:?}");
}

/// Keys of papers, as in `[GAE]`: capitals, digits and dashes, at least two.
fn paper_keys(text: &str) -> BTreeSet<String> {
    let key = |part: &str| {
        let (key, _) = part.split_once(']')?;
        let plain = key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        (plain && key.len() > 1 && key.starts_with(|c: char| c.is_ascii_uppercase())).then(|| key.to_owned())
    };
    text.split('[').skip(1).filter_map(key).collect()
}

#[test]
fn every_paper_key_is_resolved() {
    let documents = files(Path::new("docs"), "md").into_iter().map(|path| fs::read_to_string(path).unwrap());
    let documents: Vec<String> = documents.collect();
    // The papers behind the code are listed with the implementation details; before that list exists, only the
    // documents' own keys can be looked up.
    let listed = Path::new("docs/DETAILS.md").exists();
    if !listed {
        eprintln!("docs/DETAILS.md is not there: keys in the code are not looked up");
    }
    let resolved: BTreeSet<String> = documents
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with("- ["))
        .flat_map(paper_keys)
        .collect();
    let comments = |text: &str| {
        let lines = text.lines().filter(|line| line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let mut used: BTreeSet<String> = documents.iter().flat_map(|text| paper_keys(text)).collect();
    if listed {
        used.extend(sources().iter().flat_map(|(_, text)| paper_keys(&comments(text))));
    }
    assert!(used.contains("PIGEONHOLE"), "{used:?}");
    let missing: Vec<_> = used.difference(&resolved).collect();
    assert!(missing.is_empty(), "no list in docs/ (`- [KEY] ...`) resolves {missing:?}");
}

/// The lines of `text` that stand in indented or fenced code.
fn code(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            lines.push(line.trim());
        }
    }
    lines
}

#[test]
fn the_readme_shows_commands_that_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_runner")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next()).unwrap();
    let commands: BTreeSet<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains("run") && commands.contains("plan"), "{help}");
    let readme = fs::read_to_string("README.md").unwrap();
    let mut shown = 0;
    for line in code(&readme) {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        let arguments = line.strip_prefix("runner ").or_else(|| line.strip_prefix("cargo run --release -- "));
        let Some(command) = arguments.and_then(|rest| rest.split_whitespace().next()) else { continue };
        shown += 1;
        assert!(commands.contains(command), "README.md shows `{line}`, but there is no command `{command}`");
    }
    assert!(shown >= 5, "the README shows only {shown} commands");
    let missing: Vec<_> = commands.iter().filter(|name| !readme.contains(&format!("| `{name}"))).collect();
    assert!(missing.is_empty(), "the README's table lacks {missing:?}");
}

/// The recipe that the README has its reader write.
const READERS_OWN: &str = "recipes/mine.toml";

#[test]
fn the_documents_point_at_files_that_exist() {
    let mut seen = 0;
    for path in [files(Path::new("docs"), "md"), vec!["README.md".into(), "ARCHITECTURE.md".into()]].concat() {
        let text = fs::read_to_string(&path).unwrap();
        let beside = |target: &str| path.parent().unwrap().join(target.split('#').next().unwrap_or(target));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#')).map(beside);
        let recipes = text.split("recipes/").skip(1).filter_map(|rest| {
            let end = rest.find(".toml")?;
            let name = &rest[..end];
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '/');
            plain.then(|| format!("recipes/{name}.toml")).filter(|path| path != READERS_OWN).map(PathBuf::from)
        });
        for target in links.chain(recipes) {
            seen += 1;
            assert!(target.exists(), "{} points at `{}`, which does not exist", path.display(), target.display());
        }
    }
    assert!(seen >= 10, "saw only {seen} links");
}
