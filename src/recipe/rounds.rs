//! Iterated collection: annotations in several rounds, each of what the policy of the round before says [ONLINE].
//!
//! Which stages that makes is the plan's; here is what a recipe says, and what it compares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Recipe, Variant};
use crate::units::Count;

/// The recipe's `[rounds]` table: every variant runs once with all annotations on responses of the reference, and once with
/// as many in `n` rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    /// Rounds; a budget is shared by them in equal parts, so it must be a multiple.
    pub n: Count,
    /// Where the policy of a later round begins.
    #[serde(default)]
    pub start: Start,
}

/// Where the policy of a later round begins; its KL is always measured to the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the reference: every round trains as long as a single one, and only annotations differ [ONLINE].
    #[default]
    Reference,
    /// At the policy of the round before, which has trained already.
    Policy,
}

/// A variant with a number of rounds: what a report compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Run<'a> {
    /// As tables show it: the variant's name, `token`, or with its rounds, `token-2rounds`.
    pub name: String,
    /// What it trains.
    pub variant: &'a Variant,
    /// Rounds of annotation.
    pub rounds: usize,
}

impl Recipe {
    /// What is compared: every variant in one round, then, where the recipe has several, every variant in these.
    #[must_use]
    pub fn runs(&self) -> Vec<Run<'_>> {
        let once = self.variants.iter().map(|variant| Run { name: variant.name.clone(), variant, rounds: 1 });
        let rounds = self.rounds.map_or(1, |rounds| rounds.n.get());
        let more = self.variants.iter().filter(|variant| rounds > 1 && variant.credit.is_some()).map(|variant| Run {
            name: format!("{}-{rounds}rounds", variant.name),
            variant,
            rounds,
        });
        once.chain(more).collect()
    }
}
