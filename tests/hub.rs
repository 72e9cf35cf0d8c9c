//! `hub = "organisation/name"` through the real binary: from a cache as the hub's clients lay it out, from a hub of this test,
//! and where there is neither.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod checkpoint;
#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use checkpoint::{exported, recipe_on};
use serde_json::json;
use tiny::{Lab, Said, files};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Nobody answers there.
const NOWHERE: &str = "http://127.0.0.1:9";

fn said(lab: &Lab, endpoint: &str, arguments: &[&str]) -> Said {
    let mut command = lab.runner(arguments);
    for variable in ["HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(variable);
    }
    command.env("HF_HOME", lab.path("home")).env("HF_ENDPOINT", endpoint);
    Said::of(&command.output().unwrap())
}

/// Puts the files of `folder` into the cache, as a snapshot that `branch` means.
fn cached(lab: &Lab, repository: &str, branch: Option<&str>, folder: &Path) -> PathBuf {
    let root = lab.path("home/hub").join(repository);
    let snapshot = root.join("snapshots").join(COMMIT);
    for name in files(folder) {
        let to = snapshot.join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(folder.join(&name), to).unwrap();
    }
    if let Some(branch) = branch {
        fs::create_dir_all(root.join("refs")).unwrap();
        fs::write(root.join("refs").join(branch), format!("{COMMIT}\n")).unwrap();
    }
    snapshot
}

/// A hub with one repository, `kind` (`models` or `datasets`) and `name`, that has the files of `folder`; its address.
fn hub(kind: &'static str, name: &'static str, folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), kind, name, &folder);
        }
    });
    address
}

fn answer(mut stream: TcpStream, kind: &str, name: &str, folder: &Path) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let place = if kind == "models" { name.to_owned() } else { format!("{kind}/{name}") };
    let found = if path == format!("/api/{kind}/{name}/revision/main") {
        let siblings: Vec<_> = files(folder).iter().map(|file| json!({ "rfilename": file })).collect();
        Some(json!({ "siblings": siblings, "sha": COMMIT }).to_string().into_bytes())
    } else {
        path.strip_prefix(&format!("/{place}/resolve/main/")).and_then(|file| fs::read(folder.join(file)).ok())
    };
    let Some(bytes) = found else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    };
    let all = bytes.len();
    let part = if range.as_deref() == Some("0-0") { &bytes[..1.min(all)] } else { &bytes };
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Range: bytes 0-{}/{all}\r\nx-repo-commit: {COMMIT}\r\n\
         etag: \"{}\"\r\nConnection: close\r\n\r\n",
        if range.is_some() { "206 Partial Content" } else { "200 OK" },
        part.len(),
        part.len().saturating_sub(1),
        path.replace('/', "_"),
    )
    .unwrap();
    stream.write_all(part).unwrap();
    let _ = stream.flush();
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 16]);
}

const HUB: &str = "[policy]\nhub = \"org/name\"\nfine_tune = false\n";

#[test]
fn a_cached_checkpoint_needs_no_network() {
    let lab = Lab::new();
    exported(&lab);
    recipe_on(&lab, HUB);
    let snapshot = cached(&lab, "models--org--name", Some("main"), &lab.path("base"));
    said(&lab, NOWHERE, &["check", "lora.toml"]).fine();
    let ran = said(&lab, NOWHERE, &["run", "lora.toml"]).fine();
    assert!(ran.err.contains("done in"), "{}", ran.err);
    // A commit needs no branch that means it; another branch is another thing.
    let at = |revision: &str| {
        let set = format!("policy.revision='{revision}'");
        said(&lab, NOWHERE, &["check", "lora.toml", "--set", &set])
    };
    fs::remove_dir_all(lab.path("home/hub/models--org--name/refs")).unwrap();
    at(COMMIT).fine();
    let refused = at("main");
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    cached(&lab, "models--org--name", Some("v2"), &lab.path("base"));
    at("v2").fine();
    // What is missing in a copy is named.
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let refused = at("v2");
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    let found = "expected `model.safetensors` or `model.safetensors.index.json`";
    assert!(refused.err.contains(found) && refused.err.contains("is missing in its copy"), "{}", refused.err);
}

#[test]
fn without_cache_and_network_it_is_said_what_was_tried_and_what_helps() {
    let lab = Lab::new();
    exported(&lab);
    recipe_on(&lab, HUB);
    let refused = said(&lab, NOWHERE, &["check", "lora.toml", "--set", "policy.revision='v2'"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    let cache = lab.path("home/hub").display().to_string();
    for part in [
        "cannot get the checkpoint `org/name`",
        &format!("tried the cache `{cache}`"),
        "no `models--org--name/refs/v2` or `models--org--name/snapshots/v2`",
        "tried the hub `http://127.0.0.1:9`",
        "hf download org/name --revision v2",
        "`HF_HUB_CACHE` or `HF_HOME`",
        "as `path`",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let mut command = lab.runner(&["check", "lora.toml"]);
    command.env("HF_HUB_CACHE", lab.path("elsewhere")).env("HF_HUB_OFFLINE", "1");
    let refused = Said::of(&command.output().unwrap());
    assert!(refused.err.contains("elsewhere`") && refused.err.contains("`HF_HUB_OFFLINE` is set"), "{}", refused.err);
}

#[test]
fn what_the_cache_lacks_is_fetched_once() {
    let lab = Lab::new();
    exported(&lab);
    recipe_on(&lab, HUB);
    let endpoint = hub("models", "org/name", lab.path("base"));
    said(&lab, &endpoint, &["check", "lora.toml"]).fine();
    let snapshot = lab.path("home/hub/models--org--name/snapshots").join(COMMIT);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert_eq!(fs::read(snapshot.join(file)).unwrap(), fs::read(lab.path("base").join(file)).unwrap(), "{file}");
    }
    said(&lab, NOWHERE, &["check", "lora.toml"]).fine();
    let refused = said(&lab, &endpoint, &["check", "lora.toml", "--set", "policy.hub='org/other'"]);
    assert!(refused.code == Some(2) && refused.err.contains("404"), "{}", refused.err);
}

/// `tiny.toml` on the rows of a repository.
fn on_rows(lab: &Lab, path: &str) {
    let text = format!(
        "extends = \"tiny.toml\"\nbudgets = [20]\n[dataset]\nhub = \"org/rows\"\npath = \"{path}\"\nformat = \"records\"\n\
         demonstrations = 20\ntrain_prompts = 20\nvalidation_prompts = 6\ntest_prompts = 6\nmax_prompt_tokens = 24\n\
         max_response_tokens = 16\n[tokenizer.byte_level_bpe]\nvocab_size = 300\n[preferences.dataset]\n[edits.chosen]\n\
         max_share = 0.9\n"
    );
    lab.write("rows.toml", &text);
}

#[test]
fn datasets_come_from_cache_and_hub_alike() {
    let lab = Lab::without_oracle();
    fs::create_dir_all(lab.path("rows/data")).unwrap();
    let row = |i: usize| {
        json!({ "prompt": format!("q{i}"), "chosen": format!("it is {i}"), "rejected": "it is not" }).to_string()
    };
    let half = |from: usize| (from..from + 30).map(row).collect::<Vec<_>>().join("\n");
    fs::write(lab.path("rows/data/train-00000-of-00002.jsonl"), half(0)).unwrap();
    fs::write(lab.path("rows/data/train-00001-of-00002.jsonl"), half(30)).unwrap();
    fs::write(lab.path("rows/README.md"), "no rows").unwrap();
    on_rows(&lab, "data/train-*.jsonl");
    let refused = said(&lab, NOWHERE, &["check", "rows.toml"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    for part in ["dataset `org/rows`", "datasets--org--rows/refs/main", "hf download org/rows --repo-type dataset"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let endpoint = hub("datasets", "org/rows", lab.path("rows"));
    said(&lab, &endpoint, &["check", "rows.toml"]).fine();
    let snapshot = lab.path("home/hub/datasets--org--rows/snapshots").join(COMMIT);
    assert_eq!(files(&snapshot).len(), 2, "rows and nothing else");
    said(&lab, NOWHERE, &["run", "rows.toml"]).fine();
    fs::remove_dir_all(lab.path("home")).unwrap();
    cached(&lab, "datasets--org--rows", Some("main"), &lab.path("rows"));
    on_rows(&lab, ".");
    said(&lab, NOWHERE, &["check", "rows.toml"]).fine();
    said(&lab, NOWHERE, &["check", "rows.toml", "--set", &format!("dataset.revision='{COMMIT}'")]).fine();
}
