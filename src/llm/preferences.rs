//! Preferences of a pool of simulated annotators [ALPACA-FARM].

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::insist::insist;
use super::{Attempts, Preferences, Rejection};
use crate::data::{Prompt, Response};
use crate::endpoint::{Client, Template};

/// A prompt and two responses to compare.
pub type Pair<'a> = (&'a Prompt, &'a Response, &'a Response);

/// What became of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferred {
    /// The annotator's place in the pool.
    pub annotator: usize,
    /// Whether the second response was shown first.
    pub swapped: bool,
    /// Whether the preference was recorded the wrong way round.
    pub flipped: bool,
    /// Whether the first response is preferred, as recorded; none where the pair was flagged.
    pub attempts: Attempts<bool>,
}

/// Lots of one pair, from a stream of its own: a larger budget changes none.
struct Lots {
    annotator: usize,
    swapped: bool,
    flipped: bool,
}

/// Preferences over `pairs`, in their order; `pool` has a client and a template for each of the table's annotators, and `seed`
/// decides annotators, orders and noise.
///
/// # Errors
/// When a template or an endpoint fails, or the pool is empty.
pub fn prefer(
    config: &Preferences,
    pool: &[(Client, Template)],
    pairs: &[Pair],
    seed: u64,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Preferred>> {
    ensure!(!pool.is_empty(), "expected at least one entry in `preferences.llm.annotators`, found none");
    let lots: Vec<Lots> = (0..pairs.len() as u64)
        .map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i);
            Lots {
                annotator: rng.random_range(0..pool.len()),
                swapped: rng.random_bool(0.5),
                flipped: rng.random_bool(config.label_noise.get()),
            }
        })
        .collect();
    let mut found: Vec<Option<Attempts<bool>>> = pairs.iter().map(|_| None).collect();
    let mut settled = 0;
    for (annotator, (client, template)) in pool.iter().enumerate() {
        let mine: Vec<usize> = (0..pairs.len()).filter(|&at| lots[at].annotator == annotator).collect();
        let subject = |&at: &usize| {
            let (prompt, a, b) = pairs[at];
            let (first, second) = if lots[at].swapped { (b, a) } else { (a, b) };
            json!({ "prompt": prompt.text, "first": first.text, "second": second.text })
        };
        let subjects: Vec<_> = mine.iter().map(subject).collect();
        let read = |_: usize, answer: &str, _: bool| verdict(answer);
        let answers =
            insist(client, template, &subjects, config.attempts.get(), read, &|answered| done(settled + answered))?;
        settled += mine.len();
        for (at, Attempts { accepted, rejected }) in mine.into_iter().zip(answers) {
            let Lots { swapped, flipped, .. } = lots[at];
            // Shown second and flipped are two ways of turning the answer round.
            let accepted = accepted.map(|first: bool| first ^ swapped ^ flipped);
            found[at] = Some(Attempts { accepted, rejected });
        }
    }
    let preferred = |(lots, attempts): (Lots, Option<Attempts<bool>>)| {
        let Lots { annotator, swapped, flipped } = lots;
        Some(Preferred { annotator, swapped, flipped, attempts: attempts? })
    };
    Ok(lots.into_iter().zip(found).filter_map(preferred).collect())
}

/// Whether the answer is for the first response shown: it names 1 or 2, and not both.
fn verdict(answer: &str) -> Result<bool, Rejection> {
    let numbers = answer.split(|c: char| !c.is_alphanumeric());
    let named = |digit: &str| numbers.clone().any(|word| word == digit);
    match (named("1"), named("2")) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        (true, true) => Err(Rejection::new("both named", "it names both answers", answer)),
        (false, false) => Err(Rejection::new("none named", "it names neither 1 nor 2", answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_names_one_of_two() {
        assert_eq!(verdict("1"), Ok(true));
        assert_eq!(verdict("Answer 2 is better."), Ok(false));
        let check = |answer| verdict(answer).unwrap_err().check;
        assert_eq!([check("12"), check("1 rather than 2"), check("")], ["none named", "both named", "none named"]);
    }
}
