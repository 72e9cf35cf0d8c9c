//! `[policy]`: a checkpoint that a run starts from, and what of it is in every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hf_hub::RepoType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{INDEX, SINGLE};
use super::{CONFIG, Description, describe, load, lora, read_config, weight_files};
use crate::data::hub::Repository;
use crate::model::adapter::{self, Lora};
use crate::model::{Architecture, Config, Model};

/// The recipe's `[policy]` table: a checkpoint that the policy, and with it the reference and all reward models, start from,
/// in place of a fresh `[model]`. Exactly one of `path` and `hub`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A folder as `transformers` writes it: `config.json`, safetensors files, tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A repository of the Hugging Face hub, `organisation/name`; what its cache has is not fetched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// A branch, tag or commit of that repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether `[sft]` trains it first; otherwise the reference is the checkpoint as it is.
    #[serde(default = "yes")]
    pub fine_tune: bool,
    /// Low-rank adapters in place of whole copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<adapter::Config>,
}

const fn yes() -> bool {
    true
}

impl Start {
    /// The checkpoint's folder, fetched first where it is a repository that the cache does not have.
    ///
    /// # Errors
    /// When it is not exactly one of a folder and a repository, or the repository cannot be fetched.
    pub fn folder(&self) -> Result<PathBuf> {
        match (&self.path, &self.hub) {
            (Some(path), None) => Ok(path.clone()),
            (None, Some(name)) => fetch(name, self.revision.as_deref())
                .with_context(|| format!("cannot get the checkpoint `{name}` of the Hugging Face hub")),
            _ => bail!("expected one of `path` and `hub` in `[policy]`"),
        }
    }
}

/// Files beside the weights that a folder may have.
const BESIDE: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What a checkpoint's folder lacks, in words; nothing where it is whole.
fn lacking(folder: &Path) -> Option<String> {
    let missing = [CONFIG, "tokenizer.json"].into_iter().find(|file| !folder.join(file).is_file());
    missing.map(|file| format!("`{file}`")).or_else(|| Some(format!("weights: {:#}", weight_files(folder).err()?)))
}

fn fetch(name: &str, revision: Option<&str>) -> Result<PathBuf> {
    let repository = Repository::new(name, RepoType::Model, revision);
    let cached = repository.snapshot()?;
    let missing = cached.as_deref().map(lacking);
    if let (Some(folder), Some(None)) = (&cached, &missing) {
        return Ok(folder.clone());
    }
    let missing = missing.flatten();
    download(&repository).map_err(|error| repository.unavailable(&error, missing.as_deref()))
}

fn download(repository: &Repository) -> Result<PathBuf> {
    let api = repository.api()?;
    let there: Vec<String> = api.info()?.siblings.into_iter().map(|file| file.rfilename).collect();
    let get = |file: &str| api.get(file).with_context(|| format!("`{file}`"));
    let folder = get(CONFIG)?.parent().context("a file in no folder")?.to_owned();
    get("tokenizer.json")?;
    for file in BESIDE.iter().filter(|file| there.iter().any(|name| name == *file)) {
        get(file)?;
    }
    if there.iter().any(|name| name == SINGLE) {
        get(SINGLE)?;
        return Ok(folder);
    }
    let index: Value = serde_json::from_str(&std::fs::read_to_string(get(INDEX)?)?).context(INDEX)?;
    let listed = index["weight_map"].as_object().with_context(|| format!("`{INDEX}` has no `weight_map`"))?;
    let files: std::collections::BTreeSet<&str> = listed.values().filter_map(Value::as_str).collect();
    for file in files {
        get(file)?;
    }
    Ok(folder)
}

/// A checkpoint that a run starts from, by content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// Its `config.json`.
    pub checkpoint: Value,
    /// The hash of every file with weights.
    pub weights: BTreeMap<String, String>,
    /// Whether it is trained before it is the reference.
    pub fine_tune: bool,
    /// What is trained in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<adapter::Config>,
}

/// Where a run's network comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// It is made anew.
    Fresh(Config),
    /// It starts from a checkpoint.
    Pretrained(Base),
}

impl Base {
    /// What `start` names, its files hashed by `hash`.
    ///
    /// # Errors
    /// When the folder is incomplete or is no language model that is supported.
    pub fn of(start: &Start, hash: impl Fn(&Path) -> Result<String>) -> Result<Self> {
        let folder = start.folder()?;
        let checkpoint = read_config(&folder)?;
        let description = describe(&checkpoint).with_context(|| format!("in `{}`", folder.join(CONFIG).display()))?;
        ensure!(
            description.purpose == super::Purpose::Language,
            "expected a language model in `{}`, found a classifier",
            folder.display()
        );
        let hashed = |file: String| hash(&folder.join(&file)).map(|hash| (file, hash));
        let weights = weight_files(&folder)?.into_iter().map(hashed).collect::<Result<_>>()?;
        if let Some(config) = &start.lora {
            lora(config, &description)?;
        }
        Ok(Self { checkpoint, weights, fine_tune: start.fine_tune, lora: start.lora.clone() })
    }

    /// Reads its weights from where `start` says, which must have the same content as before.
    ///
    /// # Errors
    /// When a file was changed or is not what the config says.
    pub fn load(
        &self,
        start: &Start,
        hash: impl Fn(&Path) -> Result<String>,
        device: &burn::tensor::Device,
    ) -> Result<Model> {
        let now = Self::of(start, hash)?;
        ensure!(now == *self, "the checkpoint in `{}` was changed since it was planned", start.folder()?.display());
        load(&start.folder()?, &self.description()?, device)
    }

    /// Its config, understood.
    ///
    /// # Errors
    /// When it is not, as in a plan of another version.
    pub fn description(&self) -> Result<Description> {
        describe(&self.checkpoint)
    }
}

impl Origin {
    /// The network's architecture, with a language model's head.
    ///
    /// # Errors
    /// As [`Base::description`].
    pub fn architecture(&self) -> Result<Architecture> {
        match self {
            Self::Fresh(config) => Ok(config.into()),
            Self::Pretrained(base) => Ok(base.description()?.architecture),
        }
    }

    /// The adapters that are trained in its place, if that is so.
    ///
    /// # Errors
    /// As [`Base::description`].
    pub fn lora(&self) -> Result<Option<Lora>> {
        let Self::Pretrained(base) = self else { return Ok(None) };
        base.lora.as_ref().map(|config| lora(config, &base.description()?)).transpose()
    }
}
