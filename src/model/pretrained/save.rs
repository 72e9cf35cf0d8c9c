//! Models as checkpoint folders that `transformers` loads.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use super::CONFIG;
use super::config::{Description, Purpose, describe};
use super::family::{Entry, Family, Form, layout};
use crate::model::weights::host;
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

/// The `config.json` of the same trunk as `config` under a head of `outputs` columns without bias.
///
/// # Errors
/// When `config` is not understood.
pub fn with_head(config: &Value, purpose: Purpose, outputs: usize) -> Result<Value> {
    let family = describe(config)?.family;
    let kind = match purpose {
        Purpose::Language => "ForCausalLM",
        Purpose::Sequence => "ForSequenceClassification",
        Purpose::Token => "ForTokenClassification",
    };
    let mut config = config.clone();
    config["architectures"] = json!([format!("{}{kind}", family.class())]);
    let label = |i: usize| format!("LABEL_{i}");
    let names: Map<String, Value> = (0..outputs).map(|i| (i.to_string(), json!(label(i)))).collect();
    let numbers: Map<String, Value> = (0..outputs).map(|i| (label(i), json!(i))).collect();
    config["id2label"] = json!(names);
    config["label2id"] = json!(numbers);
    Ok(config)
}

/// Writes `model` as the folder `dir`, which `config` describes: `config.json` and `model.safetensors`, in `f32`.
///
/// # Errors
/// When the model is not what `config` says, or a file cannot be written.
pub fn save(model: &Model, config: &Value, dir: &Path) -> Result<()> {
    let description: Description = describe(config)?;
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
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        layout(&description).iter().map(|entry| (entry.name.clone(), entry.shape(), bytes(entry, model))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape counts the bytes"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let path = dir.join("model.safetensors");
    safetensors::serialize_to_file(views, Some(metadata), &path)
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// A tensor's bytes, gathered from the weights that it holds.
fn bytes(entry: &Entry, model: &Model) -> Vec<u8> {
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
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
