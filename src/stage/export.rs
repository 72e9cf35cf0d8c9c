//! A network as a folder for `transformers`, or its adapters as one for PEFT.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::opened::{Opened, Source};
use crate::model::pretrained::{self, Purpose};
use crate::text::{FILES, Tokenizer};

/// Files beside the tokenizer's that a checkpoint's folder may have.
const GENERATION: &str = "generation_config.json";

impl Opened {
    /// Writes the network as the folder `dir`, tokenizer and all; adapters are merged into what they belong to.
    ///
    /// # Errors
    /// When `transformers` has no such class, or a file cannot be read or written.
    pub fn export(&self, dir: &Path) -> Result<()> {
        let merged = self.model().merged();
        let model = pretrained::with_bias(&merged, self.purpose());
        pretrained::save(&model, &self.headed_config(model.outputs())?, dir)?;
        self.write_texts(dir)
    }

    /// Writes the adapters alone; `base` says where the model is that they belong to.
    ///
    /// # Errors
    /// When there are none, or a file cannot be written.
    pub fn export_adapter(&self, dir: &Path, base: Option<&str>) -> Result<()> {
        let lora = self.origin().lora.as_ref();
        let lora =
            lora.context("expected a model that was trained with `[policy.lora]`, found one without adapters")?;
        let model = pretrained::with_bias(self.model(), self.purpose());
        pretrained::save_adapter(&model, lora, &self.headed_config(model.outputs())?, base, dir)
    }

    /// The `config.json` under this model's head, with the ids of special tokens.
    fn headed_config(&self, outputs: usize) -> Result<Value> {
        let Source { config, fresh, .. } = self.origin();
        let purpose = self.purpose();
        let described = pretrained::describe(config)?;
        let mut config =
            if described.purpose == purpose && (purpose == Purpose::Language || described.outputs == outputs) {
                config.clone()
            } else {
                pretrained::with_head(config, purpose, outputs)?
            };
        if *fresh {
            let tokenizer = self.tokenizer();
            config["bos_token_id"] = json!(tokenizer.begin().first());
            config["eos_token_id"] = json!(tokenizer.eos());
        }
        // A sequence's score is looked for at its last token that is no padding, so padding has to be something else.
        if config.get("pad_token_id").is_none_or(Value::is_null) && self.tokenizer().pad() != self.tokenizer().eos() {
            config["pad_token_id"] = json!(self.tokenizer().pad());
        }
        Ok(config)
    }

    /// The tokenizer's files, and how to generate.
    fn write_texts(&self, dir: &Path) -> Result<()> {
        let Source { texts, fresh, .. } = self.origin();
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
        };
        if *fresh {
            let tokenizer = self.tokenizer();
            write("tokenizer.json", tokenizer.for_others()?)?;
            write("tokenizer_config.json", pretty(&tokenizer_config(tokenizer))?)?;
            let ids = json!({
                "bos_token_id": tokenizer.begin().first(), "eos_token_id": tokenizer.eos(), "pad_token_id": tokenizer.pad(),
                "do_sample": true, "max_new_tokens": self.max_response_tokens(),
            });
            return write(GENERATION, pretty(&ids)?);
        }
        for name in FILES.into_iter().chain([GENERATION]).filter(|name| texts.join(name).is_file()) {
            let (from, to) = (texts.join(name), dir.join(name));
            ensure!(from != to, "`{}` is the folder that this model comes from", dir.display());
            fs::copy(&from, &to).with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
        }
        Ok(())
    }
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// What `transformers` has to know of a tokenizer that was trained here.
fn tokenizer_config(tokenizer: &Tokenizer) -> Value {
    let named = |id: u32| tokenizer.name(id);
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.begin().first().map(|&id| named(id)),
        "eos_token": named(tokenizer.eos()),
        "pad_token": named(tokenizer.pad()),
        "clean_up_tokenization_spaces": false,
        "padding_side": "left",
    })
}
