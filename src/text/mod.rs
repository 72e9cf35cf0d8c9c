//! Text and token ids: tokenizers, chat templates.
//!
//! Wraps the `tokenizers` crate: trains or loads a `tokenizer.json` and names the special tokens that the rest of the
//! project needs; and `minijinja`, for templates written in the dialect of `transformers`. What the texts mean is left to `data`.

mod bpe;
mod chat;
mod checkpoint;
pub(crate) mod python;
mod tokenizer;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use chat::{ChatTemplate, Rendered, Talk, Turn};
pub use checkpoint::{FILES, Fallback, Folder};
pub use tokenizer::Tokenizer;

use crate::units::Count;

/// The recipe's `[tokenizer]` table: exactly one of its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// One id per white-space separated word of the training texts: for simulated worlds.
    WordLevel(WordLevel),
    /// Byte-level byte-pair encoding, trained on the training split's texts.
    ByteLevelBpe(ByteLevelBpe),
    /// A ready `tokenizer.json`.
    File(TokenizerFile),
    /// The tokenizer of the checkpoint in `[policy]`.
    Policy(PolicyTokenizer),
}

/// `[tokenizer.policy]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTokenizer {}

/// `[tokenizer.word_level]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WordLevel {}

/// `[tokenizer.byte_level_bpe]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByteLevelBpe {
    /// Ids in all, the 256 bytes and the special tokens included.
    pub vocab_size: Count,
}

/// `[tokenizer.file]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFile {
    /// A Hugging Face `tokenizer.json`.
    pub path: PathBuf,
    /// Its padding token.
    pub pad_token: String,
    /// Its beginning-of-sequence token.
    pub bos_token: String,
    /// Its end-of-sequence token.
    pub eos_token: String,
}
