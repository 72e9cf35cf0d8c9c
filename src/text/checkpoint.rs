//! The tokenizer of a checkpoint folder, as `transformers` reads it: `tokenizer.json`, and beside it `tokenizer_config.json`,
//! `special_tokens_map.json` and a chat template.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::chat::ChatTemplate;
use super::tokenizer::{Tokenizer, parsed};

/// Names under which special tokens are known.
const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The files that say how a checkpoint reads and writes text; all but the first may be missing.
pub const FILES: [&str; 5] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"];

/// What a folder says about text.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, where it has one.
    pub chat: Option<ChatTemplate>,
}

/// Ids that the model's own files name, for tokenizers that do not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fallback {
    /// End of sequence.
    pub eos: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

impl Folder {
    /// Reads the tokenizer in the folder `dir`.
    ///
    /// # Errors
    /// When a file cannot be read, a named token is not in the vocabulary, or no end-of-sequence token is known.
    pub fn open(dir: &Path, fallback: Fallback) -> Result<Self> {
        Self::read(dir, fallback).with_context(|| format!("in the tokenizer of `{}`", dir.display()))
    }

    fn read(dir: &Path, fallback: Fallback) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let other = ["tokenizer.model", "vocab.json", "vocab.txt"].into_iter().find(|name| dir.join(name).is_file());
        if let (false, Some(other)) = (path.is_file(), other) {
            let shown = dir.display();
            bail!(
                "expected `tokenizer.json`, found `{other}` alone: write it anew, as by \
                 `AutoTokenizer.from_pretrained(\"{shown}\").save_pretrained(\"{shown}\")` of `transformers`"
            );
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut inner = parsed(&bytes)?;
        let config = object(&dir.join("tokenizer_config.json"))?;
        let map = object(&dir.join("special_tokens_map.json"))?;
        let named = |role: &str| -> Result<Option<String>> {
            let value = config.get(role).or_else(|| map.get(role)).filter(|value| !value.is_null());
            value.map(|value| content(value).with_context(|| format!("`{role}`"))).transpose()
        };
        add_missing(&mut inner, &config)?;
        let mut tokens = Map::new();
        for role in ROLES {
            if let Some(token) = named(role)? {
                tokens.insert(role.to_owned(), Value::from(token));
            }
        }
        let id = |role: &str| -> Result<Option<u32>> {
            let Some(token) = tokens.get(role).and_then(Value::as_str) else { return Ok(None) };
            let found = inner.token_to_id(token);
            found.map(Some).with_context(|| format!("expected `{role}` `{token}` in the vocabulary, found none"))
        };
        id("bos_token")?;
        let own_pad = id("pad_token")?;
        let Some(eos) = id("eos_token")?.or(fallback.eos) else {
            bail!("expected `eos_token` in `tokenizer_config.json` or `eos_token_id` in `config.json`, found neither");
        };
        // Only rectangles are filled with it; what is padding is known from lengths, so an id that also means something
        // else does no harm.
        let pad = own_pad.or(fallback.pad).unwrap_or(eos);
        let tokenizer = Tokenizer::of_checkpoint(inner, pad, eos)?;
        let chat = template(dir, &config)?.map(|source| ChatTemplate::new(source, tokens));
        Ok(Self { tokenizer, chat })
    }
}

impl Tokenizer {
    /// The tokenizer of a checkpoint folder, or of a `tokenizer.json` alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn any(path: &Path) -> Result<Self> {
        if path.is_dir() {
            // Ids of special tokens do not matter to who only cuts texts into tokens.
            return Ok(Folder::open(path, Fallback { eos: Some(0), pad: Some(0) })?.tokenizer);
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read tokenizer `{}`", path.display()))?;
        Self::of_checkpoint(parsed(&bytes)?, 0, 0).with_context(|| format!("in tokenizer `{}`", path.display()))
    }
}

/// The object in a file that may be missing.
fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in `{}`", path.display()))
}

/// A token, written as text or as an object.
fn content(value: &Value) -> Result<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    text.map(str::to_owned).with_context(|| format!("expected a token, found {value}"))
}

/// Adds the tokens that only `tokenizer_config.json` lists.
fn add_missing(inner: &mut tokenizers::Tokenizer, config: &Map<String, Value>) -> Result<()> {
    let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else { return Ok(()) };
    let mut missing = Vec::new();
    for (id, token) in listed {
        let number: u32 = id.parse().with_context(|| format!("`added_tokens_decoder` has the id `{id}`"))?;
        let text = content(token).with_context(|| format!("`added_tokens_decoder`, id {id}"))?;
        match inner.token_to_id(&text) {
            Some(known) if known == number => {}
            Some(known) => bail!("token `{text}`: `tokenizer.json` gives it id {known}, `tokenizer_config.json` {id}"),
            None => missing.push((number, text, token)),
        }
    }
    missing.sort_by_key(|(id, ..)| *id);
    for (id, text, token) in missing {
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        let added = AddedToken::from(text.clone(), flag("special"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .single_word(flag("single_word"))
            .normalized(flag("normalized"));
        let result = if flag("special") { inner.add_special_tokens([added]) } else { inner.add_tokens([added]) };
        result.map_err(|error| anyhow::anyhow!("cannot add token `{text}`: {error}"))?;
        let got = inner.token_to_id(&text);
        if got != Some(id) {
            bail!("token `{text}`: `tokenizer_config.json` gives it id {id}, the next free one is {got:?}");
        }
    }
    Ok(())
}

/// The chat template: a file of its own, or in `tokenizer_config.json`, where it may be one of several.
fn template(dir: &Path, config: &Map<String, Value>) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        return Ok(Some(text));
    }
    let own = object(&dir.join("chat_template.json"))?;
    match own.get("chat_template").or_else(|| config.get("chat_template")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(several)) => {
            let default = several.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            source.map(|source| Some(source.to_owned())).context("expected a chat template named `default`, found none")
        }
        Some(other) => bail!("`chat_template`: expected text or a list, found {other}"),
    }
}
