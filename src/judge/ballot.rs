//! What judges say of two responses: votes, which of several orders or people, and how consistent they are.

use serde::{Deserialize, Serialize};

/// Two responses to one prompt.
#[derive(Clone, Copy, Debug)]
pub struct Duel<'a> {
    /// What was asked.
    pub prompt: &'a str,
    /// The policy's response and the reference's.
    pub responses: [&'a str; 2],
}

/// One answer to the question which of two responses is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// How far the policy's response is preferred: 1 it wins, 0 the reference's wins, 0.5 a draw, between for how sure the judge is;
    /// none where the answer could not be read.
    pub preference: Option<f64>,
    /// Whether the policy's response was shown first, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<bool>,
    /// Who, where several were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotator: Option<String>,
}

/// All answers about one pair; none where nobody was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ballot(pub Vec<Vote>);

impl Ballot {
    /// The mean preference; none where a vote could not be read, since what is left of two orders would be one position's bias.
    #[must_use]
    pub fn preference(&self) -> Option<f64> {
        let votes: Option<Vec<f64>> = self.0.iter().map(|vote| vote.preference).collect();
        votes.filter(|votes| !votes.is_empty()).map(|votes| votes.iter().sum::<f64>() / votes.len() as f64)
    }

    /// Answers that could not be read.
    #[must_use]
    pub fn unparsable(&self) -> usize {
        self.0.iter().filter(|vote| vote.preference.is_none()).count()
    }
}

/// How consistent a judge is who saw two responses in a certain order, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consistency {
    /// Pairs that were judged in both orders, both readable.
    pub in_both_orders: usize,
    /// Those of them with the same winner, or a draw, in both.
    pub consistent: usize,
    /// Decided votes of known order.
    pub decided: usize,
    /// Those of them that go to the response shown first.
    pub first: usize,
}

impl Consistency {
    /// Counts `ballots`.
    #[must_use]
    pub fn of<'a>(ballots: impl IntoIterator<Item = &'a Ballot>) -> Self {
        let mut counted = Self::default();
        for Ballot(votes) in ballots {
            let side =
                |first: bool| votes.iter().find(|vote| vote.first == Some(first)).and_then(|vote| vote.preference);
            if let (Some(one), Some(other)) = (side(true), side(false)) {
                counted.in_both_orders += 1;
                counted.consistent += usize::from(winner(one) == winner(other));
            }
            for vote in votes {
                let (Some(preference), Some(first)) = (vote.preference, vote.first) else { continue };
                if winner(preference) != 0 {
                    counted.decided += 1;
                    counted.first += usize::from((winner(preference) > 0) == first);
                }
            }
        }
        counted
    }
}

/// 1 for the policy's response, -1 for the reference's, 0 for neither.
fn winner(preference: f64) -> i8 {
    i8::from(preference > 0.5) - i8::from(preference < 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(orders: [Option<f64>; 2]) -> Ballot {
        let vote = |preference, first| Vote { preference, first: Some(first), annotator: None };
        Ballot(vec![vote(orders[0], true), vote(orders[1], false)])
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        let preferences = [both([Some(1.0), Some(0.0)]), both([Some(1.0), None]), Ballot::default()];
        assert_eq!(preferences.map(|ballot| ballot.preference()), [Some(0.5), None, None]);
        assert_eq!(both([Some(1.0), None]).unparsable(), 1);
    }

    #[test]
    fn a_judge_who_always_takes_the_first_is_found_out() {
        // Shown first and preferred; shown second and not preferred: both times the first position.
        let biased = both([Some(1.0), Some(0.0)]);
        let fair = both([Some(1.0), Some(0.9)]);
        let drawn = both([Some(0.5), Some(0.5)]);
        let found = Consistency::of([&biased, &fair, &drawn, &both([Some(1.0), None])]);
        let expected = Consistency { in_both_orders: 3, consistent: 2, decided: 5, first: 4 };
        assert_eq!(found, expected);
    }
}
