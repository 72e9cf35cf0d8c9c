//! Archives from people one does not know: whatever is wrong with one, nothing of it reaches the store.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::io::Read;
use std::path::Path;

use tiny::{Lab, files};

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
        let left: Vec<_> = files(&lab.path(name)).into_iter().filter(|file| !file.starts_with("locks")).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    assert!(!lab.path("escaped").exists() && !Path::new("/tmp/escaped-from-runner").exists());

    // A result that is whole and lies: another config under the same key.
    let manifest = good.iter().position(|(name, ..)| name.contains("/sft/") && name.ends_with("manifest.json")).unwrap();
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
