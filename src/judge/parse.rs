//! What a language model's answer says, or that it says nothing: an answer that cannot be read is not guessed at.

use serde_json::Value;

use crate::endpoint::{Answer, TokenLogprob};

/// A preference for the first of the two outputs from a ranking such as `[{'model': 'model_1', 'rank': 1}, ...]`, as Python or
/// JSON writes it, with whatever stands around the list: 1 where `model_1` is ranked first, 0 where `model_2` is, 0.5 where both have one rank
/// [ALPACA-EVAL].
pub(super) fn ranking(text: &str) -> Option<f64> {
    let list = &text[text.find('[')?..=text.rfind(']')?];
    // A Python literal of this shape is JSON but for its quotation marks.
    let read = |text: &str| serde_json::from_str::<Vec<Value>>(text).ok();
    let entries = read(list).or_else(|| read(&list.replace('\'', "\"")))?;
    let rank = |name: &str| {
        let mut mine = entries.iter().filter(|entry| entry["model"] == name);
        let rank = mine.next()?["rank"].as_u64().filter(|rank| (1..=2).contains(rank));
        if mine.next().is_none() { rank } else { None }
    };
    let (one, two) = (rank("model_1")?, rank("model_2")?);
    Some(match one.cmp(&two) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    })
}

/// A preference for the first of the two outputs from the log-probabilities of the answer's first token: `p(m) / (p(m) + p(M))`. A
/// token that is not among the alternatives has at most the probability of the least likely one, and is given that
/// [ALPACA-EVAL].
pub(super) fn logprobs(answer: &Answer) -> Option<f64> {
    let alternatives = answer.top_logprobs.first()?;
    let of = |name: &str| {
        let same = |entry: &&TokenLogprob| entry.token.trim() == name && entry.logprob.is_finite();
        alternatives.iter().filter(same).map(|entry| entry.logprob).reduce(f64::max)
    };
    let (first, second) = (of("m"), of("M"));
    if first.is_none() && second.is_none() {
        return None;
    }
    let least = alternatives.iter().map(|entry| entry.logprob).fold(f64::INFINITY, f64::min);
    let difference = second.unwrap_or(least) - first.unwrap_or(least);
    Some(1.0 / (1.0 + difference.exp())).filter(|share| share.is_finite())
}

/// A preference for the first of two answers from a verdict `[[A]]`, `[[B]]` or `[[C]]` (a tie) [MT-BENCH]; none where the text has none, or
/// different ones.
pub(super) fn pair(text: &str) -> Option<f64> {
    let found: Vec<f64> = [("[[A]]", 1.0), ("[[B]]", 0.0), ("[[C]]", 0.5)]
        .into_iter()
        .filter(|(mark, _)| text.contains(mark))
        .map(|(_, preference)| preference)
        .collect();
    <[f64; 1]>::try_from(found).ok().map(|[preference]| preference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_are_read_as_python_and_as_json() {
        let first = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]";
        assert_eq!(ranking(first), Some(1.0));
        assert_eq!(
            ranking("```python\n[{\"model\": \"model_2\", \"rank\": 1}, {\"model\": \"model_1\", \"rank\": 2}]\n```"),
            Some(0.0)
        );
        assert_eq!(ranking("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 1}]"), Some(0.5));
    }

    #[test]
    fn rankings_that_say_nothing_are_not_guessed_at() {
        for text in [
            "",
            "model_1 is better",
            "[]",
            "][",
            "[{'model': 'model_1', 'rank': 3}, {'model': 'model_2', 'rank': 1}]",
            "[{'model': 'model_1', 'rank': 1}]",
            "[{'model': 'model_1', 'rank': 1}, {'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 2}]",
            "[{'model': 'model_1', 'rank': 1}, {'model': 'other', 'rank': 2}]",
        ] {
            assert_eq!(ranking(text), None, "{text}");
        }
    }

    fn tokens(alternatives: &[(&str, f64)]) -> Answer {
        let of = |&(token, logprob): &(&str, f64)| TokenLogprob { token: token.to_owned(), logprob };
        Answer { top_logprobs: vec![alternatives.iter().map(of).collect()], ..Answer::default() }
    }

    #[test]
    fn a_tokens_probability_is_how_sure_the_judge_is() {
        let both = tokens(&[("m", 0.6_f64.ln()), ("M", 0.2_f64.ln()), ("x", 0.1_f64.ln())]);
        assert!((logprobs(&both).unwrap() - 0.75).abs() < 1e-12);
        // `m` is missing: it has at most what `x` has.
        let one = tokens(&[("M", 0.9_f64.ln()), ("x", 0.1_f64.ln())]);
        assert!((logprobs(&one).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!([logprobs(&tokens(&[("x", -0.1)])), logprobs(&Answer::default())], [None, None]);
    }

    #[test]
    fn a_verdict_is_one_mark() {
        assert_eq!([pair("so [[A]]"), pair("[[B]]."), pair("[[C]] [[C]]")], [Some(1.0), Some(0.0), Some(0.5)]);
        assert_eq!([pair("[A]"), pair("either [[A]] or [[B]]"), pair("")], [None, None, None]);
    }
}
