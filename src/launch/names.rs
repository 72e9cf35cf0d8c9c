//! Names for runs: tags, and what a person may write where a run is meant.
//!
//! A tag is a file of the store that holds a run's id; nothing else knows of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::{Frozen, Summaries};
use crate::store::{Store, write_atomically};

/// Fewest letters that name a run by the beginning of its id.
const PREFIX: usize = 4;

/// Most letters of a tag.
const LONGEST: usize = 64;

/// All tags of `store`, with the ids that they name.
///
/// # Errors
/// When the store cannot be read.
pub fn tags(store: &Store) -> Result<BTreeMap<String, String>> {
    let folder = folder(store);
    let Ok(listing) = fs::read_dir(&folder) else { return Ok(BTreeMap::new()) };
    let mut tags = BTreeMap::new();
    for entry in listing {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_tag(name)) else { continue };
        let id = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        tags.insert(name.to_owned(), id.trim().to_owned());
    }
    Ok(tags)
}

/// Lets `tag` name the run `id`, whatever it named before.
///
/// # Errors
/// When `tag` is no name, or names something else already; when the store is not writable.
pub fn tag(store: &Store, id: &str, tag: &str) -> Result<()> {
    ensure!(
        is_tag(tag),
        "expected a tag of letters, digits, `-` and `_` that begins with a letter, at most {LONGEST} of them, found `{tag}`"
    );
    let runs = store.runs()?;
    ensure!(!runs.iter().any(|id| id == tag), "`{tag}` is the id of a run");
    Ok(write_atomically(&folder(store).join(tag), format!("{id}\n").as_bytes())?)
}

/// Takes `tag` away; the run stays.
///
/// # Errors
/// When there is no such tag, or the store is not writable.
pub fn untag(store: &Store, tag: &str) -> Result<()> {
    let known = tags(store)?;
    if !known.contains_key(tag) {
        let known: Vec<_> = known.keys().map(|tag| format!("`{tag}`")).collect();
        bail!("no tag `{tag}`; there are {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
    }
    let path = folder(store).join(tag);
    fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))
}

/// The run that `name` names: an id, a tag, a recipe (its last active run), or the beginning of one id. None if there is
/// none.
///
/// # Errors
/// When several ids begin so, or the run cannot be read.
pub fn find(store: &Store, name: &str) -> Result<Option<Frozen>> {
    let ids = store.runs()?;
    let open = |id: &String| Frozen::open(id, store).map(Some);
    if let Some(id) = ids.iter().find(|id| *id == name) {
        return open(id);
    }
    if let Some(id) = tags(store)?.get(name) {
        ensure!(ids.contains(id), "tag `{name}` names the run `{id}`, which is gone");
        return open(id);
    }
    // A recipe's runs are its name, a dash and digits: others need not be read.
    let named = ids.iter().filter(|id| id.rsplit_once('-').is_some_and(|(recipe, _)| recipe == name));
    let summaries = Summaries::of(store);
    let mut named = named.map(|id| summaries.get(id)).collect::<Result<Vec<_>>>()?;
    named.sort_by(|a, b| b.active.total_cmp(&a.active));
    if let Some(newest) = named.first() {
        return open(&newest.id);
    }
    let begun: Vec<_> = ids.iter().filter(|id| name.len() >= PREFIX && id.starts_with(name)).collect();
    match begun.as_slice() {
        [] => Ok(None),
        [id] => open(id),
        several => {
            let several: Vec<_> = several.iter().map(|id| format!("\n  {id}")).collect();
            bail!("`{name}` names {} runs:{}", several.len(), several.concat())
        }
    }
}

fn is_tag(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= LONGEST
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn folder(store: &Store) -> PathBuf {
    store.root().join("tags")
}
