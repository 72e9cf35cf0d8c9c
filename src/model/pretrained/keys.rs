//! A JSON object whose every key has to be read by somebody.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Keys that change no number of a forward pass without dropout: records, sizes of initial weights, dropout rates, ids
/// for generation (read elsewhere), what a Python object returns.
const WITHOUT_EFFECT: [&str; 62] = [
    "_attn_implementation",
    "_name_or_path",
    "_sliding_window_pattern",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_position_embeddings",
    "min_length",
    "model_type",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_cache",
];

/// Keys whose `false` says what every family does anyway.
const FALSE_IS_USUAL: [&str; 6] = [
    "add_cross_attention",
    "attention_bias",
    "mlp_bias",
    "tie_encoder_decoder",
    "use_bidirectional_attention",
    "use_sliding_window",
];

/// An object, and which of its keys were read.
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// Of what it is part: empty, or `rope_scaling.`.
    prefix: &'static str,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(value: &'a Value, prefix: &'static str) -> Result<Self> {
        let map = value.as_object().with_context(|| match prefix {
            "" => format!("expected an object, found {}", shown(value)),
            prefix => format!("`{}`: expected an object, found {}", prefix.trim_end_matches('.'), shown(value)),
        })?;
        Ok(Self { map, prefix, read: RefCell::default() })
    }

    /// The value of `key`, where it is there and not null.
    pub(super) fn raw(&self, key: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is written, be it as null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn find<T: DeserializeOwned>(&self, key: &'static str) -> Result<Option<T>> {
        let parsed = |value: &Value| {
            T::deserialize(value).map_err(|error| anyhow!("`{}{key}`: {error}, found {}", self.prefix, shown(value)))
        };
        self.raw(key).map(parsed).transpose()
    }

    pub(super) fn or<T: DeserializeOwned>(&self, key: &'static str, default: T) -> Result<T> {
        Ok(self.find(key)?.unwrap_or(default))
    }

    pub(super) fn need<T: DeserializeOwned>(&self, key: &'static str) -> Result<T> {
        self.find(key)?.with_context(|| format!("expected the key `{}{key}`, found none", self.prefix))
    }

    /// A size: a whole number of at least one.
    pub(super) fn size(&self, key: &'static str) -> Result<usize> {
        let size = self.need(key)?;
        self.positive(key, size)
    }

    pub(super) fn size_or(&self, key: &'static str, default: usize) -> Result<usize> {
        let size = self.or(key, default)?;
        self.positive(key, size)
    }

    fn positive(&self, key: &str, size: usize) -> Result<usize> {
        if size == 0 {
            bail!("`{}{key}`: expected at least 1, found 0", self.prefix);
        }
        Ok(size)
    }

    /// Refuses any value of `key` but `usual`.
    pub(super) fn only<T: DeserializeOwned + PartialEq + Display>(&self, key: &'static str, usual: &T) -> Result<()> {
        match self.find::<T>(key)? {
            Some(value) if value != *usual => {
                bail!("`{}{key}`: only {usual} is supported, found {value}", self.prefix)
            }
            _ => Ok(()),
        }
    }

    /// Names the keys that nobody has read and that may mean something.
    pub(super) fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let idle = |key: &str, value: &Value| {
            value.is_null()
                || (self.prefix.is_empty() && WITHOUT_EFFECT.contains(&key))
                || (FALSE_IS_USUAL.contains(&key) && value == false)
        };
        let left = self.map.iter().filter(|(key, value)| !read.contains(key.as_str()) && !idle(key, value));
        let left: Vec<String> = left.map(|(key, value)| format!("`{}{key}` = {}", self.prefix, shown(value))).collect();
        if left.is_empty() {
            return Ok(());
        }
        bail!("unsupported for this architecture, and not to be ignored: {}", left.join(", "))
    }
}

/// A value, short.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 { text } else { format!("{}...", text.chars().take(77).collect::<String>()) }
}
