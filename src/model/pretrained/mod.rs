//! Checkpoints of the Hugging Face `transformers`: folders with a `config.json` and safetensors files, in and out.
//!
//! What a `config.json` means stands in `config`, what families call their tensors in `family`. Tokenizers are left to
//! `text`, finding folders to those who ask.

mod base;
mod config;
mod family;
mod files;
mod keys;
mod peft;
mod rope;
mod save;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::Value;

pub use base::{Base, Origin, Start};
pub use config::{Description, Purpose, describe};
pub use family::Family;
pub use peft::{lora, save_adapter};
pub use save::{fresh_config, save, with_bias, with_head};

use self::family::{Entry, Form, layout};
use super::Model;
use super::architecture::Head;
use super::mapped::Located;

/// The name of the description in a folder.
pub const CONFIG: &str = "config.json";

/// Reads the `config.json` of the folder `dir`.
///
/// # Errors
/// When there is none, or it is no JSON.
pub fn read_config(dir: &Path) -> Result<Value> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in `{}`", path.display()))
}

/// The id or ids at `key` of a config; some say -1, which is none.
///
/// # Errors
/// When it is neither an id nor a list of ids.
pub fn ids(config: &Value, key: &str) -> Result<Option<Vec<u32>>> {
    let parsed = match config.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(several)) => several.iter().map(|id| u32::deserialize(id).ok()).collect(),
        Some(one) if one.as_i64().is_some_and(|id| id < 0) => return Ok(None),
        Some(one) => u32::deserialize(one).ok().map(|id| vec![id]),
    };
    parsed.map(Some).with_context(|| format!("`{key}`: expected an id or a list of ids, found {}", config[key]))
}

/// Names of the files that hold the weights of the folder `dir`, in order.
///
/// # Errors
/// When there are none, or the index names files that are not there.
pub fn weight_files(dir: &Path) -> Result<Vec<String>> {
    files::weight_files(dir)
}

/// Reads the weights of the folder `dir`, which `description` describes, widened to `f32`.
///
/// # Errors
/// When tensors are missing, left over (buffers that older versions stored are passed over), or of another shape or type:
/// all of them are listed.
pub fn load(dir: &Path, description: &Description, device: &Device) -> Result<Model> {
    read(dir, description, device).with_context(|| format!("in checkpoint `{}`", dir.display()))
}

fn read(dir: &Path, description: &Description, device: &Device) -> Result<Model> {
    let found = prefixed(files::tensors(dir)?, description);
    let entries = layout(description);
    agree(&entries, &found, description)?;
    let count = entries.iter().map(|entry| entry.parts.len()).sum();
    let mut weights: Vec<Option<Tensor<2>>> = vec![None; count];
    // The largest first: what is read of it stands beside little else.
    let mut order: Vec<(&Entry, &Located)> = entries.iter().map(|entry| (entry, &found[&entry.name])).collect();
    order.sort_by_key(|(_, located)| std::cmp::Reverse(located.bytes()));
    for (entry, located) in order {
        let parts = parts(entry, located).with_context(|| format!("tensor `{}`", entry.name))?;
        for (&(index, columns), values) in entry.parts.iter().zip(parts) {
            let data = TensorData::new(values, [entry.rows, columns]);
            weights[index] = Some(Tensor::from_data(data, device));
        }
    }
    let weights = weights.into_iter().collect::<Option<Vec<_>>>().context("a weight that no tensor holds")?;
    Ok(Model { config: description.architecture.clone(), weights, adapter: None })
}

type Found = std::collections::BTreeMap<String, Located>;

/// Base models are stored without the prefix that models with a head give them.
fn prefixed(found: Found, description: &Description) -> Found {
    let prefix = description.family.prefix();
    if found.keys().any(|name| name.starts_with(prefix)) {
        return found;
    }
    let head = format!("{}.", description.family.head(description.purpose));
    let named = |name: String| if name.starts_with(&head) { name } else { format!("{prefix}{name}") };
    found.into_iter().map(|(name, located)| (named(name), located)).collect()
}

/// Compares what is expected with what is there.
fn agree(entries: &[Entry], found: &Found, description: &Description) -> Result<()> {
    let mut faults = Vec::new();
    let mut list = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            faults.push(format!("{what}: {}", names.join(", ")));
        }
    };
    let missing = entries.iter().filter(|entry| !found.contains_key(&entry.name));
    list("missing tensors", missing.map(|entry| format!("`{}`", entry.name)).collect());
    let known: std::collections::BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let tied = (description.architecture.head == Head::Tied)
        .then(|| format!("{}.weight", description.family.head(description.purpose)));
    let unread = found.keys().filter(|name| {
        !known.contains(name.as_str()) && !description.family.is_buffer(name) && Some(*name) != tied.as_ref()
    });
    list("unexpected tensors", unread.map(|name| format!("`{name}`")).collect());
    let shapes = entries.iter().filter_map(|entry| {
        let shape = &found.get(&entry.name)?.shape;
        (*shape != entry.shape()).then(|| format!("`{}`: expected {:?}, found {shape:?}", entry.name, entry.shape()))
    });
    list("other shapes", shapes.collect());
    if !faults.is_empty() {
        bail!("the weights are not those of `{CONFIG}`; {}", faults.join("; "));
    }
    if let Some((head, embedding)) = tied.and_then(|name| Some((found.get(&name)?, found.get(&entries[0].name)?))) {
        ensure!(
            head.equals(embedding)?,
            "`{CONFIG}` ties the head to the embedding, but the file has another matrix for it"
        );
    }
    Ok(())
}

/// The weights that a tensor holds, each row by row.
fn parts(entry: &Entry, located: &Located) -> Result<Vec<Vec<f32>>> {
    let mut parts: Vec<Vec<f32>> = entry.parts.iter().map(|(_, columns)| vec![0.0; entry.rows * columns]).collect();
    // Which weight, and which of its outputs, an output of the tensor is.
    let mut places = vec![(0, 0); entry.columns()];
    for (part, &(_, columns)) in entry.parts.iter().enumerate() {
        for o in 0..columns {
            places[entry.column(part, o)] = (part, o);
        }
    }
    let across = located.rows_and_columns()[1];
    located.read(|first, numbers| match entry.form {
        Form::Transposed => {
            for i in 0..across {
                for (row, line) in numbers.chunks_exact(across).enumerate() {
                    let (part, o) = places[first + row];
                    parts[part][i * entry.parts[part].1 + o] = line[i];
                }
            }
        }
        Form::Plain | Form::Vector | Form::Offset => {
            let offset = if entry.form == Form::Offset { 1.0 } else { 0.0 };
            for (row, line) in numbers.chunks_exact(across).enumerate() {
                for (&(part, o), &x) in places.iter().zip(line) {
                    parts[part][(first + row) * entry.parts[part].1 + o] = x + offset;
                }
            }
        }
    })?;
    Ok(parts)
}
