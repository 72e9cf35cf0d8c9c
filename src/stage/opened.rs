//! A stored network outside a plan: what the commands sample from and score with.
//!
//! Architecture, tokenizer and lengths are those that its stage ran with. Reading prompts and showing numbers is the
//! commands'.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::execute::Inputs;
use super::node::Stage;
use super::policy::{Policy, Setting, response};
use super::reward;
use crate::data::Response;
use crate::model::generate::{Sampling, sample};
use crate::model::{Batch, Pair, bucket};
use crate::reward::score::{RewardModel, ragged};
use crate::store::{Artefact, Lookup, Store};
use crate::text::Tokenizer;

/// A language model or a reward model from the store, with its tokenizer.
pub struct Opened {
    setting: Setting,
    network: Network,
}

enum Network {
    Language(Policy),
    Reward(RewardModel, Tokenizer),
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
            Network::Reward(reward::load(artefact, &setting)?, tokenizer)
        } else {
            let (prompt, response) = (setting.max_prompt_tokens, setting.max_response_tokens);
            Network::Language(Policy::new(setting.model(artefact)?, tokenizer, prompt, response)?)
        };
        Ok(Self { setting, network })
    }

    /// Its tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Tokenizer {
        match &self.network {
            Network::Language(policy) => &policy.tokenizer,
            Network::Reward(_, tokenizer) => tokenizer,
        }
    }

    /// Ids that the network knows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match &self.network {
            Network::Language(policy) => policy.model.vocab_size(),
            Network::Reward(reward, _) => reward.model.vocab_size(),
        }
    }

    /// Prompt tokens that it was trained for at most.
    #[must_use]
    pub const fn max_prompt_tokens(&self) -> usize {
        self.setting.max_prompt_tokens
    }

    /// Response tokens that it was trained for at most.
    #[must_use]
    pub const fn max_response_tokens(&self) -> usize {
        self.setting.max_response_tokens
    }

    /// One response to each prompt, given by its ids; prompt `i` draws from stream `i` of `seed`.
    ///
    /// # Errors
    /// When this is a reward model.
    pub fn generate(&self, prompts: &[Vec<u32>], sampling: Sampling, seed: u64) -> Result<Vec<Response>> {
        let Network::Language(policy) = &self.network else {
            bail!("expected a language model (a result of `sft` or `ppo`), found a reward model");
        };
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let crew = self.setting.crew();
        let sampled = crew.install(|| sample(&policy.model, &rows, policy.special(), sampling, seed, &crew, &|_| ()));
        Ok(sampled.into_iter().map(|ids| response(&policy.tokenizer, ids)).collect())
    }

    /// What the network says of each row's response.
    ///
    /// # Panics
    /// On an empty prompt or response: there is nothing to score.
    #[must_use]
    pub fn score(&self, rows: &[Pair]) -> Vec<Scores> {
        let (crew, pad) = (self.setting.crew(), self.tokenizer().pad());
        crew.install(|| match &self.network {
            Network::Language(policy) => {
                let log_probs = bucket::map(rows, &crew, |rows| {
                    let batch = Batch::new(rows, pad, &policy.model.device());
                    ragged(&policy.model.log_probs(&batch, 1.0), &batch.lengths)
                });
                log_probs.into_iter().map(Scores::LogProbs).collect()
            }
            Network::Reward(reward, _) => {
                let rewards = reward.token_rewards(rows, pad, &crew);
                let scored = rewards.into_iter().map(|row| (reward.kind.score(&row), row));
                scored.map(|(score, row)| Scores::Rewards(row, score)).collect()
            }
        })
    }
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
