//! Models as checkpoint folders that `transformers` loads.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Tensor;
use serde_json::{Map, Value, json};

use super::CONFIG;
use super::config::{Description, Purpose, describe};
use super::family::{Entry, Family, Form, layout};
use crate::model::architecture::Head;
use crate::model::weights::{Stored, host};
use crate::model::{Config, Model};

/// The `config.json` of a model made from a recipe's `[model]` table: a Llama language model.
#[must_use]
pub fn fresh_config(config: &Config, vocab_size: usize, positions: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": Family::Llama.model_type(),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim(),
        "intermediate_size": config.intermediate_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": positions,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false,
        "vocab_size": vocab_size,
        "torch_dtype": "float32",
    })
}

/// The `config.json` of the same trunk as `config` under a head of `outputs` columns.
///
/// # Errors
/// When `config` is not understood, or `transformers` has no such class.
pub fn with_head(config: &Value, purpose: Purpose, outputs: usize) -> Result<Value> {
    let family = describe(config)?.family;
    let class = family
        .class_for(purpose)
        .with_context(|| format!("`transformers` has no class for a `{}` with one output a token", family.class()))?;
    let mut config = config.clone();
    config["architectures"] = json!([class]);
    if purpose != Purpose::Language {
        let label = |i: usize| if outputs == 2 { LABELS[i].to_owned() } else { format!("LABEL_{i}") };
        let names: Map<String, Value> = (0..outputs).map(|i| (i.to_string(), json!(label(i)))).collect();
        let numbers: Map<String, Value> = (0..outputs).map(|i| (label(i), json!(i))).collect();
        config["id2label"] = json!(names);
        config["label2id"] = json!(numbers);
    }
    Ok(config)
}

/// What the outputs of a token classifier with two are called: by these names it is known when it comes back.
pub(super) const LABELS: [&str; 2] = ["negative", "positive"];

/// `model` under the head that `transformers` expects for `purpose`: those of token classifiers have a bias.
#[must_use]
pub fn with_bias(model: &Model, purpose: Purpose) -> Model {
    let mut model = model.clone();
    if purpose == Purpose::Token && model.config.head == Head::Linear {
        model.weights.push(Tensor::zeros([1, model.outputs()], &model.device()));
        model.config.head = Head::Biased;
    }
    model
}

/// Writes `model`, which has no adapters, as the folder `dir`, which `config` describes: `config.json` and
/// `model.safetensors`, in `f32`.
///
/// # Errors
/// When the model is not what `config` says, or a file cannot be written.
pub fn save(model: &Model, config: &Value, dir: &Path) -> Result<()> {
    let description: Description = describe(config)?;
    let expected = description.architecture.shapes(description.vocab_size, description.outputs);
    ensure!(model.shapes() == expected, "the model is not the one that its `{CONFIG}` describes");
    let shown = dir.display();
    fs::create_dir_all(dir).with_context(|| format!("cannot create `{shown}`"))?;
    let mut config = config.clone();
    config["torch_dtype"] = json!("float32");
    if let Some(table) = config.as_object_mut() {
        table.remove("dtype");
    }
    let path = dir.join(CONFIG);
    fs::write(&path, serde_json::to_string_pretty(&config)? + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    let layout = layout(&description);
    let stored = layout
        .iter()
        .map(|entry| (entry.name.clone(), Stored::new(entry.shape(), move || values(entry, model))))
        .collect();
    write_tensors(stored, &dir.join("model.safetensors"))
}

/// Writes a safetensors file.
pub(super) fn write_tensors(tensors: Vec<(String, Stored)>, path: &Path) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// A tensor's numbers, gathered from the weights that it holds.
fn values(entry: &Entry, model: &Model) -> Vec<f32> {
    let all = entry.columns();
    let mut values = vec![0.0_f32; entry.rows * all];
    for (part, &(index, columns)) in entry.parts.iter().enumerate() {
        for (i, row) in host(&model.weights[index]).chunks_exact(columns).enumerate() {
            for (o, &x) in row.iter().enumerate() {
                let column = entry.column(part, o);
                match entry.form {
                    Form::Transposed => values[column * entry.rows + i] = x,
                    Form::Plain | Form::Vector => values[i * all + column] = x,
                    Form::Offset => values[i * all + column] = x - 1.0,
                }
            }
        }
    }
    values
}
