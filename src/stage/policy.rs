//! What most stages need of a language model: the tokenizer, the network and the lengths it was trained for.

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::execute::Inputs;
use super::node::Stage;
use super::sft;
use crate::compute::{Crew, DeviceName, Family, Precision, Replicas};
use crate::data::{Dataset, Prompt, Response};
use crate::model::bucket::Cut;
use crate::model::generate::{Sampling, Special, sample};
use crate::model::pretrained::{Base, Origin, ids};
use crate::model::{Architecture, Model};
use crate::recipe::Recipe;
use crate::store::{Artefact, hash_of};
use crate::text::{self, Fallback, Folder, Tokenizer};
use crate::units::Memory;

/// What every stage that touches a network has in its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// Where the network comes from.
    pub model: Origin,
    /// The tokenizer's table: names the special tokens.
    pub tokenizer: text::Config,
    /// Prompt tokens at most.
    pub max_prompt_tokens: usize,
    /// Response tokens at most.
    pub max_response_tokens: usize,
    /// The backend family: part of the key, because it decides the last bits.
    pub backend: String,
    /// Parts a gradient step is cut into.
    pub shards: usize,
    /// Mebibytes at most that a shard's activations take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_memory: Option<u64>,
    /// Whether backward passes compute layers again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// What networks compute in.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// What the recipe of this run calls its devices: says which of several alike, and is no part of a key.
    #[serde(default, skip_serializing)]
    pub devices: Vec<DeviceName>,
    /// How many replicas share the work: no part of a key either.
    #[serde(default, skip_serializing)]
    pub replicas: Replicas,
}

impl Setting {
    /// # Errors
    /// When the recipe's checkpoint cannot be read, or its positions are too few.
    pub(super) fn of(recipe: &Recipe) -> Result<Self> {
        let setting = Self {
            model: origin(recipe)?,
            tokenizer: super::tokenizer::without_path(&recipe.tokenizer),
            max_prompt_tokens: recipe.dataset.max_prompt_tokens.get(),
            max_response_tokens: recipe.dataset.max_response_tokens.get(),
            backend: family(&recipe.devices())?.name().to_owned(),
            shards: recipe.shards.get(),
            shard_memory: recipe.shard_memory.as_ref().map(Memory::mebibytes),
            gradient_checkpointing: recipe.gradient_checkpointing,
            precision: recipe.precision,
            devices: recipe.devices(),
            replicas: recipe.replicas,
        };
        if let Some(most) = setting.model.architecture()?.max_positions() {
            let tokens = setting.max_prompt_tokens + setting.max_response_tokens;
            ensure!(
                tokens <= most,
                "the checkpoint knows {most} positions: expected at most as many in `dataset.max_prompt_tokens` and \
                 `dataset.max_response_tokens` together, found {tokens}"
            );
        }
        Ok(setting)
    }

    /// Those of the run, if they are of the family that the plan was made for.
    fn places(&self) -> Result<Vec<DeviceName>> {
        let family =
            self.backend.parse::<DeviceName>().map_err(|error| anyhow!("{error} (backend of a plan)"))?.family();
        let here: Vec<DeviceName> = self.devices.iter().copied().filter(|device| device.family() == family).collect();
        Ok(if here.is_empty() { vec![DeviceName::from(family)] } else { here })
    }

    pub(super) fn cut(&self) -> Cut {
        let bytes = self.shard_memory.map(|mebibytes| mebibytes << 20);
        Cut { shards: self.shards, bytes, recomputes: self.gradient_checkpointing }
    }

    fn opened(&self) -> Result<Vec<Device>> {
        self.places()?.into_iter().map(DeviceName::open).collect()
    }

    /// The device where models are at home, the first; none that is missing is passed over.
    pub(super) fn device(&self) -> Result<Device> {
        Ok(self.opened()?.swap_remove(0))
    }

    /// The replicas, which are given models of [`Self::device`]; how many does not change a result.
    pub(super) fn crew(&self) -> Crew {
        let devices = self.opened().unwrap_or_default();
        let replicas = self.replicas.count(self.shards, devices.len());
        Crew::on(devices, replicas).recomputing(self.gradient_checkpointing).computing_in(self.precision)
    }

    pub(super) fn tokenizer(&self, inputs: &Inputs) -> Result<Tokenizer> {
        let artefact = inputs.artefact("tokenizer")?;
        match &self.model {
            Origin::Fresh(_) => Tokenizer::from_json(&artefact.read_bytes("tokenizer.json")?, &self.tokenizer),
            Origin::Pretrained(base) => Ok(Folder::open(&artefact.dir, fallback(&base.checkpoint)?)?.tokenizer),
        }
    }

    /// The network that an `sft` result holds.
    pub(super) fn model(&self, artefact: &Artefact) -> Result<Model> {
        self.read(artefact, MODEL, self.model.architecture()?)
    }

    /// The reference that adapters are built on; none where there are no adapters.
    pub(super) fn base(&self, inputs: &Inputs) -> Result<Option<Model>> {
        self.model.lora()?.map(|_| self.model(inputs.artefact("reference")?)).transpose()
    }

    /// The network that a `ppo` result holds: whole, or as adapters of `reference`.
    pub(super) fn trained(&self, artefact: &Artefact, reference: Option<&Model>) -> Result<Model> {
        match self.model.lora()? {
            Some(lora) => adapted(artefact, MODEL, &base_of(reference)?.adapt(&lora, 0)),
            None => self.model(artefact),
        }
    }

    /// The network that samples: an `sft` or a `ppo` result, whose base then is the input `reference`.
    pub(super) fn sampler(&self, artefact: &Artefact, inputs: &Inputs) -> Result<Model> {
        if artefact.manifest.stage == Stage::Ppo.name() {
            return self.trained(artefact, self.base(inputs)?.as_ref());
        }
        self.model(artefact)
    }

    /// The adapters that an `sft` result was trained as, for a folder of their own.
    pub(super) fn sft_adapter(&self, artefact: &Artefact) -> Result<Model> {
        let lora = self.model.lora()?.context("expected a recipe with `[policy.lora]`, found one without")?;
        ensure!(
            artefact.manifest.files.contains_key(sft::ADAPTER),
            "expected adapters, found none: `policy.fine_tune` was off, so that the reference is the checkpoint itself"
        );
        adapted(artefact, sft::ADAPTER, &self.model(artefact)?.adapt(&lora, 0))
    }

    /// A network under a head of its own of `outputs` columns, from `file` of a result: whole, or as adapters of `reference`.
    pub(super) fn headed(
        &self,
        artefact: &Artefact,
        file: &str,
        outputs: usize,
        reference: Option<&Model>,
    ) -> Result<Model> {
        match self.model.lora()? {
            Some(lora) => adapted(artefact, file, &base_of(reference)?.adapt(&lora, 0).with_head(outputs, 0.0, 0)),
            None => self.read(artefact, file, self.model.architecture()?.headed()),
        }
    }

    fn read(&self, artefact: &Artefact, file: &str, architecture: Architecture) -> Result<Model> {
        Model::from_file(&artefact.path(file)?, architecture, &self.device()?)
            .with_context(|| format!("`{file}` in `{}`", artefact.dir.display()))
    }

    /// The policy that `model` is.
    pub(super) fn policy(&self, inputs: &Inputs, model: Model) -> Result<Policy> {
        Policy::new(model, self.tokenizer(inputs)?, self.max_prompt_tokens, self.max_response_tokens)
    }
}

/// The file of a result that holds its network.
pub(super) const MODEL: &str = "model.safetensors";

fn base_of(reference: Option<&Model>) -> Result<&Model> {
    reference.context("adapters without the model that they belong to")
}

fn adapted(artefact: &Artefact, file: &str, fresh: &Model) -> Result<Model> {
    let read = fresh.with_weights(&artefact.read_bytes(file)?);
    read.with_context(|| format!("`{file}` in `{}`", artefact.dir.display()))
}

/// The one family of all `devices`.
fn family(devices: &[DeviceName]) -> Result<Family> {
    let mut families = devices.iter().map(|device| device.family());
    let first = families.next().context("expected a device")?;
    ensure!(
        families.all(|family| family == first),
        "expected `devices` of one kind, since kinds differ in the last bits; found {}",
        devices.iter().map(|device| format!("`{device}`")).collect::<Vec<_>>().join(", ")
    );
    Ok(first)
}

fn origin(recipe: &Recipe) -> Result<Origin> {
    match (&recipe.model, &recipe.policy) {
        (Some(config), None) => Ok(Origin::Fresh(config.clone())),
        (None, Some(start)) => Ok(Origin::Pretrained(Base::of(start, |path| Ok(hash_of(path)?))?)),
        _ => bail!("expected one of `[model]` and `[policy]`"),
    }
}

/// The tokenizer of `recipe`, from the result of its stage.
///
/// # Errors
/// When the recipe's checkpoint or the result cannot be read.
pub fn tokenizer(recipe: &Recipe, artefact: Artefact) -> Result<Tokenizer> {
    Setting::of(recipe)?.tokenizer(&Inputs::new(vec![("tokenizer".to_owned(), artefact)]))
}

/// Ids that a checkpoint's config names.
pub(super) fn fallback(config: &Value) -> Result<Fallback> {
    let first = |key| Ok(ids(config, key)?.and_then(|ids| ids.first().copied()));
    first("eos_token_id").and_then(|eos| Ok(Fallback { eos, pad: first("pad_token_id")? }))
}

/// A language model that answers prompts.
pub struct Policy {
    /// The network.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    max_prompt: usize,
    max_response: usize,
}

impl Policy {
    /// Joins a network and a tokenizer.
    ///
    /// # Errors
    /// When their vocabularies disagree in size.
    pub fn new(model: Model, tokenizer: Tokenizer, max_prompt: usize, max_response: usize) -> Result<Self> {
        let (ids, rows) = (tokenizer.vocab_size(), model.vocab_size());
        ensure!(
            ids <= rows,
            "the tokenizer does not fit the model: expected at most {rows} ids (rows of the embedding), found {ids}"
        );
        Ok(Self { model, tokenizer, max_prompt, max_response })
    }

    /// Prompt ids as the model sees them.
    #[must_use]
    pub fn prompt_ids(&self, prompt: &str) -> Vec<u32> {
        self.tokenizer.encode_prompt(prompt, self.max_prompt)
    }

    /// Padding and end-of-sequence ids.
    #[must_use]
    pub fn special(&self) -> Special {
        Special { pad: self.tokenizer.pad(), eos: self.tokenizer.eos() }
    }

    /// One response to each prompt, drawn from the model's own distribution.
    pub fn respond(&self, prompts: &[Prompt], seed: u64, crew: &Crew, done: &(dyn Fn(usize) + Sync)) -> Vec<Response> {
        let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| self.prompt_ids(&prompt.text)).collect();
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let sampling = Sampling::plain(1.0, self.max_response);
        let responses = sample(&self.model, &rows, self.special(), sampling, seed, crew, done);
        responses.into_iter().map(|sampled| response(&self.tokenizer, sampled.ids)).collect()
    }
}

/// Sampled ids as a response.
pub(super) fn response(tokenizer: &Tokenizer, ids: Vec<u32>) -> Response {
    Response { text: tokenizer.decode(&ids), finished: ids.last() == Some(&tokenizer.eos()), ids }
}

/// The seed of one purpose of one run: different purposes never share random numbers.
pub(super) fn seed(run: u64, purpose: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&run.to_le_bytes());
    hasher.update(purpose.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The dataset as the data stage stored it.
pub(super) fn dataset(inputs: &Inputs) -> Result<Dataset> {
    let data = inputs.artefact("data")?;
    Ok(Dataset {
        demonstrations: data.read_jsonl("demonstrations.jsonl")?,
        train: data.read_jsonl("train.jsonl")?,
        validation: data.read_jsonl("validation.jsonl")?,
        test: data.read_jsonl("test.jsonl")?,
        preferences: data.read_jsonl("preferences.jsonl")?,
        held_out_preferences: data.read_jsonl("held_out_preferences.jsonl")?,
        edits: data.read_jsonl("edits.jsonl")?,
        held_out_edits: data.read_jsonl("held_out_edits.jsonl")?,
        // The report's matter, which reads them by itself.
        skipped: Vec::new(),
    })
}
