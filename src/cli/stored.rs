//! What `runner generate` and `runner score` share: finding a model, reading JSON Lines.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use clap::Args;
use serde::de::DeserializeOwned;

use super::output::Failure;
use super::{StoreArgs, devices, inspect};
use crate::compute::DeviceName;
use crate::model::pretrained::CONFIG;
use crate::stage::{Opened, Part};
use crate::store::{Artefact, Key, Lookup, Store};

/// The model, for every command that uses one.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// A stage's label, the first digits of a key, the folder of a result, or a checkpoint folder with a `config.json`
    #[arg(long, value_name = "KEY-OR-LABEL-OR-DIR")]
    pub(super) model: String,
    /// Where a checkpoint folder is computed; a result says itself
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub(super) device: DeviceName,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

impl ModelArgs {
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        self.open_part(Part::Main)
    }

    /// One of a result's networks; a folder has one only.
    pub(super) fn open_part(&self, part: Part) -> Result<Opened, Failure> {
        let dir = Path::new(&self.model);
        let refused = |error: anyhow::Error| Failure::usage(format!("`{}`: {error:#}", self.model));
        if dir.join(CONFIG).is_file() {
            if part != Part::Main {
                return Err(Failure::usage(format!(
                    "`{}`: expected a result of a run, found a checkpoint folder",
                    self.model
                )));
            }
            devices::require(&[self.device]).map_err(refused)?;
            return Opened::checkpoint(dir, self.device).map_err(refused);
        }
        let (store, artefact) = if dir.is_dir() {
            folder(dir)?
        } else {
            let store = self.store.open()?;
            let artefact = inspect::find(&store, &self.model)?;
            (store, artefact)
        };
        Opened::open(&store, &artefact, part).map_err(refused)
    }
}

/// The result in the folder `dir`, and the store that it lies in.
fn folder(dir: &Path) -> Result<(Store, Artefact), Failure> {
    let shown = dir.display();
    let no_result = || {
        Failure::usage(format!(
            "expected the folder of a result (`STORE/results/STAGE/KEY`) or of a checkpoint (with a `{CONFIG}`), found `{shown}`"
        ))
    };
    let dir = dir.canonicalize().map_err(|error| Failure::usage(format!("cannot open `{shown}`: {error}")))?;
    let name = |dir: Option<&Path>| Some(dir?.file_name()?.to_str()?.to_owned());
    let key = name(Some(&dir)).and_then(|name| Key::parse(&name)).ok_or_else(no_result)?;
    let stage = name(dir.parent()).ok_or_else(no_result)?;
    let root = dir.ancestors().nth(3).ok_or_else(no_result)?;
    let store = Store::open(root)?;
    match store.find(&stage, &key) {
        Lookup::Found(artefact) => Ok((store, artefact)),
        Lookup::Missing => Err(no_result()),
        Lookup::Damaged(error) => Err(error.into()),
    }
}

/// The rows of a JSON Lines file, each with its line's number from 1; `-` is stdin, blank lines are passed over.
pub(super) fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, Failure> {
    let refused = |error: io::Error| Failure::usage(format!("cannot read `{}`: {error}", path.display()));
    let mut text = String::new();
    if path.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text).map_err(refused)?;
    } else {
        text = fs::read_to_string(path).map_err(refused)?;
    }
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(number, line)| match serde_json::from_str(line) {
        Ok(row) => Ok((number, row)),
        Err(error) => Err(fault(path, number, error)),
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        return Err(Failure::usage(format!("`{}`: expected at least one line, found none", path.display())));
    }
    Ok(rows)
}

/// What is wrong with a line of `path`.
pub(super) fn fault(path: &Path, line: usize, error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("`{}`, line {line}: {error}", path.display()))
}

/// Refuses ids that `model` does not know.
pub(super) fn known(ids: &[u32], key: &str, model: &Opened) -> Result<(), String> {
    let vocab = model.vocab_size();
    match ids.iter().find(|&&id| id as usize >= vocab) {
        Some(id) => Err(format!("expected `{key}` below {vocab} (rows of the embedding), found {id}")),
        None => Ok(()),
    }
}
