//! Takes an archive into a store: everything is unpacked beside the store's results and checked, and only then moved to
//! where readers look.
//!
//! Nothing in an archive is believed: names, sizes and contents have to be those that its index lists, every result has to
//! be what its key says.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{INDEX, Index, check_format, is_plain, reader};
use crate::launch::{Frozen, Summary};
use crate::store::{FileRecord, Key, MANIFEST, Manifest, Store, write_atomically};

/// Largest index that is read: one line for each of a million files.
const INDEX_BYTES: u64 = 256 << 20;

/// What an import brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The run's id.
    pub run: String,
    /// Results that were not there before.
    pub new: usize,
    /// Results that were.
    pub known: usize,
}

/// Takes the archive at `path` into `store`; a second time changes nothing.
///
/// # Errors
/// When anything in the archive is not as it has to be; then the store is as before.
pub fn import(path: &Path, store: &Store) -> Result<Imported> {
    let _guard = store.share()?;
    let aside = store.aside()?;
    let imported = unpack(path, &aside)
        .with_context(|| format!("`{}` is not taken in", path.display()))
        .and_then(|index| publish(&index, &aside, store));
    store.discard(&aside)?;
    imported
}

/// Unpacks the archive into the new folder `aside` and checks everything.
fn unpack(path: &Path, aside: &Path) -> Result<Index> {
    let mut tar = tar::Archive::new(reader(path)?);
    let mut entries = tar.entries().context("expected a tar archive")?;
    let first = entries.next().context("expected a tar archive, found nothing")?.context("expected a tar archive")?;
    let name = name_of(&first)?;
    ensure!(name == INDEX, "expected `{INDEX}` as the first entry, found `{name}`");
    let mut text = Vec::new();
    first.take(INDEX_BYTES).read_to_end(&mut text)?;
    let index: Index = serde_json::from_slice(&text).with_context(|| format!("`{INDEX}`"))?;
    check_format(&index)?;
    ensure!(is_plain(&index.run) && !index.run.contains('/'), "expected the id of a run, found `{}`", index.run);
    let mut missing: BTreeSet<&String> = index.entries.keys().collect();
    for entry in entries {
        let mut entry = entry.context("the archive is damaged")?;
        let name = name_of(&entry)?;
        let Some((name, record)) = index.entries.get_key_value(&name) else {
            bail!("expected only what `{INDEX}` lists, found `{name}`");
        };
        ensure!(missing.remove(name), "`{name}` is there twice");
        ensure!(is_known(name, &index.run), "expected a part of a run, found `{name}`");
        let found = extract(&mut entry, record.bytes, &aside.join(name)).with_context(|| format!("`{name}`"))?;
        ensure!(
            found == *record,
            "`{name}` is damaged: expected {} bytes with blake3 `{}`, found {} bytes with blake3 `{}`",
            record.bytes,
            record.blake3,
            found.bytes,
            found.blake3
        );
    }
    if let Some(name) = missing.first() {
        bail!("`{name}` is missing, and {} more", missing.len() - 1);
    }
    for (stage, key) in results(&index) {
        check_result(aside, &stage, &key).with_context(|| format!("result `{key}` of stage `{stage}`"))?;
    }
    for (name, record) in &index.entries {
        if let Some(hash) = name.strip_prefix("files/") {
            ensure!(record.blake3 == hash, "`{name}` is not the file that its name says");
        }
    }
    let run: Frozen = serde_json::from_slice(&fs::read(aside.join(run_file(&index.run)))?)
        .with_context(|| format!("`{}`", run_file(&index.run)))?;
    ensure!(run.id == index.run, "expected the run `{}`, found `{}`", index.run, run.id);
    Ok(index)
}

/// The name of a plain file; whatever else an archive can hold is refused.
fn name_of(entry: &tar::Entry<impl Read>) -> Result<String> {
    let name = entry.path_bytes();
    let name = String::from_utf8_lossy(&name).into_owned();
    ensure!(entry.header().entry_type().is_file(), "expected plain files only, found `{name}` as something else");
    ensure!(is_plain(&name), "expected a relative path without `..`, found `{name}`");
    Ok(name)
}

fn is_known(name: &str, run: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["results", _, key, _, ..] => Key::parse(key).is_some(),
        ["files", hash] => hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        ["recipes" | "report", _] | ["report", "tables", _] => true,
        _ => name == run_file(run),
    }
}

fn run_file(run: &str) -> String {
    format!("runs/{run}/run.json")
}

/// Writes the entry to `target`, at most one byte more than it should have.
fn extract(entry: &mut impl Read, bytes: u64, target: &Path) -> Result<FileRecord> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(target)?;
    io::copy(&mut entry.take(bytes.saturating_add(1)), &mut file)?;
    file.flush()?;
    drop(file);
    Ok(FileRecord::of(target)?)
}

/// Stage and key of every result that the index lists.
fn results(index: &Index) -> BTreeSet<(String, Key)> {
    let result = |name: &String| {
        let mut parts = name.strip_prefix("results/")?.split('/');
        Some((parts.next()?.to_owned(), Key::parse(parts.next()?)?))
    };
    index.entries.keys().filter_map(result).collect()
}

/// Whether the folder below `aside` is the result of `stage` under `key`: the key follows from what the manifest says, and
/// the files are those of the manifest.
fn check_result(aside: &Path, stage: &str, key: &Key) -> Result<()> {
    let dir = aside.join("results").join(stage).join(key.as_str());
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(dir.join(MANIFEST)).with_context(|| format!("`{MANIFEST}`"))?)?;
    let inputs: Vec<_> = manifest.inputs.iter().map(|(role, key)| (role.as_str(), key)).collect();
    let said = Key::of(&manifest.stage, manifest.version, &manifest.config, &inputs);
    ensure!(manifest.stage == stage && said == *key, "its manifest says `{said}` of `{}`", manifest.stage);
    for (name, record) in &manifest.files {
        ensure!(is_plain(name), "expected a relative path without `..`, found `{name}`");
        ensure!(FileRecord::of(&dir.join(name))? == *record, "`{name}` is not what its manifest says");
    }
    Ok(())
}

/// Moves what was checked to where readers look: first what a run is made from, the run last.
fn publish(index: &Index, aside: &Path, store: &Store) -> Result<Imported> {
    let mut imported = Imported { run: index.run.clone(), new: 0, known: 0 };
    for (stage, key) in results(index) {
        let dir = aside.join("results").join(&stage).join(key.as_str());
        if store.adopt(&dir, &stage, &key)? {
            imported.new += 1;
        } else {
            imported.known += 1;
        }
    }
    for name in index.entries.keys().filter(|name| name.starts_with("files/")) {
        store.keep(&aside.join(name))?;
    }
    if Frozen::open(&index.run, store).is_err() {
        let run = run_file(&index.run);
        write_atomically(&store.root().join(&run), &fs::read(aside.join(&run))?)?;
    }
    Summary::refresh(&Frozen::open(&index.run, store)?, store)?;
    Ok(imported)
}
