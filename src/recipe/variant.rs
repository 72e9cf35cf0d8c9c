//! What is compared: a reward model with the credit at which PPO pays it, or one of the baselines beside PPO.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Recipe;
use super::rules::{Verdict, text};
use crate::reward::Kind;
use crate::units::{Count, Fraction, NonNegative};
use crate::{dpo, ppo, reward};

/// One entry of `[[variants]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name in tables and plots; not part of any key.
    pub name: String,
    /// Its reward model; `dpo` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Kind>,
    /// How the reward reaches PPO. A sequence reward model allows only `end_of_sequence`, `spans` only `span_end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<ppo::Credit>,
    /// In place of `credit`: nothing is trained; of several samples of the reference the one with the highest reward is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of_n: Option<BestOfN>,
    /// In place of `reward` and `credit`: direct preference optimisation on pairs [DPO].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<dpo::Config>,
    /// A sequence reward mixed into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// What every token beyond the median length of the reference's samples costs, in standard deviations of the reference's
    /// return [TPPO]; left out, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_penalty: Option<NonNegative>,
}

/// A variant's `best_of_n` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOfN {
    /// Samples to choose from.
    pub n: Count,
}

/// How a variant comes by its responses.
#[derive(Clone, Copy, Debug)]
pub enum Method<'a> {
    /// A policy trained by PPO against a reward model at a credit.
    Ppo(&'a Kind, ppo::Credit),
    /// The best of some samples of the reference by a reward model.
    BestOfN(&'a Kind, usize),
    /// A policy trained on pairs.
    Dpo(&'a dpo::Config),
}

impl Variant {
    /// How it comes by its responses; none where the recipe says nothing that fits together.
    #[must_use]
    pub const fn method(&self) -> Option<Method<'_>> {
        match (&self.reward, self.credit, self.best_of_n, &self.dpo) {
            (Some(reward), Some(credit), None, None) => Some(Method::Ppo(reward, credit)),
            (Some(reward), None, Some(best), None) => Some(Method::BestOfN(reward, best.n.get())),
            (None, None, None, Some(dpo)) => Some(Method::Dpo(dpo)),
            _ => None,
        }
    }

    /// The coefficients of the KL to the reference to choose from: PPO's from `ppo`, the betas of DPO, a single 0 where nothing is
    /// trained.
    #[must_use]
    pub fn coefficients(&self, ppo: &ppo::Config) -> Vec<f64> {
        let values = |grid: &ppo::Grid| grid.values().iter().map(|beta| beta.get()).collect();
        match self.method() {
            Some(Method::Dpo(dpo)) => values(&dpo.beta),
            Some(Method::BestOfN(..)) => vec![0.0],
            _ => values(&ppo.kl_coef),
        }
    }
}

impl Recipe {
    /// Whether the variant or run of that name is trained by PPO.
    #[must_use]
    pub fn is_ppo(&self, name: &str) -> bool {
        self.runs().iter().any(|run| run.name == name && matches!(run.variant.method(), Some(Method::Ppo(..))))
    }
}

/// A variant's `mix` table: `(1 - weight)` times its own reward, and `weight` times a sequence reward at the last token.
/// Both have unit deviation on the reference's samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// What the sequence reward model learns from.
    pub data: reward::PairSource,
    /// Its share.
    pub weight: Fraction,
}

/// Every variant says in one way how it comes by its responses, and nothing that this way does not read.
pub(super) fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    for (i, variant) in recipe.variants.iter().enumerate() {
        let key = format!("variants.{i}");
        verdict.require(
            variant.method().is_some(),
            format!("variant `{}` does not say in one way how it comes by its responses", variant.name),
            &[(&key, text("expected `reward` with `credit`, `reward` with `best_of_n`, or `dpo`"))],
        );
        let Some(method) = variant.method() else { continue };
        let written = [("mix", variant.mix.is_some()), ("length_penalty", variant.length_penalty.is_some())];
        for (name, is_written) in written {
            let reads = !is_written || matches!(method, Method::Ppo(..));
            let message = format!("variant `{}`: only a reward that PPO is paid reads `{name}`", variant.name);
            verdict.require(reads, message, &[(&format!("{key}.{name}"), text("expected together with `credit`"))]);
        }
        match method {
            Method::Ppo(..) => {}
            Method::BestOfN(kind, _) => {
                let (fits, key) = (matches!(kind, Kind::Sequence(_) | Kind::Token(_)), format!("{key}.reward"));
                let message =
                    format!("variant `{}`: a sequence or a token reward chooses the best of n samples", variant.name);
                verdict.require(fits, message, &[(&key, text("expected `sequence` or `token`"))]);
            }
            Method::Dpo(dpo) => {
                let (betas, key) = (dpo.beta.values(), format!("{key}.dpo.beta"));
                let positive = !betas.is_empty() && betas.iter().all(|beta| beta.get() > 0.0);
                let message = format!("variant `{}`: a beta of DPO is above 0", variant.name);
                verdict.require(positive, message, &[(&key, text("expected a number above 0, or a list of them"))]);
            }
        }
    }
}
