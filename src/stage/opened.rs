//! A network outside a plan, from the store or from a checkpoint folder: what the commands sample from and score with.
//!
//! Architecture, tokenizer and lengths are those that its stage ran with, or what the folder says. Reading prompts and
//! showing numbers is the commands'.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::execute::Inputs;
use super::node::Stage;
use super::policy::Setting;
use super::{ppo, reward};
use crate::compute::{Crew, DeviceName};
use crate::data::Response;
use crate::model::adapter;
use crate::model::generate::{Sampling, Stops, sample_until};
use crate::model::pretrained::{self, Description, Origin, Purpose, ids};
use crate::model::weights::host;
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
    origin: Source,
}

/// Where a network comes from, as far as a folder for others needs it.
pub(super) struct Source {
    /// The `config.json` of the network.
    pub(super) config: Value,
    /// The folder with the tokenizer's files.
    pub(super) texts: PathBuf,
    /// Whether these were written by this program, without the files beside them.
    pub(super) fresh: bool,
    /// The adapters that were trained.
    pub(super) lora: Option<adapter::Config>,
}

enum Network {
    Language(Model),
    Reward(RewardModel),
    /// A classifier whose labels are no rewards, or a value model; whether a sequence's numbers are those at its last token.
    Labels(Model, bool),
}

/// What a network says of one response's tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// The natural logarithm of each token's probability, at temperature 1.
    LogProbs(Vec<f64>),
    /// Each token's raw reward, and the score that the training loss compares.
    Rewards(Vec<f64>, f64),
    /// Each token's numbers, one a label, and those of the whole: at the last token, or the mean.
    Labels(Vec<Vec<f64>>, Vec<f64>),
}

/// Which network of a result is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The one that the stage is for.
    Main,
    /// The value model that PPO trained beside the policy.
    Value,
    /// The adapters alone, on the network that they were trained on.
    Adapter,
}

impl Opened {
    /// Opens the result of an `sft`, `ppo` or `reward` stage.
    ///
    /// # Errors
    /// When it is another stage's result, has no such part, its tokenizer is not in `store`, or a file does not fit.
    pub fn open(store: &Store, artefact: &Artefact, part: Part) -> Result<Self> {
        let manifest = &artefact.manifest;
        let stage = manifest.stage.as_str();
        let is = |wanted: Stage| stage == wanted.name();
        ensure!(
            is(Stage::Sft) || is(Stage::Ppo) || is(Stage::Dpo) || is(Stage::Reward),
            "expected a model (a result of `sft`, `ppo`, `dpo` or `reward`), found a result of `{stage}`"
        );
        let setting = Setting::deserialize(&manifest.config["setting"])
            .with_context(|| format!("config of `{stage}` result `{}`", manifest.key))?;
        let texts = input(store, artefact, Stage::Tokenizer.name(), Stage::Tokenizer)?;
        let inputs = Inputs::new(vec![("tokenizer".to_owned(), texts)]);
        let tokenizer = setting.tokenizer(&inputs)?;
        let lora = match &setting.model {
            Origin::Pretrained(base) => base.lora.clone(),
            Origin::Fresh(_) => None,
        };
        let base = match lora.as_ref().filter(|_| !is(Stage::Sft)) {
            Some(_) => Some(setting.model(&input(store, artefact, "reference", Stage::Sft)?)?),
            None => None,
        };
        let network = match part {
            Part::Value => {
                ensure!(is(Stage::Ppo), "expected a result of `ppo`, which has a value model, found one of `{stage}`");
                Network::Labels(setting.headed(artefact, ppo::VALUE, 1, base.as_ref())?, false)
            }
            Part::Adapter if is(Stage::Sft) => Network::Language(setting.sft_adapter(artefact)?),
            Part::Main | Part::Adapter if is(Stage::Reward) => {
                Network::Reward(reward::load(artefact, &setting, base.as_ref())?)
            }
            Part::Main if is(Stage::Sft) => Network::Language(setting.model(artefact)?),
            Part::Main | Part::Adapter => Network::Language(setting.trained(artefact, base.as_ref())?),
        };
        let texts = inputs.artefact("tokenizer")?.dir.clone();
        let vocab = tokenizer.vocab_size();
        let positions = setting.max_prompt_tokens + setting.max_response_tokens;
        let (config, fresh) = match &setting.model {
            Origin::Fresh(config) => (pretrained::fresh_config(config, vocab, positions), true),
            Origin::Pretrained(base) => (base.checkpoint.clone(), false),
        };
        let opened = Self {
            network,
            ends: vec![tokenizer.eos()],
            tokenizer,
            chat: None,
            max_prompt: Some(setting.max_prompt_tokens),
            max_response: setting.max_response_tokens,
            crew: setting.crew(),
            origin: Source { config, texts, fresh, lora },
        };
        opened.checked()
    }

    /// Opens the checkpoint folder `dir` on `device`: a language model, a reward model, or another classifier.
    ///
    /// # Errors
    /// When the folder is incomplete, or its architecture, a key of its config or its head is not supported.
    pub fn checkpoint(dir: &Path, device: DeviceName) -> Result<Self> {
        let config = pretrained::read_config(dir)?;
        let shown = || format!("in `{}`", dir.join(pretrained::CONFIG).display());
        let description = pretrained::describe(&config).with_context(shown)?;
        let generation = generation_config(dir)?;
        let ends =
            ids(&generation, "eos_token_id")?.map_or_else(|| ids(&config, "eos_token_id"), |ids| Ok(Some(ids)))?;
        let pad = ids(&config, "pad_token_id")?.and_then(|ids| ids.first().copied());
        let fallback = Fallback { eos: ends.as_ref().and_then(|ids| ids.first().copied()), pad };
        let Folder { tokenizer, chat } = Folder::open(dir, fallback)?;
        let model = pretrained::load(dir, &description, &device.open()?)?;
        let max_new = generation.get("max_new_tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let opened = Self {
            network: network(&description, model)?,
            ends: ends.unwrap_or_else(|| vec![tokenizer.eos()]),
            tokenizer,
            chat,
            max_prompt: None,
            max_response: max_new.unwrap_or(MAX_NEW),
            crew: Crew::new(std::thread::available_parallelism().map_or(1, usize::from)),
            origin: Source { config, texts: dir.to_owned(), fresh: false, lora: None },
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

    pub(super) const fn model(&self) -> &Model {
        match &self.network {
            Network::Language(model) | Network::Labels(model, _) => model,
            Network::Reward(reward) => &reward.model,
        }
    }

    pub(super) const fn origin(&self) -> &Source {
        &self.origin
    }

    /// What its head is for.
    pub(super) const fn purpose(&self) -> Purpose {
        match &self.network {
            Network::Language(_) => Purpose::Language,
            Network::Reward(RewardModel { kind: Kind::Sequence(_), .. }) | Network::Labels(_, true) => {
                Purpose::Sequence
            }
            Network::Reward(_) | Network::Labels(_, false) => Purpose::Token,
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
                let log_probs = bucket::map(rows, crew, |place| model.on(place), pass);
                log_probs.into_iter().map(Scores::LogProbs).collect()
            }
            Network::Reward(reward) => {
                let rewards = reward.token_rewards(rows, pad, crew);
                let scored = rewards.into_iter().map(|row| (reward.kind.score(&row), row));
                scored.map(|(score, row)| Scores::Rewards(row, score)).collect()
            }
            Network::Labels(model, last) => bucket::map(
                rows,
                crew,
                |place| model.on(place),
                |model, rows| {
                    let batch = Batch::new(rows, pad, &model.device());
                    labelled(&host(&model.at_response(&batch)), &batch, model.outputs(), *last)
                },
            ),
        })
    }
}

/// What the outputs at a batch's response tokens, one a label, say of each row.
fn labelled(outputs: &[f32], batch: &Batch, labels: usize, last: bool) -> Vec<Scores> {
    let rows = outputs.chunks_exact(batch.response_columns * labels).zip(&batch.lengths);
    let row = |(outputs, &length): (&[f32], &usize)| {
        let wide = |token: &[f32]| token.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let tokens: Vec<Vec<f64>> = outputs.chunks_exact(labels).take(length).map(wide).collect();
        let mean = |label: usize| tokens.iter().map(|token| token[label]).sum::<f64>() / length.max(1) as f64;
        let whole = match tokens.last() {
            Some(token) if last => token.clone(),
            _ => (0..labels).map(mean).collect(),
        };
        Scores::Labels(tokens, whole)
    };
    rows.map(row).collect()
}

/// How a checkpoint's head is read. One label is a reward: a sequence classifier's score is the one at the last token, a
/// token classifier's the mean. Two labels that say so are those of a `tlcr` reward model.
fn network(description: &Description, model: Model) -> Result<Network> {
    let token = |loss: TokenLoss| -> Result<Kind> {
        Ok(serde_json::from_value(serde_json::json!({ "token": { "loss": loss } }))?)
    };
    let kind = match (description.purpose, description.outputs) {
        (Purpose::Language, _) => return Ok(Network::Language(model)),
        (Purpose::Sequence, 1) => Kind::Sequence(Sequence { data: PairSource::Preferences }),
        (Purpose::Token, 1) => token(TokenLoss::PairwiseMean)?,
        (Purpose::Token, 2) if description.two_sided => token(TokenLoss::Tlcr)?,
        (purpose, _) => return Ok(Network::Labels(model, purpose == Purpose::Sequence)),
    };
    Ok(Network::Reward(RewardModel::new(kind, model)))
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

/// The result of `stage` that plays `role` for `artefact`.
fn input(store: &Store, artefact: &Artefact, role: &str, stage: Stage) -> Result<Artefact> {
    let manifest = &artefact.manifest;
    let (_, key) = manifest.inputs.iter().find(|(known, _)| known == role).with_context(|| {
        format!("expected an input `{role}` of `{}` result `{}`, found none", manifest.stage, manifest.key)
    })?;
    match store.find(stage.name(), key) {
        Lookup::Found(found) => Ok(found),
        Lookup::Missing => {
            bail!("expected the `{stage}` result `{key}` in the store `{}`, found none", store.root().display())
        }
        Lookup::Damaged(error) => Err(error.into()),
    }
}
