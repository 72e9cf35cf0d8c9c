//! Results on disk, named by what was computed.
//!
//! A result is a folder `results/<stage>/<key>/`; its `manifest.json` is there if and only if the result is complete. Work
//! in progress stands in `partial/<key>/` and is renamed when it is done, so that a kill at any moment leaves nothing that
//! looks finished. Locks are the operating system's and die with the process; claims are files and serve where locks do not
//! reach. What a stage is and when it runs is `stage`'s.

mod artefact;
mod checkpoint;
mod claim;
mod durable;
mod error;
mod files;
mod format;
mod guard;
mod key;
mod manifest;
mod provenance;
mod workspace;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub use artefact::Artefact;
pub use checkpoint::Checkpoints;
pub use claim::{Owner, Sharing};
pub use durable::write_atomically;
pub use error::Error;
pub use files::hash_of;
pub use guard::{Guard, Place, bytes_of};
pub use key::{Key, canonical_json};
pub use manifest::{FileRecord, Manifest};
pub use provenance::Provenance;
pub use workspace::{Identity, Workspace};

use error::at;

/// The file whose presence makes a result complete.
pub const MANIFEST: &str = "manifest.json";

/// How often who waits for a lock looks again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Files whose checksum was found right in this process.
type Verified = Arc<Mutex<BTreeSet<PathBuf>>>;

/// A folder of results, shared by any number of recipes and processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    device: String,
    sharing: Sharing,
    verified: Verified,
}

/// What the store holds under a key.
#[derive(Debug)]
pub enum Lookup {
    /// No complete result.
    Missing,
    /// A complete result; its files have the sizes that the manifest names.
    Found(Artefact),
    /// Something that says it is complete and is not; counts as missing.
    Damaged(Error),
}

/// What a stage that wants to compute a result gets.
#[derive(Debug)]
pub enum Claim {
    /// Somebody else finished it meanwhile.
    Done(Artefact),
    /// Nobody has: the key is claimed for this workspace until it is finished or dropped.
    Work(Box<Workspace>),
    /// Another process holds the key, and this one no longer waits for it.
    GivenUp,
}

impl Store {
    /// Opens the store at `root`; nothing is created before there is something to write.
    ///
    /// # Errors
    /// When `root` is there and is no folder, or a store of a newer version.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        if root.exists() && !root.is_dir() {
            return Err(at("open the store", &root)(io::ErrorKind::NotADirectory.into()));
        }
        format::check(&root)?;
        let (device, sharing, verified) = ("unknown".to_owned(), Sharing::default(), Verified::default());
        Ok(Self { root, device, sharing, verified })
    }

    /// The same store, with other means to tell that a process is gone.
    #[must_use]
    pub const fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// The same store, with `device` as the device that new manifests name.
    #[must_use]
    pub fn on_device(mut self, device: impl Into<String>) -> Self {
        self.device = device.into();
        self
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks for the result of `stage` under `key`; compares sizes, reads no file but the manifest.
    #[must_use]
    pub fn find(&self, stage: &str, key: &Key) -> Lookup {
        let dir = self.result_dir(stage, key);
        match Artefact::open(&dir, stage, key, Arc::clone(&self.verified)) {
            Ok(Some(artefact)) => Lookup::Found(artefact),
            Ok(None) => Lookup::Missing,
            Err(error) => Lookup::Damaged(error),
        }
    }

    /// Like [`Store::find`], and compares every file's checksum with the manifest (once in a process).
    #[must_use]
    pub fn find_verified(&self, stage: &str, key: &Key) -> Lookup {
        match self.find(stage, key) {
            Lookup::Found(artefact) => match artefact.verify() {
                Ok(()) => Lookup::Found(artefact),
                Err(error) => Lookup::Damaged(error),
            },
            other => other,
        }
    }

    /// Claims `identity`'s key to compute its result; while another process holds it, asks `wait` again and again whether
    /// to go on waiting, and tells it who that is where it is known.
    ///
    /// The workspace starts empty but for the checkpoint that an interrupted run left.
    ///
    /// # Errors
    /// When the claim or the working folder cannot be had.
    pub fn claim(&self, identity: Identity, mut wait: impl FnMut(Option<&Owner>) -> bool) -> Result<Claim, Error> {
        format::mark(&self.root)?;
        let partial = self.partial_dir(&identity.key);
        let mut sharing = self.sharing;
        let mut lock = None;
        if sharing.locks {
            match self.lock(&identity.key, || wait(claim::owner(&partial).as_ref()))? {
                Lock::Held(file) => lock = Some(file),
                Lock::GivenUp => return Ok(Claim::GivenUp),
                Lock::Unsupported => sharing.locks = false,
            }
        }
        let Some(held) = claim::take(&partial, sharing, wait)? else { return Ok(Claim::GivenUp) };
        // From here on nobody else can publish: what is not there now has to be computed.
        if let Lookup::Found(artefact) = self.find_verified(&identity.stage, &identity.key) {
            held.discard()?;
            return Ok(Claim::Done(artefact));
        }
        let target = self.result_dir(&identity.stage, &identity.key);
        let verified = Arc::clone(&self.verified);
        Workspace::begin(identity, self.device.clone(), target, (held, lock), verified)
            .map(|workspace| Claim::Work(Box::new(workspace)))
    }

    /// The step at which an unfinished computation of `key` last wrote a checkpoint.
    #[must_use]
    pub fn interrupted_at(&self, key: &Key) -> Option<usize> {
        claim::latest_step(&self.partial_dir(key))
    }

    /// Every complete result, ordered by stage and key; damaged ones are left out.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn all(&self) -> Result<Vec<Artefact>, Error> {
        let mut found = Vec::new();
        for stage in folders(&self.root.join("results"))? {
            for key in folders(&self.root.join("results").join(&stage))? {
                if let Some(key) = Key::parse(&key)
                    && let Lookup::Found(artefact) = self.find(&stage, &key)
                {
                    found.push(artefact);
                }
            }
        }
        Ok(found)
    }

    /// The file in which the last plan of the recipe `name` is remembered.
    #[must_use]
    pub fn recipe_record(&self, name: &str) -> PathBuf {
        self.root.join("recipes").join(format!("{name}.json"))
    }

    /// Names of the recipes whose plan is remembered, in alphabetical order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn recipes(&self) -> Result<Vec<String>, Error> {
        let names = entries(&self.root.join("recipes"))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
    }

    fn result_dir(&self, stage: &str, key: &Key) -> PathBuf {
        self.root.join("results").join(stage).join(key.as_str())
    }

    fn partial_dir(&self, key: &Key) -> PathBuf {
        self.root.join("partial").join(key.as_str())
    }

    fn lock(&self, key: &Key, mut wait: impl FnMut() -> bool) -> Result<Lock, Error> {
        let folder = self.root.join("locks");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        let path = folder.join(format!("{key}.lock"));
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(at("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock::Held(file)),
                Err(TryLockError::WouldBlock) if wait() => thread::sleep(LOOK_EVERY),
                Err(TryLockError::WouldBlock) => return Ok(Lock::GivenUp),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Lock::Unsupported);
                }
                Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
            }
        }
    }
}

/// What became of a key's lock.
enum Lock {
    Held(File),
    GivenUp,
    /// The file system has none.
    Unsupported,
}

/// Names in the folder `dir`, sorted; none where it does not exist.
fn entries(dir: &Path) -> Result<Vec<String>, Error> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("read", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in listing {
        names.push(entry.map_err(at("read", dir))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Names of the folders in the folder `dir`, sorted.
fn folders(dir: &Path) -> Result<Vec<String>, Error> {
    Ok(entries(dir)?.into_iter().filter(|name| dir.join(name).is_dir()).collect())
}

/// Removes the folder or file `path` if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}
