//! A network outside a plan, from the store or from a checkpoint folder: what the commands sample from and score with.
//!
//! Architecture, tokenizer and lengths are those that its stage ran with, or what the folder says. Reading prompts and
//! showing numbers is the commands'.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::execute::Inputs;
use super::node::Stage;
use super::policy::Setting;
use super::reward;
use crate::compute::{Crew, DeviceName};
use crate::data::Response;
use crate::model::generate::{Sampling, Stops, sample_until};
use crate::model::pretrained::{self, Description, Purpose, ids};
use crate::model::{Batch, Model, Pair, bucket};
use crate::reward::score::{RewardModel, ragged};
use crate::reward::{Kind, PairSource, Sequence, TokenLoss};
use crate::store::{Artefact, Lookup, Store};
use crate::text::{ChatTemplate, Fallback, Folder, Tokenizer};

/// Logits of one pass at most, where the vocabulary is large.
const LOGITS: usize = 1 << 27;

/// Tokens of a response at most, where a folder does not say.
const MAX_NEW: usize = 128;

/// A language model or a reward model, with its tokenizer.
pub struct Opened {
    network: Network,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    /// Ids that end a response.
    ends: Vec<u32>,
    max_prompt: Option<usize>,
    max_response: usize,
    crew: Crew,
}

enum Network {
    Language(Model),
    Reward(RewardModel),
}

/// What a network says of one response's tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// The natural logarithm of each token's probability, at temperature 1.
    LogProbs(Vec<f64>),
    /// Each token's raw reward, and the score that the training loss compares.
    Rewards(Vec<f64>, f64),
}

impl Opened {
    /// Opens the result of an `sft`, `ppo` or `reward` stage.
    ///
    /// # Errors
    /// When it is another stage's result, its tokenizer is not in `store`, or a file does not fit.
    pub fn open(store: &Store, artefact: &Artefact) -> Result<Self> {
        let manifest = &artefact.manifest;
        let stage = manifest.stage.as_str();
        let is = |wanted: Stage| stage == wanted.name();
        ensure!(
            is(Stage::Sft) || is(Stage::Ppo) || is(Stage::Reward),
            "expected a model (a result of `sft`, `ppo` or `reward`), found a result of `{stage}`"
        );
        let setting = Setting::deserialize(&manifest.config["setting"])
            .with_context(|| format!("config of `{stage}` result `{}`", manifest.key))?;
        let inputs = Inputs::new(vec![("tokenizer".to_owned(), input(store, artefact, Stage::Tokenizer)?)]);
        let tokenizer = setting.tokenizer(&inputs)?;
        let network = if is(Stage::Reward) {
            Network::Reward(reward::load(artefact, &setting)?)
        } else {
            Network::Language(setting.model(artefact)?)
        };
        let opened = Self {
            network,
            ends: vec![tokenizer.eos()],
            tokenizer,
            chat: None,
            max_prompt: Some(setting.max_prompt_tokens),
            max_response: setting.max_response_tokens,
            crew: setting.crew(),
        };
        opened.checked()
    }

    /// Opens the checkpoint folder `dir` on `device`: a language model, or a reward model with one output.
    ///
    /// # Errors
    /// When the folder is incomplete, or its architecture, a key of its config or its head is not supported.
    pub fn checkpoint(dir: &Path, device: DeviceName) -> Result<Self> {
        let config = pretrained::read_config(dir)?;
        let shown = || format!("in `{}`", dir.join(pretrained::CONFIG).display());
        let description = pretrained::describe(&config).with_context(shown)?;
        let kind = kind(&description)?;
        let generation = generation_config(dir)?;
        let ends =
            ids(&generation, "eos_token_id")?.map_or_else(|| ids(&config, "eos_token_id"), |ids| Ok(Some(ids)))?;
        let pad = ids(&config, "pad_token_id")?.and_then(|ids| ids.first().copied());
        let fallback = Fallback { eos: ends.as_ref().and_then(|ids| ids.first().copied()), pad };
        let Folder { tokenizer, chat } = Folder::open(dir, fallback)?;
        let model = pretrained::load(dir, &description, &device.open()?)?;
        let network = match kind {
            Some(kind) => Network::Reward(RewardModel::new(kind, model)),
            None => Network::Language(model),
        };
        let max_new = generation.get("max_new_tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let opened = Self {
            network,
            ends: ends.unwrap_or_else(|| vec![tokenizer.eos()]),
            tokenizer,
            chat,
            max_prompt: None,
            max_response: max_new.unwrap_or(MAX_NEW),
            crew: Crew::new(std::thread::available_parallelism().map_or(1, usize::from)),
        };
        opened.checked()
    }

    fn checked(self) -> Result<Self> {
        let (ids, rows) = (self.tokenizer.vocab_size(), self.vocab_size());
        ensure!(
            ids <= rows,
            "the tokenizer does not fit the model: expected at most {rows} ids (rows of the embedding), found {ids}"
        );
        Ok(self)
    }

    /// Its tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Its chat template, where it has one.
    #[must_use]
    pub const fn chat(&self) -> Option<&ChatTemplate> {
        self.chat.as_ref()
    }

    const fn model(&self) -> &Model {
        match &self.network {
            Network::Language(model) => model,
            Network::Reward(reward) => &reward.model,
        }
    }

    /// Ids that the network knows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.model().vocab_size()
    }

    /// Prompt tokens that it was trained for at most, where that is known.
    #[must_use]
    pub const fn max_prompt_tokens(&self) -> Option<usize> {
        self.max_prompt
    }

    /// Response tokens that it was trained for at most.
    #[must_use]
    pub const fn max_response_tokens(&self) -> usize {
        self.max_response
    }

    /// Ids of a prompt as the network was trained to see it.
    #[must_use]
    pub fn prompt_ids(&self, prompt: &str) -> Vec<u32> {
        self.tokenizer.encode_prompt(prompt, self.max_prompt.unwrap_or(usize::MAX))
    }

    /// Says whether a sequence of `tokens` has positions.
    ///
    /// # Errors
    /// When it is longer than the network's learned positions.
    pub fn fits(&self, tokens: usize) -> Result<()> {
        if let Some(most) = self.model().config.max_positions() {
            ensure!(
                tokens <= most,
                "the model knows {most} positions: expected at most as many tokens in prompt and response, found {tokens}"
            );
        }
        Ok(())
    }

    /// One response to each prompt, given by its ids; prompt `i` draws from stream `i` of `seed`.
    ///
    /// # Errors
    /// When this is a reward model, or a prompt with its response would be longer than the model's positions.
    pub fn generate(&self, prompts: &[Vec<u32>], sampling: Sampling, seed: u64) -> Result<Vec<Response>> {
        let Network::Language(model) = &self.network else {
            bail!("expected a language model (a result of `sft` or `ppo`, or a `ForCausalLM`), found a reward model");
        };
        self.fits(prompts.iter().map(Vec::len).max().unwrap_or(0) + sampling.max_new)?;
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let stops = Stops { pad: self.tokenizer.pad(), ends: &self.ends };
        let sampled = self.crew.install(|| sample_until(model, &rows, stops, sampling, seed, &self.crew, &|_| ()));
        Ok(sampled.into_iter().map(|sampled| self.response(sampled.ids)).collect())
    }

    fn response(&self, ids: Vec<u32>) -> Response {
        let finished = ids.last().is_some_and(|last| self.ends.contains(last));
        let said = if finished { &ids[..ids.len() - 1] } else { &ids };
        Response { text: self.tokenizer.decode(said), finished, ids }
    }

    /// What the network says of each row's response.
    ///
    /// # Panics
    /// On an empty prompt or response: there is nothing to score.
    #[must_use]
    pub fn score(&self, rows: &[Pair]) -> Vec<Scores> {
        let (crew, pad) = (&self.crew, self.tokenizer.pad());
        crew.install(|| match &self.network {
            Network::Language(model) => {
                let longest = rows.iter().map(|row| row.response.len()).max().unwrap_or(0).max(1);
                let at_once = (LOGITS / (longest * model.outputs())).max(1);
                let read = |model: &Model, rows: &[Pair]| {
                    let batch = Batch::new(rows, pad, &model.device());
                    ragged(&model.log_probs(&batch, 1.0), &batch.lengths)
                };
                let pass =
                    |model: &Model, rows: &[Pair]| rows.chunks(at_once).flat_map(|rows| read(model, rows)).collect();
                let log_probs = bucket::map(rows, crew, |device| model.on(device), pass);
                log_probs.into_iter().map(Scores::LogProbs).collect()
            }
            Network::Reward(reward) => {
                let rewards = reward.token_rewards(rows, pad, crew);
                let scored = rewards.into_iter().map(|row| (reward.kind.score(&row), row));
                scored.map(|(score, row)| Scores::Rewards(row, score)).collect()
            }
        })
    }
}

/// How a checkpoint's head is read as rewards; none for a language model. A sequence classifier's score is the one at the
/// last token, a token classifier's the mean; two labels are those of a `tlcr` reward model.
fn kind(description: &Description) -> Result<Option<Kind>> {
    let token = |loss: TokenLoss| -> Result<Kind> {
        Ok(serde_json::from_value(serde_json::json!({ "token": { "loss": loss } }))?)
    };
    Ok(match (description.purpose, description.outputs) {
        (Purpose::Language, _) => None,
        (Purpose::Sequence, 1) => Some(Kind::Sequence(Sequence { data: PairSource::Preferences })),
        (Purpose::Token, 1) => Some(token(TokenLoss::PairwiseMean)?),
        (Purpose::Token, 2) => Some(token(TokenLoss::Tlcr)?),
        (_, outputs) => bail!("expected a reward head with one label, found {outputs}"),
    })
}

/// `generation_config.json`, which may be missing.
fn generation_config(dir: &Path) -> Result<Value> {
    let path = dir.join("generation_config.json");
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in `{}`", path.display()))
}

/// The result of `stage` that `artefact` was made from.
fn input(store: &Store, artefact: &Artefact, stage: Stage) -> Result<Artefact> {
    let manifest = &artefact.manifest;
    let (_, key) = manifest.inputs.iter().find(|(role, _)| role == stage.name()).with_context(|| {
        format!("expected an input `{stage}` of `{}` result `{}`, found none", manifest.stage, manifest.key)
    })?;
    match store.find(stage.name(), key) {
        Lookup::Found(found) => Ok(found),
        Lookup::Missing => {
            bail!("expected the `{stage}` result `{key}` in the store `{}`, found none", store.root().display())
        }
        Lookup::Damaged(error) => Err(error.into()),
    }
}
