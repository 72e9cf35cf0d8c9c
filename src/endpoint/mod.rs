//! A language model behind an OpenAI-compatible endpoint: asked in parallel, patiently, within a budget, and never twice for
//! the same thing.
//!
//! [`Client::ask`] sends [`Request`]s and returns [`Answer`]s in the same order. Every answer is on the disk before it is used, in a
//! file that only grows, under a hash of the full request: a run that was killed goes on at the request where it stopped, and
//! one that is repeated sends nothing. What is asked, and what an answer means, is left to the rooms below.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # let config: runner::endpoint::Config = serde_json::from_str("{}")?;
//! use runner::endpoint::{Client, Request};
//! let client = Client::new(&config, "judge.llm", ".runner/answers".as_ref())?;
//! let answers = client.ask(&[Request::of("You are terse.", "What is 6 times 7?")], &|_done| {})?;
//! println!("{} for {} tokens", answers[0].text, client.usage().completion_tokens);
//! # Ok(())
//! # }
//! ```

mod answer;
mod answers;
mod client;
mod gate;
mod ledger;
mod patience;
mod request;
mod template;

pub use answer::{Answer, TokenLogprob};
pub use client::Client;
pub use ledger::Usage;
pub use request::{Message, Request};
pub use template::Template;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Count, NonNegative, Positive};

/// An `endpoint` table: whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the API begins, version included, such as `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// The environment variable that holds the key, where one is needed. The key itself is in no file and no message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Which of the endpoint's APIs is asked.
    #[serde(default)]
    pub api: Api,
    /// Temperature of sampling; 0 takes the likeliest token.
    #[serde(default = "default_temperature")]
    pub temperature: NonNegative,
    /// Tokens of an answer at most.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: Count,
    /// Seed of sampling, for endpoints that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How the endpoint is treated: changes no answer.
    #[serde(default, skip_serializing_if = "Conduct::is_default")]
    pub conduct: Conduct,
}

impl Config {
    /// Without what changes no answer: what belongs into a key.
    #[must_use]
    pub fn deciding(&self) -> Self {
        Self { conduct: Conduct::default(), api_key_env: None, ..self.clone() }
    }
}

/// Which of an endpoint's APIs is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `POST chat/completions`: messages, to which the endpoint applies the model's chat template.
    #[default]
    Chat,
    /// `POST completions`: one text, for models without a chat template; the messages' texts with an empty line between them.
    Completions,
}

/// `endpoint.conduct`: how the endpoint is treated. Nothing of it changes an answer or reruns a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Conduct {
    /// Requests under way at once, over all stages of the process.
    pub concurrency: Count,
    /// Seconds after which a request without an answer is given up and sent again.
    pub timeout_seconds: Positive,
    /// How often a request is sent again after 408, 409, 429, 5xx, a time-out, a broken connection or an answer that is no JSON.
    pub max_retries: u32,
    /// Seconds before the first retry; they double with each, less up to a half drawn by lot. `Retry-After` makes them longer.
    pub first_wait_seconds: NonNegative,
    /// Seconds that are waited at most. A `Retry-After` beyond it ends the stage.
    pub max_wait_seconds: NonNegative,
    /// Where spending ends.
    pub budget: Budget,
    /// What tokens cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

impl Default for Conduct {
    fn default() -> Self {
        let seconds = |value| NonNegative::try_from(value).expect("at least zero");
        Self {
            concurrency: Count::try_from(8).expect("at least one"),
            timeout_seconds: Positive::try_from(120.0).expect("above zero"),
            max_retries: 5,
            first_wait_seconds: seconds(0.5),
            max_wait_seconds: seconds(120.0),
            budget: Budget::default(),
            prices: None,
        }
    }
}

impl Conduct {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `endpoint.conduct.budget`: what one process may spend through this table, over all its stages. A request that could exceed it is not
/// sent; the stage fails, keeps what was answered, and goes on from there when it is run again. No limit where a key is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Requests sent, retries included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens of prompts and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money, in the currency of `prices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<NonNegative>,
}

/// `endpoint.conduct.prices`: what a million tokens cost, in any currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// A million tokens of prompts.
    pub prompt_per_million: NonNegative,
    /// A million tokens of answers.
    pub completion_per_million: NonNegative,
}

fn default_temperature() -> NonNegative {
    NonNegative::try_from(0.0).expect("at least zero")
}

fn default_max_tokens() -> Count {
    Count::try_from(1024).expect("at least one")
}
