//! Revise, then judge: the endpoint makes a response into a reference, adapted to it, with which both are compared
//! [REVISEVAL].
//!
//! Where both orders are judged, each of the two responses is revised once: a reference made from one response is nearer to
//! that one.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ballot::{Ballot, Duel, Vote};
use super::llm::{Asked, Order, Showing, Style, compare, showings};
use super::overlap::{bleu, chrf, rouge_l};
use crate::endpoint::{self, Client, Request, Template};

/// `[judge.revise]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revise {
    /// Whom to ask.
    pub endpoint: endpoint::Config,
    /// How responses are compared with the reference.
    #[serde(default)]
    pub score: Score,
    /// A template (minijinja) in place of the one that asks for a revision, given `prompt` and `response`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revise_template: Option<PathBuf>,
    /// A template in place of the one that asks for a comparison, given `prompt`, `responses` and `reference`; the answer is `[[A]]`, `[[B]]` or `[[C]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_template: Option<PathBuf>,
    /// Whether each of the two responses is revised and shown first once, or one of them, drawn for each pair.
    #[serde(default)]
    pub order: Order,
    /// Decides what is drawn.
    #[serde(default)]
    pub order_seed: u64,
}

/// How responses are compared with a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The endpoint judges with the reference before it.
    #[default]
    Judge,
    /// By sentence BLEU [BLEU]; the endpoint is not asked again.
    Bleu,
    /// By the F1 of their longest common subsequence [ROUGE].
    RougeL,
    /// By character n-grams [CHRF].
    Chrf,
}

impl Score {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Judge => "it judges with the revision as a reference",
            Self::Bleu => "the response nearer to the revision by BLEU wins",
            Self::RougeL => "the response nearer to the revision by ROUGE-L wins",
            Self::Chrf => "the response nearer to the revision by chrF wins",
        }
    }

    /// The metric, where the endpoint is not asked.
    fn metric(self) -> Option<fn(&str, &str) -> f64> {
        match self {
            Self::Judge => None,
            Self::Bleu => Some(bleu),
            Self::RougeL => Some(rouge_l),
            Self::Chrf => Some(chrf),
        }
    }
}

impl Revise {
    /// Judges `duels`; `done` is told how many answers there are of those that it waits for at a time.
    ///
    /// # Errors
    /// As [`Client::ask`], and when a template is none.
    pub fn judge(&self, client: &Client, duels: &[Duel], done: &(dyn Fn(usize) + Sync)) -> Result<Vec<Ballot>> {
        let prompt = Template::read(self.revise_template.as_deref(), include_str!("prompts/revise.jinja"))?;
        let shown = showings(duels, self.order, self.order_seed);
        let request = |&(pair, first): &(usize, bool)| {
            let Duel { prompt: question, responses } = duels[pair];
            prompt.request(&json!({ "prompt": question, "response": responses[usize::from(!first)] }))
        };
        let requests: Vec<Request> = shown.iter().map(request).collect::<Result<_>>()?;
        let references: Vec<String> =
            client.ask(&requests, done)?.into_iter().map(|answer| answer.text.trim().to_owned()).collect();
        // A revision that says nothing is no reference.
        let given = |reference: &String| Some(reference.as_str()).filter(|text| !text.is_empty()).map(str::to_owned);
        let references: Vec<Option<String>> = references.iter().map(given).collect();
        if let Some(metric) = self.score.metric() {
            return Ok(nearer(metric, duels, &shown, &references));
        }
        let with = |(&shown, reference): (&Showing, &Option<String>)| Some((shown, reference.clone()?));
        let asked: Vec<Asked> =
            shown.iter().zip(&references).filter_map(with).map(|(shown, reference)| (shown, Some(reference))).collect();
        let mut ballots = compare(client, Style::Pair, self.judge_template.as_deref(), duels, &asked, done)?;
        for (&(pair, first), _) in shown.iter().zip(&references).filter(|(_, reference)| reference.is_none()) {
            ballots[pair].0.push(Vote { preference: None, first: Some(first), annotator: None });
        }
        Ok(ballots)
    }
}

/// One vote a pair: which response is nearer to the pair's references taken together.
fn nearer(
    metric: fn(&str, &str) -> f64,
    duels: &[Duel],
    shown: &[(usize, bool)],
    references: &[Option<String>],
) -> Vec<Ballot> {
    let mut sums = vec![Some([0.0, 0.0]); duels.len()];
    for (&(pair, _), reference) in shown.iter().zip(references) {
        sums[pair] = sums[pair].zip(reference.as_deref()).map(|([ours, theirs], reference)| {
            let [one, other] = duels[pair].responses.map(|response| metric(response, reference));
            [ours + one, theirs + other]
        });
    }
    let vote = |sums: Option<[f64; 2]>| {
        let preference = sums.map(|[ours, theirs]| match ours.partial_cmp(&theirs) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Less) => 0.0,
            _ => 0.5,
        });
        Ballot(vec![Vote { preference, first: None, annotator: None }])
    };
    sums.into_iter().map(vote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_that_needed_less_revision_wins() {
        let duels = [
            Duel { prompt: "p", responses: ["the cat sat on the mat", "a dog"] },
            Duel { prompt: "p", responses: ["one two", "one two"] },
            Duel { prompt: "p", responses: ["one", "two"] },
        ];
        let shown = [(0, true), (0, false), (1, true), (2, true)];
        let reference = |text: &str| Some(text.to_owned());
        let references = [reference("the cat sat on the mat"), reference("a cat sat"), reference("one"), None];
        let votes: Vec<Option<f64>> =
            nearer(chrf, &duels, &shown, &references).iter().map(Ballot::preference).collect();
        assert_eq!(votes, [Some(1.0), Some(0.5), None]);
    }
}
