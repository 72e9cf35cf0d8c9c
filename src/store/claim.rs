//! Who computes a key: one claim at a time, under a token that only grows.
//!
//! `partial/<key>/` holds `<token>.claim` (its owner, then a dot for every beat of its heart) and `<token>-<nonce>/`, where
//! the owner works. A new owner renames the folder of the one before to its own name, checkpoint included: from then on the
//! earlier owner, should it still be alive, can neither write nor publish. That rename is the fence; no two clocks are ever
//! compared. What a working folder holds is `workspace`'s.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::at;
use super::workspace::CHECKPOINT;
use super::{Checkpoints, Error, entries, remove};

/// How the processes that share a store tell that one of them is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Whether the operating system's file locks are to be believed among processes of one machine.
    pub locks: bool,
    /// Time between two beats of a claim.
    pub beat: Duration,
    /// Silence after which another machine's claim counts as dead, in the waiting process's own time.
    pub patience: Duration,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { locks: true, beat: Duration::from_secs(5), patience: Duration::from_mins(1) }
    }
}

impl Sharing {
    /// Locks are not believed, and a claim is dead after `patience` without a beat.
    #[must_use]
    pub fn by_beats_alone(patience: Duration) -> Self {
        Self { locks: false, beat: patience / 12, patience }
    }

    /// How often a waiting process looks at a claim.
    fn look_every(&self) -> Duration {
        (self.patience / 20).min(Duration::from_secs(1))
    }
}

/// A process that computes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its machine's name.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The machine since it was started, as far as that can be told: processes that agree on it share their locks.
    machine: String,
    /// Tells apart claims of one process, and those of equal tokens once all had been removed.
    nonce: u32,
}

impl Owner {
    /// This process, in a new claim.
    fn new() -> Self {
        let (host, machine) = here().clone();
        Self { host, machine, pid: std::process::id(), nonce: RandomState::new().hash_one(()) as u32 }
    }

    /// Whether its file locks are to be seen from here.
    pub(super) fn is_of_this_machine(&self) -> bool {
        self.machine == here().1
    }
}

/// This machine's name, and the machine since it was started.
fn here() -> &'static (String, String) {
    static HERE: OnceLock<(String, String)> = OnceLock::new();
    HERE.get_or_init(|| {
        let read = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let host = read("/proc/sys/kernel/hostname").or_else(uname).unwrap_or_default();
        let machine = read("/proc/sys/kernel/random/boot_id").unwrap_or_else(|| host.clone());
        (host, machine)
    })
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on `{}`", self.pid, self.host)
    }
}

fn uname() -> Option<String> {
    let output = Command::new("uname").arg("-n").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A claim that is held: its heart beats until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// The folder of the key's claims.
    dir: PathBuf,
    token: u64,
    owner: Owner,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What a waiting process sees of a claim.
#[derive(PartialEq, Eq)]
struct Pulse {
    token: u64,
    owner: Option<Owner>,
    beats: usize,
}

/// What stands in a key's folder.
#[derive(Default)]
struct Survey {
    claims: BTreeSet<u64>,
    folders: BTreeSet<(u64, String)>,
    /// Left by a kill between two steps, or by an older version.
    junk: Vec<String>,
}

impl Survey {
    fn of(dir: &Path) -> Result<Self, Error> {
        let mut survey = Self::default();
        for name in entries(dir)? {
            if let Some(token) = name.strip_suffix(".claim").and_then(|token| token.parse().ok()) {
                survey.claims.insert(token);
            } else if let Some(token) = name.split_once('-').and_then(|(token, _)| token.parse().ok()) {
                survey.folders.insert((token, name));
            } else {
                survey.junk.push(name);
            }
        }
        Ok(survey)
    }

    /// The highest token so far.
    fn last(&self) -> u64 {
        self.claims.iter().chain(self.folders.iter().map(|(token, _)| token)).max().copied().unwrap_or(0)
    }
}

/// Claims what `dir` is the folder of; none when `wait`, asked at every look at a living claim, no longer does.
pub(super) fn take(
    dir: &Path,
    sharing: Sharing,
    mut wait: impl FnMut(Option<&Owner>) -> bool,
) -> Result<Option<Held>, Error> {
    let (mut last, mut silence): (Option<Pulse>, _) = (None, Duration::ZERO);
    loop {
        let survey = Survey::of(dir)?;
        if let Some(pulse) = survey.claims.last().and_then(|&token| look(dir, token)) {
            // Who holds the lock knows that nobody else on this machine is alive.
            let is_dead = sharing.locks && pulse.owner.as_ref().is_some_and(Owner::is_of_this_machine);
            // Looks are counted, not time: who was stopped itself has seen nothing meanwhile.
            silence = if last.as_ref() == Some(&pulse) { silence + sharing.look_every() } else { Duration::ZERO };
            if !is_dead && silence < sharing.patience {
                if !wait(pulse.owner.as_ref()) {
                    return Ok(None);
                }
                last = Some(pulse);
                thread::sleep(sharing.look_every());
                continue;
            }
        }
        if let Some(held) = Held::new(dir, survey.last() + 1, sharing)? {
            return Ok(Some(held));
        }
    }
}

/// The owner of the newest claim in `dir`, where it is known.
pub(super) fn owner(dir: &Path) -> Option<Owner> {
    let survey = Survey::of(dir).ok()?;
    survey.claims.last().and_then(|&token| look(dir, token)?.owner)
}

/// When the newest claim in `dir` last beat, by the file system's clock: to show, and to be careful, not to decide by.
pub(super) fn last_beat(dir: &Path) -> Option<SystemTime> {
    let token = Survey::of(dir).ok()?.claims.last().copied()?;
    fs::metadata(path(dir, token)).ok()?.modified().ok()
}

/// The step of the last good checkpoint in `dir`, whoever saved it.
pub(super) fn latest_step(dir: &Path) -> Option<usize> {
    let folders = Survey::of(dir).ok()?.folders;
    folders.iter().filter_map(|(_, folder)| checkpoints(dir, folder).latest_step()).max()
}

fn checkpoints(dir: &Path, folder: &str) -> Checkpoints {
    Checkpoints::new(dir.join(folder).join(CHECKPOINT))
}

fn path(dir: &Path, token: u64) -> PathBuf {
    dir.join(format!("{token}.claim"))
}

/// None where the claim was given up; an owner that is not (wholly) written is none.
fn look(dir: &Path, token: u64) -> Option<Pulse> {
    let bytes = fs::read(path(dir, token)).ok()?;
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Some(Pulse { token, owner: serde_json::from_slice(line).ok(), beats: bytes.len() })
}

impl Held {
    /// The claim `token`, with what earlier owners left; none when somebody else was faster.
    fn new(dir: &Path, token: u64, sharing: Sharing) -> Result<Option<Self>, Error> {
        fs::create_dir_all(dir).map_err(at("create", dir))?;
        let path = path(dir, token);
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            // Taken, or the folder was removed by who has just finished.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(at("create", &path)(error)),
        };
        let owner = Owner::new();
        let mut held = Self { dir: dir.to_owned(), token, owner, heart: None };
        let line = serde_json::json!(held.owner).to_string() + "\n";
        if let Err(error) = file.write_all(line.as_bytes()) {
            // A claim that names nobody would be waited for.
            let _ = fs::remove_file(&path);
            return Err(at("write", &path)(error));
        }
        // Whoever looked long ago may have created a token that has been passed since.
        if Survey::of(dir)?.claims.last() != Some(&token) {
            return Ok(None);
        }
        held.take_over()?;
        held.beat(sharing.beat);
        Ok(Some(held))
    }

    /// The folder to work in.
    pub(super) fn folder(&self) -> PathBuf {
        self.dir.join(format!("{}-{:08x}", self.token, self.owner.nonce))
    }

    /// Refuses with the owner, where it is known, if that is no longer this claim.
    pub(super) fn check(&self) -> Result<(), Option<Owner>> {
        // What cannot be looked at cannot be judged; the fence does not need this check.
        let Ok(survey) = Survey::of(&self.dir) else { return Ok(()) };
        let owner = survey.claims.last().and_then(|&token| look(&self.dir, token)?.owner);
        if owner.as_ref() == Some(&self.owner) { Ok(()) } else { Err(owner) }
    }

    /// Gives the claim up together with its folder, for want of anything to compute.
    pub(super) fn discard(self) -> Result<(), Error> {
        remove(&self.folder())
    }

    /// Fences off all earlier owners and makes the folder with the newest checkpoint this claim's.
    fn take_over(&self) -> Result<(), Error> {
        let Survey { claims, folders, junk } = Survey::of(&self.dir)?;
        let old = claims.range(..self.token).map(|token| path(&self.dir, *token));
        for junk in junk.iter().map(|name| self.dir.join(name)).chain(old) {
            remove(&junk)?;
        }
        let mut earlier: Vec<_> = folders.into_iter().filter(|(token, _)| *token < self.token).collect();
        earlier.sort_by_key(|(_, folder)| Reverse(checkpoints(&self.dir, folder).latest_step()));
        let mut target = self.folder();
        for (_, folder) in &earlier {
            match fs::rename(self.dir.join(folder), &target) {
                // All others are moved out of their owners' reach before they are removed: one that is removed where it
                // stands could be published half.
                Ok(()) if target != self.folder() => remove(&target)?,
                Ok(()) => target = self.dir.join("old"),
                // It was published while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at("rename", &self.dir.join(folder))(error)),
            }
        }
        let checkpoints = self.folder().join(CHECKPOINT);
        fs::create_dir_all(&checkpoints).map_err(at("create", &checkpoints))
    }

    /// Lets the heart beat: a thread that ends with the claim.
    fn beat(&mut self, every: Duration) {
        let (path, (end, ended)) = (path(&self.dir, self.token), mpsc::channel::<()>());
        let heart = move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                // Without a beat the claim looks dead to other machines, and the fence does the rest.
                let beaten = File::options().append(true).open(&path).and_then(|mut file| file.write_all(b"."));
                if beaten.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                    break;
                }
            }
        };
        // A claim that cannot beat is still good on this machine.
        self.heart = thread::Builder::new().spawn(heart).ok().map(|thread| (end, thread));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.heart.take() {
            drop(end);
            // It cannot panic, and there would be nothing to do about it.
            let _ = thread.join();
        }
        // Nothing hangs on what cannot be removed here: the next owner tidies up.
        if look(&self.dir, self.token).and_then(|pulse| pulse.owner).as_ref() == Some(&self.owner) {
            let _ = fs::remove_file(path(&self.dir, self.token));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(dir: &Path, sharing: Sharing) -> Option<Held> {
        take(dir, sharing, |_| false).unwrap()
    }

    #[test]
    fn a_claim_whose_heart_beats_is_not_taken_and_one_that_is_given_up_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("key");
        let sharing = Sharing::by_beats_alone(Duration::from_secs(1));
        let held = now(&dir, sharing).unwrap();
        let mut looks = 0;
        let other = take(&dir, sharing, |owner| {
            assert_eq!(owner, Some(&held.owner));
            looks += 1;
            // Twice the patience.
            looks < 40
        });
        assert!(other.unwrap().is_none() && held.check().is_ok());
        drop(held);
        assert_eq!(now(&dir, sharing).unwrap().token, 2);
    }

    #[test]
    fn who_holds_the_lock_takes_over_at_once_and_fences_the_earlier_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = now(dir.path(), Sharing::default()).unwrap();
        let checkpoints = |held: &Held| Checkpoints::new(held.folder().join(CHECKPOINT));
        checkpoints(&first).save(5, &[("weights", b"five")]).unwrap();
        let second = now(dir.path(), Sharing::default()).unwrap();
        assert_eq!((first.token, second.token), (1, 2));
        assert_eq!(first.check(), Err(Some(second.owner.clone())));
        assert!(checkpoints(&first).save(6, &[]).is_err(), "there is no place left to write to");
        assert_eq!((checkpoints(&second).latest_step(), latest_step(dir.path())), (Some(5), Some(5)));
        drop(first);
        assert!(second.check().is_ok(), "the earlier owner gives up nothing but its own");
        assert_eq!(owner(dir.path()), Some(second.owner.clone()));
    }

    #[test]
    fn a_claim_that_says_nothing_is_dead_after_the_patience() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path(), 7), "").unwrap();
        let sharing = Sharing { patience: Duration::from_millis(100), ..Sharing::default() };
        let (mut looks, mut unknown) = (0, true);
        let held = take(dir.path(), sharing, |owner| {
            looks += 1;
            unknown &= owner.is_none();
            true
        });
        assert_eq!((held.unwrap().unwrap().token, unknown), (8, true));
        assert_eq!(looks, 20);
    }
}
