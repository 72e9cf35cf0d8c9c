//! A recipe's judges with what each needs: a world, a reward model, a file, an endpoint.
//!
//! What is in a key and what is used differ: a key holds a file's hash and nothing of how an endpoint is treated; the path and the
//! treatment are the recipe's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::data::world;
use super::execute::Inputs;
use super::policy::Setting;
use super::responses::pairs;
use super::reward;
use crate::data::world::World;
use crate::data::{Prompt, Response};
use crate::endpoint::{self, Client, Usage};
use crate::events::Emitter;
use crate::judge::{Annotations, Ballot, Config, Duel, Judge, Llm, Revise, Verdict};
use crate::recipe::Recipe;
use crate::store::{Workspace, hash_of};
use crate::text::Tokenizer;

/// What a judge says of a policy's responses beside the reference's: verdicts on both, or ballots on pairs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Judged {
    /// On the policy's responses.
    pub(super) test: Vec<Verdict>,
    /// On the reference's.
    pub(super) reference: Vec<Verdict>,
    /// On both together, from a judge that gives no scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ballots: Vec<Ballot>,
}

impl Judged {
    /// How each response fared against the reference's: 1 for a win; none where the judge did not say.
    pub(super) fn outcomes(&self) -> Vec<Option<f64>> {
        if self.ballots.is_empty() {
            self.test.iter().zip(&self.reference).map(|(ours, theirs)| Some(ours.against(theirs))).collect()
        } else {
            self.ballots.iter().map(Ballot::preference).collect()
        }
    }

    /// Verdicts on prompt number `index`: the policy's and the reference's.
    pub(super) fn verdicts(&self, index: usize) -> Option<(&Verdict, &Verdict)> {
        self.test.get(index).zip(self.reference.get(index))
    }
}

/// The judge as a key knows it: files by their hash, an endpoint without how it is treated.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn keyed(judge: &Judge) -> Result<Judge> {
    let mut table = table_of(judge.clone()).deciding();
    for (_, path) in table.files_mut() {
        *path = hash_of(path).with_context(|| format!("cannot read `{}`", path.display()))?.into();
    }
    table.primary().context("a judge")
}

/// A table of one judge.
fn table_of(judge: Judge) -> Config {
    let mut table = Config::default();
    match judge {
        Judge::Oracle(oracle) => table.oracle = Some(oracle),
        Judge::RewardModel(model) => table.reward_model = Some(model),
        Judge::Human(file) => table.human = Some(file),
        Judge::File(file) => table.file = Some(file),
        Judge::Llm(llm) => table.llm = Some(*llm),
        Judge::Revise(revise) => table.revise = Some(*revise),
    }
    table
}

/// Who judges, and with what.
pub(super) struct Bench<'a> {
    means: Means,
    tokenizer: &'a Tokenizer,
    setting: &'a Setting,
    emitter: &'a Emitter<'a>,
}

enum Means {
    World(Box<World>),
    Model(Box<crate::reward::score::RewardModel>),
    Annotations(Annotations),
    Llm(Box<Llm>, Client),
    Revise(Box<Revise>, Client),
}

/// Where a judge finds what it needs.
pub(super) struct Needs<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) inputs: &'a Inputs,
    /// The role of its reward model, where it is one.
    pub(super) model: &'a str,
    /// The role of the model that its adapters belong to, where it has any.
    pub(super) reference: &'a str,
    pub(super) workspace: &'a Workspace,
}

impl<'a> Bench<'a> {
    /// The judge that a key knows as `judge`, with files and endpoints as `needs.recipe` says.
    ///
    /// # Errors
    /// When what it needs is not there, or a file was changed since the run was submitted.
    pub(super) fn new(
        judge: &Judge,
        needs: &Needs,
        setting: &'a Setting,
        tokenizer: &'a Tokenizer,
        emitter: &'a Emitter<'a>,
    ) -> Result<Self> {
        let name = judge.name().text();
        let client = |endpoint: &endpoint::Config| {
            Client::new(endpoint, &format!("judge.{name}.endpoint"), &needs.workspace.answers())
        };
        let means = match live(judge, needs.recipe)? {
            Judge::Oracle(_) => {
                Means::World(Box::new(world(needs.inputs)?.context("an oracle needs a world; the dataset is none")?))
            }
            Judge::RewardModel(_) => {
                let of = |role: &str| setting.model(needs.inputs.artefact(role)?);
                let base = setting.model.lora()?.map(|_| of(needs.reference)).transpose()?;
                Means::Model(Box::new(reward::load(needs.inputs.artefact(needs.model)?, setting, base.as_ref())?))
            }
            Judge::Human(file) | Judge::File(file) => Means::Annotations(Annotations::read(&file.path)?),
            Judge::Llm(llm) => {
                let client = client(&llm.endpoint)?;
                Means::Llm(llm, client)
            }
            Judge::Revise(revise) => {
                let client = client(&revise.endpoint)?;
                Means::Revise(revise, client)
            }
        };
        Ok(Self { means, tokenizer, setting, emitter })
    }

    /// What it says of `ours` beside `theirs`, one response to each prompt.
    ///
    /// # Errors
    /// When an endpoint does not answer.
    pub(super) fn judge(&self, prompts: &[Prompt], ours: &[Response], theirs: &[Response]) -> Result<Judged> {
        if let (Some(test), Some(reference)) = (self.verdicts(prompts, ours), self.verdicts(prompts, theirs)) {
            return Ok(Judged { test, reference, ballots: Vec::new() });
        }
        let duels: Vec<Duel> = prompts
            .iter()
            .zip(ours)
            .zip(theirs)
            .map(|((prompt, ours), theirs)| Duel { prompt: &prompt.text, responses: [&ours.text, &theirs.text] })
            .collect();
        Ok(Judged { ballots: self.ballots(&duels)?, ..Judged::default() })
    }

    /// One score a response, from a judge that gives scores.
    pub(super) fn verdicts(&self, prompts: &[Prompt], responses: &[Response]) -> Option<Vec<Verdict>> {
        match &self.means {
            Means::World(world) => {
                let of = |(prompt, response): (&Prompt, &Response)| {
                    Verdict::of_faults(&world.faults(&prompt.facts, response))
                };
                Some(prompts.iter().zip(responses).map(of).collect())
            }
            Means::Model(model) => {
                let encode =
                    |prompt: &Prompt| self.tokenizer.encode_prompt(&prompt.text, self.setting.max_prompt_tokens);
                let ids: Vec<Vec<u32>> = prompts.iter().map(encode).collect();
                let crew = self.setting.crew();
                let scores = crew.install(|| model.scores(&pairs(&ids, responses), self.tokenizer.pad(), &crew));
                Some(scores.into_iter().map(Verdict::of_score).collect())
            }
            Means::Annotations(_) | Means::Llm(..) | Means::Revise(..) => None,
        }
    }

    /// What a judge of pairs says. Two equal texts are a draw that nobody is asked about, and the same pair is asked about once.
    fn ballots(&self, duels: &[Duel]) -> Result<Vec<Ballot>> {
        let done = |n| self.emitter.progress(n, 2 * duels.len(), "answers");
        Ok(match &self.means {
            Means::World(_) | Means::Model(_) => Vec::new(),
            Means::Annotations(annotations) => duels.iter().map(|duel| annotations.ballot(*duel)).collect(),
            Means::Llm(llm, client) => llm.judge(client, duels, &done)?,
            Means::Revise(revise, client) => revise.judge(client, duels, &done)?,
        })
    }

    /// What asking an endpoint took so far; none where none is asked.
    pub(super) fn usage(&self, judged: &[&Judged]) -> Option<Usage> {
        let (Means::Llm(_, client) | Means::Revise(_, client)) = &self.means else { return None };
        let unparsable: usize = judged.iter().flat_map(|judged| &judged.ballots).map(Ballot::unparsable).sum();
        Some(Usage { unparsable: unparsable as u64, ..client.usage() })
    }
}

/// The recipe's own table of the judge that a key knows as `judge`.
fn live(judge: &Judge, recipe: &Recipe) -> Result<Judge> {
    let name = judge.name();
    let live = recipe.judge.named(name).with_context(|| format!("the recipe has no `[judge.{}]`", name.text()))?;
    ensure!(
        json!(keyed(&live)?) == json!(judge),
        "`[judge.{}]` names a file that was changed since the run was submitted",
        name.text()
    );
    Ok(live)
}

/// The KL coefficient with the highest mean win rate on validation prompts, the larger one on a tie, from (coefficient, win rate) of
/// every run.
pub(super) fn best_coefficient(runs: &[(f64, Option<f64>)]) -> Option<f64> {
    // Positive numbers are in the order of their bits.
    let mut rates: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (coefficient, rate) in runs {
        rates.entry(coefficient.to_bits()).or_default().extend(rate);
    }
    let mean = |rates: &Vec<f64>| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let best = rates.iter().max_by(|a, b| mean(a.1).total_cmp(&mean(b.1)).then(a.0.cmp(b.0)));
    best.map(|(bits, _)| f64::from_bits(*bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_mean_is_chosen_and_of_equals_the_larger_coefficient() {
        let runs = [(0.03, Some(0.9)), (0.03, Some(0.5)), (0.1, Some(0.8)), (0.1, Some(0.7)), (0.3, Some(0.75))];
        assert_eq!(best_coefficient(&runs), Some(0.3));
        assert_eq!(best_coefficient(&[(0.1, None), (0.03, None)]), Some(0.1));
        assert_eq!(best_coefficient(&[]), None);
    }

    #[test]
    fn a_key_knows_nothing_of_how_an_endpoint_is_treated() {
        let read = |text: &str| toml::from_str::<Config>(text).unwrap().primary().unwrap();
        let plain = read("[llm.endpoint]\nbase_url = \"http://a/v1\"\nmodel = \"m\"");
        let treated = read(
            "[llm.endpoint]\nbase_url = \"http://a/v1\"\nmodel = \"m\"\napi_key_env = \"KEY\"\nconduct = { concurrency = 2 }",
        );
        let other = read("[llm.endpoint]\nbase_url = \"http://a/v1\"\nmodel = \"n\"");
        assert_eq!(json!(keyed(&treated).unwrap()), json!(keyed(&plain).unwrap()));
        assert_ne!(json!(keyed(&other).unwrap()), json!(keyed(&plain).unwrap()));
    }
}
