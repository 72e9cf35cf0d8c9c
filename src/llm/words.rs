//! Word scores [TPPO].

use anyhow::Result;
use serde_json::json;

use super::insist::insist;
use super::{Attempts, Rejection, Words};
use crate::data::{Prompt, Response, WordScores};
use crate::endpoint::{Client, Template};
use crate::labels;

/// Scores of the words of `responses`, in their order. The end of a response is not scored.
///
/// # Errors
/// When the template or the endpoint fails.
pub fn score(
    config: &Words,
    client: &Client,
    template: &Template,
    responses: &[(&Prompt, &Response)],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Attempts<WordScores>>> {
    let words = |text: &str| labels::words(text).into_iter().map(|word| word.text.to_owned()).collect::<Vec<_>>();
    let subject = |(prompt, response): &(&Prompt, &Response)| json!({ "prompt": prompt.text, "response": response.text, "words": words(&response.text) });
    let subjects: Vec<_> = responses.iter().map(subject).collect();
    let read = |at: usize, answer: &str, _: bool| parse(answer, words(&responses[at].1.text).len());
    insist(client, template, &subjects, config.attempts.get(), read, done)
}

/// Reads one line for each of `count` words, number and score, and one for the whole; other lines are passed over.
fn parse(answer: &str, count: usize) -> Result<WordScores, Rejection> {
    let (mut words, mut sentence) = (vec![None; count], None);
    for line in answer.lines() {
        let parts: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        let Some(score) = parts.last().and_then(|last| last.parse::<u8>().ok()).filter(|score| *score <= 2) else {
            continue;
        };
        if parts[0].eq_ignore_ascii_case("overall") {
            sentence = Some(score);
        } else if let (Ok(number), true) = (parts[0].parse::<usize>(), parts.len() > 1) {
            match number.checked_sub(1).and_then(|at| words.get_mut(at)) {
                Some(place @ None) => *place = Some(score),
                Some(Some(_)) => {
                    return Err(Rejection::new("scored twice", format!("it scores word {number} twice"), answer));
                }
                None => {
                    let problem = format!("it scores a word {number}, and there are {count}");
                    return Err(Rejection::new("unknown word", problem, answer));
                }
            }
        }
    }
    if let Some(missing) = words.iter().position(Option::is_none) {
        let problem = format!("it has no score of 0, 1 or 2 for word {} of {count}", missing + 1);
        return Err(Rejection::new("word missing", problem, answer));
    }
    let Some(sentence) = sentence else {
        return Err(Rejection::new("whole missing", "it has no line `overall:` with a score of 0, 1 or 2", answer));
    };
    Ok(WordScores { words: words.into_iter().flatten().collect(), end: None, sentence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_one_score() {
        let read = |answer: &str| parse(answer, 2);
        let expected = WordScores { words: vec![2, 0], end: None, sentence: 1 };
        assert_eq!(read("1 2\n2 0\noverall: 1"), Ok(expected.clone()));
        assert_eq!(read("Scores:\n2. heron: 0\n1. blue - 2\n**Overall: 1**"), Ok(expected));
        let check = |answer| read(answer).unwrap_err().check;
        assert_eq!(check("1 2\noverall: 1"), "word missing");
        assert_eq!(check("1 2\n2 7\noverall: 1"), "word missing");
        assert_eq!(check("1 2\n2 0"), "whole missing");
        assert_eq!(check("1 2\n1 0\n2 1\noverall: 1"), "scored twice");
        assert_eq!(check("1 2\n2 0\n3 1\noverall: 1"), "unknown word");
    }
}
