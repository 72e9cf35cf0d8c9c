//! Writes a run's archive. Equal runs with equal results give equal archives.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Compression, FORMAT, INDEX, Index, Writer};
use crate::launch::Frozen;
use crate::recipe::to_toml;
use crate::report::sweep;
use crate::stage::node::Plan;
use crate::stage::sweep_report;
use crate::store::{FileRecord, Lookup, MANIFEST, Store};

/// What goes into an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Only the results that nothing is made from: the report, or a sweep's judgements.
    pub report_only: bool,
    /// No copies of the files that the recipes name; their hashes stay.
    pub without_data: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Results in the archive.
    pub results: usize,
    /// Labels of the stages that have no result to put into it.
    pub missing: Vec<String>,
    /// The archive's size.
    pub bytes: u64,
}

/// An entry: bytes at hand, or a file that already has its record.
enum Entry {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Writes `run` with its results in `store` to `path`, whose ending decides how it is compressed.
///
/// # Errors
/// When nothing of the run is there, something is damaged, or the archive cannot be written; then there is no file.
pub fn export(run: &Frozen, store: &Store, path: &Path, contents: Contents) -> Result<Exported> {
    let compression = Compression::by_name(path)?;
    let mut entries: BTreeMap<String, (Entry, FileRecord)> = BTreeMap::new();
    let mut add = |name: String, bytes: Vec<u8>| {
        let record = FileRecord { bytes: bytes.len() as u64, blake3: blake3::hash(&bytes).to_hex().to_string() };
        entries.insert(name, (Entry::Bytes(bytes), record));
    };
    let frozen = store.run_dir(&run.id).join("run.json");
    add(
        format!("runs/{}/run.json", run.id),
        fs::read(&frozen).with_context(|| format!("cannot read `{}`", frozen.display()))?,
    );
    for (index, point) in run.experiment.points.iter().enumerate() {
        let text = format!("# {}\n\n{}", point.name, to_toml(&point.recipe));
        add(format!("recipes/{index}.toml"), text.into_bytes());
    }
    if run.experiment.is_sweep() {
        // A sweep's report is no result: it is made from them, here for whoever only unpacks the archive.
        let dir = tempfile::tempdir()?;
        sweep::write(&sweep_report(&run.experiment(store), store)?, dir.path())?;
        for name in names(dir.path())? {
            add(format!("report/{name}"), fs::read(dir.path().join(&name))?);
        }
    }
    if !contents.without_data {
        for hash in run.files.values() {
            let record = FileRecord::of(&store.kept(hash))?;
            ensure!(record.blake3 == *hash, "the store's copy `{}` is damaged", store.kept(hash).display());
            entries.insert(format!("files/{hash}"), (Entry::File(store.kept(hash)), record));
        }
    }
    let (mut results, mut missing) = (0, Vec::new());
    let ends = ends(&run.plan);
    for (node, end) in run.plan.nodes.iter().zip(ends) {
        if contents.report_only && !end {
            continue;
        }
        match store.find_verified(node.stage.name(), &node.key) {
            Lookup::Found(artefact) => {
                let folder = format!("results/{}/{}", node.stage, node.key);
                for (name, record) in &artefact.manifest.files {
                    let path = artefact.dir.join(name);
                    entries.insert(format!("{folder}/{name}"), (Entry::File(path), record.clone()));
                }
                let manifest = artefact.dir.join(MANIFEST);
                let record = FileRecord::of(&manifest)?;
                entries.insert(format!("{folder}/{MANIFEST}"), (Entry::File(manifest), record));
                results += 1;
            }
            Lookup::Missing => missing.push(node.label.clone()),
            Lookup::Damaged(error) => return Err(error.into()),
        }
    }
    ensure!(results > 0, "run `{}` has no results yet", run.id);

    // A kill leaves a file that is called unfinished.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = write(&unfinished, compression, run, entries)
        .and_then(|()| Ok(fs::rename(&unfinished, path)?))
        .with_context(|| format!("cannot write `{}`", path.display()));
    if written.is_err() {
        // The failure is told; what is left of it is not worth another.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    Ok(Exported { results, missing, bytes: fs::metadata(path)?.len() })
}

/// The names of the files in the folder `dir` and in those below it.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            found.extend(names(&entry.path())?.into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    Ok(found)
}

/// Whether nothing is made from each node.
fn ends(plan: &Plan) -> Vec<bool> {
    let mut ends = vec![true; plan.nodes.len()];
    for input in plan.nodes.iter().flat_map(|node| &node.inputs) {
        ends[input.node] = false;
    }
    ends
}

fn write(
    path: &Path,
    compression: Compression,
    run: &Frozen,
    entries: BTreeMap<String, (Entry, FileRecord)>,
) -> Result<()> {
    let records = entries.iter().map(|(name, (_, record))| (name.clone(), record.clone())).collect();
    let index = serde_json::to_vec_pretty(&Index { format: FORMAT, run: run.id.clone(), entries: records })?;
    let mut tar = tar::Builder::new(compression.writer(File::create(path)?)?);
    append(&mut tar, INDEX, index.len() as u64, index.as_slice())?;
    for (name, (entry, record)) in entries {
        match entry {
            Entry::Bytes(bytes) => append(&mut tar, &name, record.bytes, bytes.as_slice())?,
            Entry::File(path) => append(&mut tar, &name, record.bytes, File::open(path)?)?,
        }
    }
    Ok(tar.into_inner()?.finish()?)
}

/// An entry that says nothing of who wrote it and when.
fn append(tar: &mut tar::Builder<Writer>, name: &str, bytes: u64, data: impl Read) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(0);
    Ok(tar.append_data(&mut header, name, data)?)
}
