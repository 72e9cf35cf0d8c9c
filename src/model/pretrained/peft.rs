//! Adapters by the names that checkpoints give their modules, and as folders that PEFT loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::config::{Description, Purpose, describe};
use super::family::{Entry, Family, layout};
use super::save::write_tensors;
use crate::model::adapter::{Config, Lora};
use crate::model::architecture::Role;
use crate::model::weights::{Stored, host};
use crate::model::{Architecture, Model};

/// All linear layers but the head.
const ALL: &str = "all-linear";

/// The modules of a layer that adapters may belong to: their names, and what is fused in each.
fn modules(family: Family, architecture: &Architecture) -> Vec<(&'static str, Vec<Role>)> {
    let mut modules: Vec<(&str, Vec<Role>)> = Vec::new();
    for ((role, bias), _) in architecture.layer() {
        if bias || role.is_norm() {
            continue;
        }
        let name = family.part(role);
        match modules.iter_mut().find(|(known, _)| *known == name) {
            Some((_, roles)) => roles.push(role),
            None => modules.push((name, vec![role])),
        }
    }
    modules
}

fn means(target: &str, name: &str) -> bool {
    target == ALL || name == target || name.strip_suffix(target).is_some_and(|before| before.ends_with('.'))
}

/// The adapters that `config` asks for on a checkpoint.
///
/// # Errors
/// When a target is no module of it.
pub fn lora(config: &Config, description: &Description) -> Result<Lora> {
    let all = modules(description.family, &description.architecture);
    ensure!(
        !config.target_modules.is_empty(),
        "`policy.lora.target_modules`: expected at least one module, found none"
    );
    if let Some(other) = config.target_modules.iter().find(|target| !all.iter().any(|(name, _)| means(target, name))) {
        let known: Vec<String> =
            all.iter().map(|(name, _)| format!("`{}`", name.rsplit('.').next().unwrap_or(name))).collect();
        bail!("`policy.lora.target_modules`: expected {} or `{ALL}`, found `{other}`", known.join(", "));
    }
    ensure!(config.dropout.get() < 1.0, "`policy.lora.dropout`: expected a share below 1, found 1");
    let chosen = all.into_iter().filter(|(name, _)| config.target_modules.iter().any(|target| means(target, name)));
    Ok(Lora {
        modules: chosen.map(|(_, roles)| roles).collect(),
        rank: config.rank.get(),
        scale: config.alpha.get() / config.rank.get() as f64,
        dropout: config.dropout.get(),
    })
}

/// Writes the adapters of `model`, and its head if that is its own, as the folder `dir`: `adapter_config.json` and
/// `adapter_model.safetensors`. `config` is the `config.json` under this model's head, `base` says where the base is.
///
/// # Errors
/// When the model has no adapters or is not what `config` says, or a file cannot be written.
pub fn save_adapter(model: &Model, lora: &Config, config: &Value, base: Option<&str>, dir: &Path) -> Result<()> {
    let description = describe(config)?;
    let adapter = model.adapter.as_ref().context("expected a model with adapters, found one without")?;
    let entries: BTreeMap<String, Entry> =
        layout(&description).into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    let all = modules(description.family, &description.architecture);
    let mut weights = model.weights.iter();
    let mut next = || weights.next().map(host).context("too few adapters");
    let mut tensors = Vec::new();
    for layer in 0..description.architecture.num_hidden_layers {
        for roles in &adapter.lora.modules {
            let (module, _) = all.iter().find(|(_, known)| known == roles).context("a module of another network")?;
            let name = description.family.module(layer, module);
            let entry = entries.get(&format!("{name}.weight")).with_context(|| format!("no module `{name}`"))?;
            let a = transposed(&next()?, entry.rows, adapter.lora.rank);
            let shape = vec![adapter.lora.rank, entry.rows];
            tensors.push((named(&name, "lora_A.weight"), Stored::new(shape, move || a.clone())));
            let mut b = vec![0.0; entry.columns() * adapter.lora.rank];
            for (part, &(_, columns)) in entry.parts.iter().enumerate() {
                let values = transposed(&next()?, adapter.lora.rank, columns);
                for (o, row) in values.chunks_exact(adapter.lora.rank).enumerate() {
                    let at = entry.column(part, o) * adapter.lora.rank;
                    b[at..at + adapter.lora.rank].copy_from_slice(row);
                }
            }
            let shape = vec![entry.columns(), adapter.lora.rank];
            tensors.push((named(&name, "lora_B.weight"), Stored::new(shape, move || b.clone())));
        }
    }
    let head = description.family.head(description.purpose);
    for (entry, values) in layout(&description).iter().rev().take(model.config.head_weights()).rev().zip(weights) {
        let values = if entry.rows > 1 { transposed(&host(values), entry.rows, entry.columns()) } else { host(values) };
        tensors.push((format!("base_model.model.{}", entry.name), Stored::new(entry.shape(), move || values.clone())));
    }
    let shown = dir.display();
    fs::create_dir_all(dir).with_context(|| format!("cannot create `{shown}`"))?;
    let task = match description.purpose {
        Purpose::Language => "CAUSAL_LM",
        Purpose::Sequence => "SEQ_CLS",
        Purpose::Token => "TOKEN_CLS",
    };
    let table = json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": adapter.lora.modules.iter().filter_map(|roles| {
            all.iter().find(|(_, known)| known == roles).map(|(name, _)| *name)
        }).collect::<Vec<_>>(),
        "modules_to_save": if adapter.own_head { json!([head]) } else { Value::Null },
        "fan_in_fan_out": description.family == Family::Gpt2,
        "bias": "none",
        "inference_mode": true,
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
    });
    let path = dir.join("adapter_config.json");
    fs::write(&path, serde_json::to_string_pretty(&table)? + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    write_tensors(tensors, &dir.join("adapter_model.safetensors"))
}

fn named(module: &str, part: &str) -> String {
    format!("base_model.model.{module}.{part}")
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
