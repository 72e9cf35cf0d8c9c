//! Runs carried from store to store: what arrives is what was sent, and nothing of a bad archive reaches the store.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tiny::{Lab, assert_same, files, results};

/// A run that shares nine stages with the recipe's own.
const CHANGED: [&str; 4] = ["run", "tiny.toml", "--set", "ppo.gae_lambda=0.8"];

/// Name, kind and bytes of an entry.
type Entry = (String, tar::EntryType, Vec<u8>);

fn read(path: &Path) -> Vec<Entry> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entry = |entry: std::io::Result<tar::Entry<fs::File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), entry.header().entry_type(), bytes)
    };
    archive.entries().unwrap().map(entry).collect()
}

/// Writes what the `tar` crate would refuse to: names go into the header as they are.
fn write(path: &Path, entries: &[Entry]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn nothing_of_a_bad_archive_reaches_the_store() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    lab.said(&["export", "tiny", "--out", "good.tar"]).fine();
    let good = read(&lab.path("good.tar"));
    let at = |end: &str| good.iter().position(|(name, ..)| name.ends_with(end)).unwrap();
    let (weights, listed) = (at("model.safetensors"), at("archive.json"));
    let renamed = |to: &str| {
        let mut entries = good.clone();
        let from = entries[weights].0.clone();
        entries[weights].0 = to.to_owned();
        let index = String::from_utf8(entries[listed].2.clone()).unwrap();
        entries[listed].2 = index.replace(&from, to).into_bytes();
        entries
    };
    let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.clone();
        change(&mut entries);
        entries
    };
    let cases: Vec<(&str, Vec<Entry>, &str)> = vec![
        ("traversal", renamed("../../escaped"), "expected a relative path without `..`, found `../../escaped`"),
        ("absolute", renamed("/tmp/escaped-from-runner"), "expected a relative path without `..`"),
        ("elsewhere", renamed("tags/mine"), "expected a part of a run, found `tags/mine`"),
        ("flipped", changed(&|entries| entries[weights].2[100] ^= 1), "model.safetensors` is damaged: expected"),
        ("short", changed(&|entries| entries[weights].2.truncate(9)), "bytes with blake3"),
        ("twice", changed(&|entries| entries.push(entries[weights].clone())), "is there twice"),
        ("lacking", changed(&|entries| drop(entries.remove(weights))), "is missing, and 0 more"),
        ("unlisted", changed(&|e| e.push(("files/x".into(), tar::EntryType::Regular, vec![1]))), "found `files/x`"),
        ("link", changed(&|entries| entries[weights].1 = tar::EntryType::Symlink), "expected plain files only"),
        ("folder", changed(&|entries| entries[weights].1 = tar::EntryType::Directory), "expected plain files only"),
        ("headless", changed(&|entries| drop(entries.remove(listed))), "expected `archive.json` as the first entry"),
    ];
    for (name, entries, expected) in cases {
        write(&lab.path("bad.tar"), &entries);
        let said = lab.said(&["import", "bad.tar", "--store", name]);
        assert_eq!(said.code, Some(2), "{name}: {}", said.err);
        assert!(said.err.starts_with("error: `bad.tar` is not taken in: "), "{name}: {}", said.err);
        assert!(said.err.contains(expected), "{name}: {}", said.err);
        let left: Vec<_> = files(&lab.path(name))
            .into_iter()
            .filter(|file| !file.starts_with("locks") && !file.ends_with("store.json"))
            .collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    assert!(!lab.path("escaped").exists() && !Path::new("/tmp/escaped-from-runner").exists());

    // A result that is whole and lies: another config under the same key.
    let manifest =
        good.iter().position(|(name, ..)| name.contains("/sft/") && name.ends_with("manifest.json")).unwrap();
    let mut lying = good.clone();
    let text = String::from_utf8(lying[manifest].2.clone()).unwrap();
    let forged = text.replacen("\"steps\": 20", "\"steps\": 21", 1);
    assert_ne!(text, forged);
    let sum = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let index = String::from_utf8(lying[listed].2.clone()).unwrap().replace(&sum(&text), &sum(&forged));
    (lying[listed].2, lying[manifest].2) = (index.into_bytes(), forged.into_bytes());
    write(&lab.path("bad.tar"), &lying);
    let said = lab.said(&["import", "bad.tar", "--store", "lying"]);
    assert!(said.code == Some(2) && said.err.contains("its manifest says `"), "{}", said.err);

    fs::write(lab.path("noise.tar.zst"), b"no archive at all").unwrap();
    assert_eq!(lab.said(&["import", "noise.tar.zst"]).code, Some(2));
    assert_eq!(lab.said(&["import", "nowhere.tar"]).code, Some(2));
}

#[test]
fn a_run_travels_in_one_file() {
    let lab = Lab::new();
    lab.said(&["run", "tiny.toml"]).fine();
    lab.said(&CHANGED).fine();
    for archive in ["run.tar.zst", "run.tar.gz", "run.tar"] {
        lab.said(&["export", "tiny", "--out", archive]).fine();
        let other = format!("{archive}.store");
        let said = lab.said(&["import", archive, "--store", &other]).fine();
        assert!(said.err.ends_with(": 16 new results, 0 were there\n"), "{}", said.err);
        let again = lab.said(&["import", archive, "--store", &other]).fine();
        assert!(again.err.ends_with(": 0 new results, 16 were there\n"), "{}", again.err);
        let run = lab.said(&[&CHANGED[..], &["--store", &other]].concat()).fine();
        assert!(run.err.ends_with("nothing to do: all 16 stages are cached\n"), "{}", run.err);
    }
    // What the other run shares comes with it: only the rest is computed, to the same bytes.
    lab.said(&["run", "tiny.toml", "--store", "run.tar.store", "--out", "there"]).fine();
    assert_same(&results(&lab.path(".runner")), &results(&lab.path("run.tar.store")));
    let equal = |name: &str| fs::read(lab.path(name)).unwrap();
    lab.said(&["export", "tiny", "--out", "again.tar"]).fine();
    assert!(equal("run.tar") == equal("again.tar"), "equal runs give equal archives");

    lab.said(&["export", "tiny", "--out", "report.tar", "--report-only", "--without-data"]).fine();
    let small = lab.said(&["import", "report.tar", "--store", "small"]).fine();
    assert!(small.err.contains(": 1 new results"), "{}", small.err);
    assert_eq!(files(&lab.path("small/files")), Vec::<PathBuf>::new());
    assert_eq!(lab.said(&["compare", "tiny", "--csv", "--store", "small"]).fine().out.lines().count(), 3);
    assert!(lab.said(&["export", "tiny", "--out", "run.zip"]).err.contains("expected a file that ends in `.tar.zst`"));
}
