//! What a `config.json` of the Hugging Face `transformers` says: family, architecture, head.
//!
//! Defaults are those of the `transformers` classes; a key that is not understood is an error, never ignored.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::family::Family;
use super::keys::Keys;
use super::rope::{Dimensions, ropes};
use super::save::LABELS;
use crate::model::architecture::{Activation, Architecture, Biases, Block, Head, Norm, Positions};

/// What the head of a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Logits of the next token.
    Language,
    /// One number a sequence, read at its last token.
    Sequence,
    /// One number a token.
    Token,
}

/// A `config.json`, understood.
#[derive(Clone, Debug)]
pub struct Description {
    /// How its tensors are named and laid out.
    pub family: Family,
    /// What it is made of.
    pub architecture: Architecture,
    /// What its head is for.
    pub purpose: Purpose,
    /// Rows of the embedding, V.
    pub vocab_size: usize,
    /// Columns of the head.
    pub outputs: usize,
    /// Whether its two outputs are logits of a token's being bad and good, as this program's own exports say.
    pub two_sided: bool,
}

/// Reads a `config.json`.
///
/// # Errors
/// When the architecture is not supported, a key is missing, has a wrong type or value, or is not understood.
pub fn describe(config: &Value) -> Result<Description> {
    let keys = Keys::new(config, "")?;
    let (family, purpose) = class(&keys)?;
    let mut architecture = match family {
        Family::Gpt2 => gpt2(&keys)?,
        Family::GptNeoX => gpt_neox(&keys)?,
        _ => llama(family, &keys)?,
    };
    let vocab_size = keys.size("vocab_size")?;
    let biased_score: bool = keys.or("token_classification_bias", true)?;
    let labels = labels(&keys)?;
    let names = |i: usize| config.get("id2label").and_then(|names| names.get(i.to_string())).and_then(Value::as_str);
    let two_sided = [names(0), names(1)] == LABELS.map(Some);
    if purpose != Purpose::Language {
        architecture.logit_softcap = None;
        architecture.head = if purpose == Purpose::Token && biased_score { Head::Biased } else { Head::Linear };
    }
    keys.finish()?;
    check(&architecture)?;
    let outputs = if purpose == Purpose::Language { vocab_size } else { labels };
    Ok(Description { family, architecture, purpose, vocab_size, outputs, two_sided })
}

/// Family and purpose from `architectures`, or from `model_type` where a base model's config has none.
fn class(keys: &Keys) -> Result<(Family, Purpose)> {
    let classes: Vec<String> = keys.or("architectures", Vec::new())?;
    let supported = || {
        let names: Vec<String> = Family::ALL.iter().map(|family| format!("`{}ForCausalLM`", family.class())).collect();
        format!(
            "{} (GPT-2: `GPT2LMHeadModel`), and their `ForSequenceClassification` and `ForTokenClassification`",
            names.join(", ")
        )
    };
    let model_type: Option<String> = keys.find("model_type")?;
    let by_type = Family::ALL.into_iter().find(|family| Some(family.model_type()) == model_type.as_deref());
    let Some(name) = classes.first() else {
        return match by_type {
            Some(family) => Ok((family, Purpose::Language)),
            None => bail!(
                "expected `architectures` or a known `model_type`, found {}; supported are {}",
                model_type.map_or("neither".to_owned(), |name| format!("`{name}`")),
                supported()
            ),
        };
    };
    for family in Family::ALL {
        let Some(rest) = name.strip_prefix(family.class()) else { continue };
        let purpose = match rest {
            "ForCausalLM" | "LMHeadModel" | "Model" => Purpose::Language,
            "ForSequenceClassification" | "TextForSequenceClassification" => Purpose::Sequence,
            "ForTokenClassification" => Purpose::Token,
            _ => continue,
        };
        if let Some(other) = by_type.filter(|&other| other != family) {
            bail!("`architectures` says `{name}`, but `model_type` says `{}`", other.model_type());
        }
        return Ok((family, purpose));
    }
    bail!("unsupported architecture `{name}`; supported are {}", supported())
}

/// Labels of a classifier: two unless the config says otherwise, as in `transformers`.
fn labels(keys: &Keys) -> Result<usize> {
    if let Some(Value::Object(names)) = keys.raw("id2label") {
        return Ok(names.len());
    }
    keys.size_or("num_labels", 2)
}

fn check(architecture: &Architecture) -> Result<()> {
    let Architecture { num_attention_heads: heads, num_key_value_heads: groups, head_dim, .. } = *architecture;
    ensure!(
        heads.is_multiple_of(groups),
        "`num_key_value_heads` must divide `num_attention_heads`: {heads} / {groups} is not a whole number"
    );
    if let Positions::Rotary { global, .. } = &architecture.positions {
        ensure!(
            global.dims > 0 && global.dims.is_multiple_of(2) && global.dims <= head_dim,
            "expected an even number of rotary dimensions of a head's {head_dim}, found {}",
            global.dims
        );
    }
    Ok(())
}

fn head(tied: bool) -> Head {
    if tied { Head::Tied } else { Head::Linear }
}

fn activation(keys: &Keys, key: &'static str, default: &str) -> Result<Activation> {
    let name: String = keys.or(key, default.to_owned())?;
    Ok(match name.as_str() {
        "silu" | "swish" => Activation::Silu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" | "gelu_accurate" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        other => bail!(
            "`{key}`: expected `silu`, `swish`, `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`, `quick_gelu` or \
             `relu`, found `{other}`"
        ),
    })
}

/// Llama and what follows it.
fn llama(family: Family, keys: &Keys) -> Result<Architecture> {
    let gemma = matches!(family, Family::Gemma | Family::Gemma2 | Family::Gemma3);
    let (hidden_size, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let layers = keys.size("num_hidden_layers")?;
    // A null counts as `num_attention_heads`, a missing key as the default of the family's class.
    let groups = match family {
        _ if keys.has("num_key_value_heads") => heads,
        Family::Mistral => 8,
        Family::Qwen2 | Family::Qwen3 => 32,
        Family::Gemma => 16,
        Family::Gemma2 | Family::Gemma3 => 4,
        _ => heads,
    };
    let wide = match family {
        Family::Qwen3 => Some(128),
        _ if gemma => Some(256),
        _ => None,
    };
    let head_dim = match (keys.find("head_dim")?, wide) {
        (Some(d), _) => d,
        (None, Some(d)) if !keys.has("head_dim") => d,
        (None, _) => {
            ensure!(
                hidden_size.is_multiple_of(heads),
                "`num_attention_heads` must divide `hidden_size` where there is no `head_dim`: {hidden_size} / {heads} \
                 is not a whole number"
            );
            hidden_size / heads
        }
    };
    let partial = if family == Family::Phi3 { keys.or("partial_rotary_factor", 1.0)? } else { 1.0 };
    let theta = if family == Family::Gemma3 { 1e6 } else { 10_000.0 };
    let positions = keys.or("max_position_embeddings", 2048)?;
    let (global, local) = ropes(family, keys, Dimensions { head_dim, partial, theta, positions, original: None })?;
    let attention_bias = match family {
        Family::Llama | Family::Qwen3 | Family::Gemma | Family::Gemma2 | Family::Gemma3 => {
            keys.or("attention_bias", false)?
        }
        _ => false,
    };
    if gemma {
        keys.only("use_bidirectional_attention", &false)?;
    }
    let scalar = match family {
        Family::Gemma2 | Family::Gemma3 => keys.or("query_pre_attn_scalar", 256.0)?,
        _ => head_dim as f64,
    };
    let cap = |key, default: Option<f64>| -> Result<Option<f64>> {
        Ok(if keys.has(key) { keys.find(key)? } else { default })
    };
    let (attention_softcap, logit_softcap) = match family {
        Family::Gemma2 => (cap("attn_logit_softcapping", Some(50.0))?, cap("final_logit_softcapping", Some(30.0))?),
        Family::Gemma3 => (cap("attn_logit_softcapping", None)?, cap("final_logit_softcapping", None)?),
        _ => (None, None),
    };
    Ok(Architecture {
        hidden_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: keys.size_or("num_key_value_heads", groups)?,
        head_dim,
        intermediate_size: keys.size("intermediate_size")?,
        norm: Norm::Rms,
        norm_eps: keys.or("rms_norm_eps", if family == Family::Phi3 { 1e-5 } else { 1e-6 })?,
        positions: Positions::Rotary { global, local },
        block: if matches!(family, Family::Gemma2 | Family::Gemma3) { Block::Sandwich } else { Block::Sequential },
        gated: true,
        activation: llama_activation(family, keys)?,
        biases: Biases {
            qkv: attention_bias || family == Family::Qwen2,
            output: attention_bias,
            mlp: family == Family::Llama && keys.or("mlp_bias", false)?,
        },
        qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
        attention_divisor: scalar.sqrt(),
        divide_by_layer: false,
        attention_softcap,
        windows: windows(family, keys, layers)?,
        embedding_scale: if gemma { (hidden_size as f64).sqrt() } else { 1.0 },
        // Some configs say -1, which is no id.
        padding_id: keys.find::<i64>("pad_token_id")?.and_then(|id| u32::try_from(id).ok()),
        head: head(keys.or("tie_word_embeddings", gemma)?),
        logit_softcap,
    })
}

fn llama_activation(family: Family, keys: &Keys) -> Result<Activation> {
    match family {
        Family::Gemma2 | Family::Gemma3 => {
            keys.raw("hidden_act");
            activation(keys, "hidden_activation", "gelu_pytorch_tanh")
        }
        Family::Gemma => {
            keys.raw("hidden_activation");
            // Published configs say `gelu` and mean the approximation.
            let found = activation(keys, "hidden_act", "gelu_pytorch_tanh")?;
            Ok(if found == Activation::Gelu { Activation::GeluTanh } else { found })
        }
        _ => activation(keys, "hidden_act", "silu"),
    }
}

/// How many tokens each layer sees; empty where all see everything.
fn windows(family: Family, keys: &Keys, layers: usize) -> Result<Vec<Option<usize>>> {
    let default = match family {
        Family::Mistral | Family::Gemma2 | Family::Gemma3 if !keys.has("sliding_window") => Some(4096),
        _ => None,
    };
    let window = match family {
        Family::Llama | Family::Gemma => None,
        Family::Qwen2 | Family::Qwen3 if !keys.or("use_sliding_window", false)? => {
            keys.raw("sliding_window");
            None
        }
        _ => keys.find("sliding_window")?.or(default),
    };
    let from: usize =
        if matches!(family, Family::Qwen2 | Family::Qwen3) { keys.or("max_window_layers", 28)? } else { 0 };
    let types: Option<Vec<String>> = keys.find("layer_types")?;
    let pattern: usize = match family {
        Family::Gemma3 => keys.size_or("sliding_window_pattern", 6)?,
        Family::Gemma2 => 2,
        _ => usize::MAX,
    };
    let sliding = |i: usize| i >= from && !(i + 1).is_multiple_of(pattern);
    let Some(types) = types else {
        let Some(window) = window else { return Ok(Vec::new()) };
        return Ok((0..layers).map(|i| sliding(i).then_some(window)).collect());
    };
    ensure!(types.len() == layers, "`layer_types`: expected {layers} entries, found {}", types.len());
    let each = types.iter().map(|kind| match (kind.as_str(), window) {
        ("full_attention", _) => Ok(None),
        ("sliding_attention", Some(window)) => Ok(Some(window)),
        ("sliding_attention", None) => bail!("`layer_types` says `sliding_attention`, but no `sliding_window` is set"),
        (other, _) => bail!("`layer_types`: expected `full_attention` or `sliding_attention`, found `{other}`"),
    });
    each.collect()
}

fn gpt2(keys: &Keys) -> Result<Architecture> {
    let (hidden_size, heads) = (keys.size("n_embd")?, keys.size("n_head")?);
    ensure!(
        hidden_size.is_multiple_of(heads),
        "`n_head` must divide `n_embd`: {hidden_size} / {heads} is not a whole number"
    );
    keys.only("add_cross_attention", &false)?;
    let head_dim = hidden_size / heads;
    Ok(Architecture {
        hidden_size,
        num_hidden_layers: keys.size("n_layer")?,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim,
        intermediate_size: keys.size_or("n_inner", 4 * hidden_size)?,
        norm: Norm::Layer,
        norm_eps: keys.or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Learned(keys.size_or("n_positions", 1024)?),
        block: Block::Sequential,
        gated: false,
        activation: activation(keys, "activation_function", "gelu_new")?,
        biases: Biases { qkv: true, output: true, mlp: true },
        qk_norm: false,
        attention_divisor: if keys.or("scale_attn_weights", true)? { (head_dim as f64).sqrt() } else { 1.0 },
        divide_by_layer: keys.or("scale_attn_by_inverse_layer_idx", false)?,
        attention_softcap: None,
        windows: Vec::new(),
        embedding_scale: 1.0,
        padding_id: None,
        head: head(keys.or("tie_word_embeddings", true)?),
        logit_softcap: None,
    })
}

fn gpt_neox(keys: &Keys) -> Result<Architecture> {
    let (hidden_size, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    ensure!(
        hidden_size.is_multiple_of(heads),
        "`num_attention_heads` must divide `hidden_size`: {hidden_size} / {heads} is not a whole number"
    );
    let head_dim = hidden_size / heads;
    let attention_bias = keys.or("attention_bias", true)?;
    let dimensions = Dimensions {
        head_dim,
        partial: keys.or("rotary_pct", 0.25)?,
        theta: keys.or("rotary_emb_base", 10_000.0)?,
        positions: keys.or("max_position_embeddings", 2048)?,
        original: None,
    };
    let (global, _) = ropes(Family::GptNeoX, keys, dimensions)?;
    Ok(Architecture {
        hidden_size,
        num_hidden_layers: keys.size("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim,
        intermediate_size: keys.size("intermediate_size")?,
        norm: Norm::Layer,
        norm_eps: keys.or("layer_norm_eps", 1e-5)?,
        positions: Positions::Rotary { global, local: None },
        block: if keys.or("use_parallel_residual", true)? { Block::Parallel } else { Block::Sequential },
        gated: false,
        activation: activation(keys, "hidden_act", "gelu")?,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: true },
        qk_norm: false,
        attention_divisor: (head_dim as f64).sqrt(),
        divide_by_layer: false,
        attention_softcap: None,
        windows: Vec::new(),
        embedding_scale: 1.0,
        padding_id: None,
        head: head(keys.or("tie_word_embeddings", false)?),
        logit_softcap: None,
    })
}
