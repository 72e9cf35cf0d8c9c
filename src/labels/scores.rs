//! Word scores to token scores: what a token reward model of three classes learns from [TPPO].
//!
//! Who scored is `data`'s concern, what a class is worth `reward`'s.

use serde::{Deserialize, Serialize};

use super::words::{touched, words};
use super::{Worded, response_ids};
use crate::data::{Prompt, ScoredResponse};
use crate::text::Tokenizer;

/// A response as ids with a score for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredTokens {
    /// What was asked.
    pub prompt: Prompt,
    /// Token ids, the end-of-sequence token included.
    pub ids: Vec<u32>,
    /// 0, 1 or 2 for each of `ids`; none where nobody scored it.
    pub scores: Vec<Option<u8>>,
    /// Of the response as a whole, from 0 to 2.
    pub sentence: u8,
}

/// Gives each token the lowest score of the words that it overlaps, and the end-of-sequence token that of the end.
///
/// None where the tokenizer sees another number of words than were scored. What is beyond `max_tokens` is cut off.
#[must_use]
pub fn score_tokens(scored: &ScoredResponse, tokenizer: &Tokenizer, max_tokens: usize) -> Option<ScoredTokens> {
    let mut ids = response_ids(&scored.response, tokenizer);
    let (worded, given) = (Worded::new(&ids, tokenizer), &scored.scores);
    let words = words(&worded.text);
    if words.len() != given.words.len() {
        return None;
    }
    let lowest = |range: std::ops::Range<usize>| given.words[range].iter().copied().min();
    let mut tokens: Vec<Option<u8>> = touched(&words, &worded.spans).into_iter().map(lowest).collect();
    tokens.extend(worded.finished.then_some(given.end));
    ids.truncate(max_tokens);
    tokens.truncate(max_tokens);
    Some(ScoredTokens { prompt: scored.prompt.clone(), ids, scores: tokens, sentence: given.sentence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Response, WordScores};
    use crate::text;

    #[test]
    fn tokens_take_the_lowest_score_of_their_words_and_the_end_its_own() {
        let config = text::Config::ByteLevelBpe(text::ByteLevelBpe { vocab_size: 260.try_into().unwrap() });
        let bytes = Tokenizer::train(&config, ["x".to_owned()].into_iter()).unwrap();
        let scored = |text: &str, words: &[u8]| ScoredResponse {
            prompt: Prompt { id: 0, text: "p".into(), facts: vec![] },
            response: Response { text: text.to_owned(), ids: vec![], finished: true },
            scores: WordScores { words: words.to_vec(), end: Some(0), sentence: 1 },
        };
        let found = score_tokens(&scored("ab c", &[2, 1]), &bytes, 9).unwrap();
        // The blank between two words belongs to none.
        assert_eq!(found.scores, [Some(2), Some(2), None, Some(1), Some(0)]);
        assert_eq!((found.ids.len(), found.sentence), (5, 1));
        assert_eq!(score_tokens(&scored("ab c", &[2, 1]), &bytes, 2).unwrap().scores, [Some(2), Some(2)]);
        assert_eq!(score_tokens(&scored("ab c", &[2]), &bytes, 9), None);
    }
}
