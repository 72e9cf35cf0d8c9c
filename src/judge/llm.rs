//! A language model as a judge: a prompt, in both orders, and what its answers say.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ballot::{Ballot, Duel, Vote};
use super::parse;
use crate::endpoint::{self, Answer, Client, Request, Template};

/// `[judge.llm]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    /// Whom to ask.
    pub endpoint: endpoint::Config,
    /// How it is asked, and how its answer is read.
    #[serde(default)]
    pub style: Style,
    /// A prompt template (minijinja) in place of the style's own, with blocks `system` and `user`, given `prompt` and `responses`. Its answers are
    /// read as those of the style.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// In which orders the two responses are shown.
    #[serde(default)]
    pub order: Order,
    /// Decides orders where they are drawn.
    #[serde(default)]
    pub order_seed: u64,
}

/// How a language model is asked to compare two responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// It explains itself and ends with `[[A]]`, `[[B]]` or, for a tie, `[[C]]`, as in MT-Bench [MT-BENCH].
    #[default]
    Pair,
    /// It answers with a list of names and ranks, as in AlpacaEval [ALPACA-EVAL].
    Ranking,
    /// It answers with one token, `m` or `M`, whose log-probabilities say how sure it is, as in AlpacaEval 2 [ALPACA-EVAL].
    Logprobs,
}

/// In which orders two responses are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In both; what a judge says is the mean.
    #[default]
    Both,
    /// In one, drawn for each pair: half as many requests, and no look at the judge's consistency. What AlpacaEval does.
    Random,
}

impl Order {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Both => "both orders",
            Self::Random => "one order, drawn for each pair",
        }
    }

    /// For pair number `index`: whether the first response comes first, in each showing.
    pub(super) fn showings(self, seed: u64, index: usize) -> Vec<bool> {
        match self {
            Self::Both => vec![true, false],
            Self::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(index as u64);
                vec![rng.random()]
            }
        }
    }
}

/// Alternatives to the one token that is read: as many as endpoints give.
const ALTERNATIVES: u32 = 5;

impl Style {
    const fn template(self) -> &'static str {
        match self {
            Self::Pair => include_str!("prompts/pair.jinja"),
            Self::Ranking => include_str!("prompts/ranking.jinja"),
            Self::Logprobs => include_str!("prompts/logprobs.jinja"),
        }
    }

    fn shaped(self, request: Request) -> Request {
        match self {
            Self::Pair | Self::Ranking => request,
            Self::Logprobs => request.with_max_tokens(1).with_top_logprobs(ALTERNATIVES),
        }
    }

    /// How far the response that was shown first is preferred.
    fn read(self, answer: &Answer) -> Option<f64> {
        match self {
            Self::Pair => parse::pair(&answer.text),
            Self::Ranking => parse::ranking(&answer.text),
            Self::Logprobs => parse::logprobs(answer),
        }
    }
}

impl Llm {
    /// Judges `duels`; `done` is told how many answers there are.
    ///
    /// # Errors
    /// As [`Client::ask`], and when the template is none.
    pub fn judge(&self, client: &Client, duels: &[Duel], done: &(dyn Fn(usize) + Sync)) -> Result<Vec<Ballot>> {
        let shown = showings(duels, self.order, self.order_seed);
        let asked: Vec<Asked> = shown.iter().map(|&shown| (shown, None)).collect();
        compare(client, self.style, self.template.as_deref(), duels, &asked, done)
    }
}

/// A pair's index and whether its first response is shown first.
pub(super) type Showing = (usize, bool);

/// A showing, and what else is shown: a reference.
pub(super) type Asked = (Showing, Option<String>);

/// Every showing of every pair, in order.
pub(super) fn showings(duels: &[Duel], order: Order, seed: u64) -> Vec<Showing> {
    (0..duels.len()).flat_map(|pair| order.showings(seed, pair).into_iter().map(move |first| (pair, first))).collect()
}

/// Asks about every showing and collects what is said of each pair.
pub(super) fn compare(
    client: &Client,
    style: Style,
    template: Option<&Path>,
    duels: &[Duel],
    asked: &[Asked],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Ballot>> {
    let prompt = Template::read(template, style.template())?;
    let request = |((pair, first), reference): &Asked| {
        let Duel { prompt: question, mut responses } = duels[*pair];
        if !first {
            responses.reverse();
        }
        let mut values = json!({ "prompt": question, "responses": responses });
        if let Some(reference) = reference {
            values["reference"] = json!(reference);
        }
        Ok(style.shaped(prompt.request(&values)?))
    };
    let requests: Vec<Request> = asked.iter().map(request).collect::<Result<_>>()?;
    let mut ballots = vec![Ballot::default(); duels.len()];
    for (&((pair, first), _), answer) in asked.iter().zip(client.ask(&requests, done)?) {
        let of_first = style.read(&answer);
        let preference = of_first.map(|preference| if first { preference } else { 1.0 - preference });
        ballots[pair].0.push(Vote { preference, first: Some(first), annotator: None });
    }
    Ok(ballots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_order_is_the_pairs_own_and_both_come_up() {
        let drawn: Vec<Vec<bool>> = (0..64).map(|pair| Order::Random.showings(3, pair)).collect();
        assert!(drawn.iter().all(|showings| showings.len() == 1));
        assert!(drawn.contains(&vec![true]) && drawn.contains(&vec![false]));
        assert_eq!(drawn, (0..64).map(|pair| Order::Random.showings(3, pair)).collect::<Vec<_>>());
        assert_eq!(Order::Both.showings(3, 0), [true, false]);
    }

    #[test]
    fn every_style_has_a_prompt_that_shows_question_and_responses() {
        for style in [Style::Pair, Style::Ranking, Style::Logprobs] {
            let prompt = Template::read(None, style.template()).unwrap();
            let request =
                style.shaped(prompt.request(&json!({ "prompt": "why?", "responses": ["one", "two"] })).unwrap());
            let user = &request.messages[1].content;
            let places = ["why?", "one", "two"].map(|part| user.find(part));
            assert!(places.iter().all(Option::is_some) && places[1] < places[2], "{user}");
            assert!(!user.contains("reference") && request.top_logprobs.is_some() == (style == Style::Logprobs));
        }
    }
}
