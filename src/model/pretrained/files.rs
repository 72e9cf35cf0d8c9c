//! The safetensors files of a checkpoint folder, and which tensors there are.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::model::mapped::{self, Located};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The part of an index file that matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Names of the safetensors files in `dir`, in order.
pub(super) fn weight_files(dir: &Path) -> Result<Vec<String>> {
    if dir.join(SINGLE).is_file() {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let index = dir.join(INDEX);
    if !index.is_file() {
        bail!("expected `{SINGLE}` or `{INDEX}` in `{}`, found {}", dir.display(), instead(dir)?);
    }
    let mut files: Vec<String> = read_index(&index)?.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    for file in &files {
        let plain = Path::new(file).components().eq([Component::Normal(file.as_ref())]);
        ensure!(plain, "`{INDEX}`: expected names of files in the same folder, found `{file}`");
        ensure!(dir.join(file).is_file(), "`{INDEX}` names `{file}`, which is not in `{}`", dir.display());
    }
    Ok(files)
}

/// What stands in the place of safetensors files, and what to do about it.
fn instead(dir: &Path) -> Result<String> {
    let shown = dir.display();
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read folder `{shown}`"))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>()?;
    names.sort();
    let ends = |name: &&String, endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if let Some(name) = names.iter().find(|name| ends(name, &[".bin", ".pt", ".pth", ".h5", ".msgpack"])) {
        return Ok(format!(
            "`{name}`, a format that is not read: write the folder anew with safetensors files, as by \
             `AutoModelForCausalLM.from_pretrained(\"{shown}\").save_pretrained(\"NEW\")` of `transformers`, and copy the \
             tokenizer's files"
        ));
    }
    if names.iter().any(|name| name == "adapter_model.safetensors") {
        return Ok("an adapter alone: merge it with its base first, as by `merge_and_unload` of `peft`".to_owned());
    }
    Ok("neither".to_owned())
}

fn read_index(path: &Path) -> Result<Index> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
    serde_json::from_str(&text).with_context(|| format!("in `{shown}`"))
}

/// All tensors of the folder `dir` by name.
pub(super) fn tensors(dir: &Path) -> Result<BTreeMap<String, Located>> {
    let mut found = BTreeMap::new();
    for name in weight_files(dir)? {
        for (tensor, located) in mapped::tensors(&dir.join(&name))? {
            ensure!(found.insert(tensor.clone(), located).is_none(), "tensor `{tensor}` is in two files");
        }
    }
    let index = dir.join(INDEX);
    if !dir.join(SINGLE).is_file() {
        let listed = read_index(&index)?.weight_map;
        let wrong: Vec<&str> = listed
            .iter()
            .filter(|(tensor, file)| found.get(*tensor).is_none_or(|at| !at.file().ends_with(file.as_str())))
            .map(|(tensor, _)| tensor.as_str())
            .collect();
        ensure!(wrong.is_empty(), "`{INDEX}`: not in the files that it names: {}", wrong.join(", "));
    }
    Ok(found)
}
