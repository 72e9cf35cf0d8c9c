//! Checkpoints of a training stage: where it was, so that a resume goes on from there.
//!
//! Keeps the last few. What a checkpoint holds (weights, optimizer and random state, place in the data) is the
//! trainer's to know; files are bytes here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::durable::{sync_dir, write};
use super::error::at;
use super::{Error, entries, remove};

/// Checksums of a checkpoint's files.
const SUMS: &str = "checksums.json";

/// A checkpoint's files: name to bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The checkpoints of one stage.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in `dir`, which must exist before the first is saved.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, keep: 1 }
    }

    /// The same checkpoints, the last `keep` of which are kept (at least one).
    #[must_use]
    pub fn keeping(self, keep: usize) -> Self {
        Self { keep: keep.max(1), ..self }
    }

    /// The folder of the checkpoint after `step`.
    #[must_use]
    pub fn folder(&self, step: usize) -> PathBuf {
        self.dir.join(folder(step))
    }

    /// Saves `files` as the state after `step`, then removes all earlier checkpoints but the last few.
    ///
    /// # Errors
    /// When the files cannot be written; the earlier checkpoints then stay.
    pub fn save(&self, step: usize, files: &[(&str, &[u8])]) -> Result<(), Error> {
        let name = folder(step);
        let temporary = self.dir.join(format!("writing-{name}"));
        remove(&temporary)?;
        if let Err(error) = write_all(&temporary, files) {
            // Half a checkpoint is of no use, and its space may be what is missing.
            let _ = remove(&temporary);
            return Err(error);
        }
        let target = self.dir.join(&name);
        remove(&target)?;
        fs::rename(&temporary, &target).map_err(at("rename to", &target))?;
        sync_dir(&self.dir)?;
        // Zeros in front make the order of names that of steps. A later step is a damaged one that was passed over.
        let names = entries(&self.dir)?;
        let good = names.iter().rev().filter(|other| step_of(other).is_some() && **other <= name);
        let kept: Vec<_> = good.take(self.keep).collect();
        for other in names.iter().filter(|other| !kept.contains(other)) {
            remove(&self.dir.join(other))?;
        }
        Ok(())
    }

    /// The last good checkpoint: its step and its files by name.
    ///
    /// A checkpoint that was not wholly written or has changed since is passed over, and `damaged` told its step: starting
    /// again is right, going on from noise is not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn latest(&self, mut damaged: impl FnMut(usize)) -> Result<Option<(usize, Files)>, Error> {
        let mut steps: Vec<usize> = entries(&self.dir)?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps.into_iter().rev().find_map(|step| {
            let files = self.read(step);
            if files.is_none() {
                damaged(step);
            }
            Some((step, files?))
        }))
    }

    /// The step of the last good checkpoint.
    #[must_use]
    pub fn latest_step(&self) -> Option<usize> {
        self.latest(|_| ()).ok().flatten().map(|(step, _)| step)
    }

    fn read(&self, step: usize) -> Option<Files> {
        let dir = self.dir.join(folder(step));
        let sums: BTreeMap<String, String> = serde_json::from_slice(&fs::read(dir.join(SUMS)).ok()?).ok()?;
        sums.into_iter()
            .map(|(name, sum)| {
                let bytes = fs::read(dir.join(&name)).ok()?;
                (blake3::hash(&bytes).to_hex().as_str() == sum).then_some((name, bytes))
            })
            .collect()
    }
}

/// Writes `files` and their checksums into a new folder `dir`, whose parent exists: were it gone, another process would
/// have taken it.
fn write_all(dir: &Path, files: &[(&str, &[u8])]) -> Result<(), Error> {
    fs::create_dir(dir).map_err(at("create", dir))?;
    let mut sums = BTreeMap::new();
    for (name, bytes) in files {
        write(&dir.join(name), bytes)?;
        sums.insert(*name, blake3::hash(bytes).to_hex().to_string());
    }
    write(&dir.join(SUMS), serde_json::json!(sums).to_string().as_bytes())?;
    sync_dir(dir)
}

fn folder(step: usize) -> String {
    format!("step-{step:08}")
}

fn step_of(folder: &str) -> Option<usize> {
    folder.strip_prefix("step-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints() -> (tempfile::TempDir, Checkpoints) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned());
        (dir, checkpoints)
    }

    #[test]
    fn the_latest_is_what_was_saved_last() {
        let (_dir, checkpoints) = checkpoints();
        assert!(checkpoints.latest(|_| ()).unwrap().is_none());
        checkpoints.save(9, &[("weights", b"nine")]).unwrap();
        checkpoints.save(10, &[("weights", b"ten"), ("rng", b"\0\xff")]).unwrap();
        let (step, files) = checkpoints.latest(|_| ()).unwrap().unwrap();
        assert_eq!(step, 10);
        assert_eq!(files["weights"], b"ten");
        assert_eq!(files["rng"], b"\0\xff");
        assert_eq!(entries(&checkpoints.dir).unwrap(), ["step-00000010"]);
    }

    #[test]
    fn as_many_are_kept_as_asked_for_and_none_beyond_the_step() {
        let (_dir, checkpoints) = checkpoints();
        let checkpoints = checkpoints.keeping(2);
        for step in [10, 20, 40, 30] {
            checkpoints.save(step, &[]).unwrap();
        }
        assert_eq!(entries(&checkpoints.dir).unwrap(), ["step-00000020", "step-00000030"]);
        fs::remove_file(checkpoints.folder(30).join(SUMS)).unwrap();
        assert_eq!(checkpoints.latest_step(), Some(20), "what stands before a damaged one serves");
    }

    #[test]
    fn a_kill_while_saving_leaves_the_one_before() {
        let (_dir, checkpoints) = checkpoints();
        checkpoints.save(20, &[("weights", b"twenty")]).unwrap();
        let half = checkpoints.dir.join("writing-step-00000040");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("weights"), b"for").unwrap();
        assert_eq!(checkpoints.latest_step(), Some(20));
        checkpoints.save(40, &[("weights", b"forty")]).unwrap();
        assert_eq!(checkpoints.latest(|_| ()).unwrap().unwrap().1["weights"], b"forty");
    }

    #[test]
    fn a_changed_checkpoint_is_passed_over() {
        let (_dir, checkpoints) = checkpoints();
        checkpoints.save(20, &[("weights", b"twenty")]).unwrap();
        fs::write(checkpoints.dir.join("step-00000020/weights"), b"twentY").unwrap();
        let mut damaged = Vec::new();
        assert!(checkpoints.latest(|step| damaged.push(step)).unwrap().is_none());
        assert_eq!(damaged, [20]);
    }
}
