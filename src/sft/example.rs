//! What a demonstration teaches: ids, and which of them are learned.

use crate::data::Demonstration;
use crate::text::Tokenizer;

/// A sequence to imitate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Ids that nothing is learned of.
    pub prompt: Vec<u32>,
    /// Ids after them, end-of-sequence token included.
    pub response: Vec<u32>,
    /// Which of the response's ids are learned.
    pub learned: Vec<bool>,
}

impl Example {
    /// A response of which all is learned.
    #[must_use]
    pub fn whole(prompt: Vec<u32>, response: Vec<u32>) -> Self {
        let learned = vec![true; response.len()];
        Self { prompt, response, learned }
    }

    /// A demonstration as `tokenizer` cuts it, with so many tokens of prompt and response at most; a prompt loses its start.
    /// Of a conversation all that the assistant said is learned, and nothing else.
    #[must_use]
    pub fn new(demonstration: &Demonstration, tokenizer: &Tokenizer, max_prompt: usize, max_response: usize) -> Self {
        let Demonstration { prompt, response, said } = demonstration;
        let Some(&(last_turn, _)) = said.last() else {
            let mut ids = tokenizer.encode(response);
            ids.push(tokenizer.eos());
            ids.truncate(max_response);
            return Self::whole(tokenizer.encode_prompt(prompt, max_prompt), ids);
        };
        let text = format!("{prompt}{response}");
        let (ids, learned) = tokenizer.within(&text, said);
        // Where the assistant's last turn begins: the first token that is not wholly before it.
        let before = tokenizer.offsets(&text).iter().take_while(|(_, end)| *end <= last_turn).count();
        let mut last: Vec<u32> = ids[before..].to_vec();
        // It ends where sampling ends.
        last.truncate(last.iter().position(|&id| id == tokenizer.eos()).unwrap_or(last.len()));
        last.push(tokenizer.eos());
        last.truncate(max_response);
        let begin = tokenizer.begin();
        let after_begin = if ids.starts_with(begin) { begin.len().min(before) } else { 0 };
        let room = max_prompt.saturating_sub(begin.len());
        let kept = after_begin.max(before.saturating_sub(room));
        // What comes before the first learned token is prompt; a prompt has at least one token.
        let unlearned = learned[kept..before].iter().take_while(|learned| !**learned).count();
        let first = kept + if begin.is_empty() { unlearned.max(1).min(before - kept) } else { unlearned };
        let mut learned = learned[first..before].to_vec();
        learned.resize(learned.len() + last.len(), true);
        Self {
            prompt: begin.iter().chain(&ids[kept..first]).copied().collect(),
            response: ids[first..before].iter().chain(&last).copied().collect(),
            learned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Config, WordLevel};

    fn example(said: &[(usize, usize)], limits: [usize; 2]) -> (Tokenizer, Example) {
        let texts = ["U: a A: b c . U: d A: e ."].map(str::to_owned);
        let tokenizer = Tokenizer::train(&Config::WordLevel(WordLevel {}), texts.into_iter()).unwrap();
        let demonstration =
            Demonstration { prompt: "U: a A: b c . U: d A: ".into(), response: "e .".into(), said: said.to_vec() };
        let found = Example::new(&demonstration, &tokenizer, limits[0], limits[1]);
        (tokenizer, found)
    }

    #[test]
    fn of_a_conversation_all_that_the_assistant_said_is_learned() {
        // `b c .` and `e .`
        let said = [(8, 13), (22, 25)];
        let (tokenizer, found) = example(&said, [20, 8]);
        assert_eq!(tokenizer.decode(&found.prompt[1..]), "U: a A:");
        assert_eq!(found.prompt[0], tokenizer.begin()[0]);
        assert_eq!(tokenizer.decode(&found.response), "b c . U: d A: e .");
        assert_eq!(found.response.last(), Some(&tokenizer.eos()));
        assert_eq!(found.learned, [1, 1, 1, 0, 0, 0, 1, 1, 1].map(|learned| learned == 1));
        // Cut from the left: what remains begins within the first answer.
        let (tokenizer, cut) = example(&said, [6, 2]);
        assert_eq!(tokenizer.decode(&cut.response), "c . U: d A: e .");
        assert_eq!((cut.prompt.len(), &cut.response[5..]), (1, &found.response[6..8]));
        assert_eq!(cut.learned, [1, 1, 0, 0, 0, 1, 1].map(|learned| learned == 1));
        // A single turn is what it is without a conversation.
        let (_, single) = example(&said[1..], [20, 8]);
        assert_eq!(single, example(&[], [20, 8]).1);
    }
}
