//! What a judge says of one response.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::data::Fault;

/// What a judge says of one response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Higher is better; equal scores are a draw.
    pub score: f64,
    /// The kinds of its faults, where the judge is an oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<String>>,
}

impl Verdict {
    /// The oracle's verdict: minus the number of faults.
    #[must_use]
    pub fn of_faults(faults: &[Fault]) -> Self {
        Self { score: -(faults.len() as f64), faults: Some(faults.iter().map(|fault| fault.kind.clone()).collect()) }
    }

    /// A verdict that is a number and nothing more.
    #[must_use]
    pub const fn of_score(score: f64) -> Self {
        Self { score, faults: None }
    }

    /// 1 when this response is better than `other`, 0 when it is worse, 0.5 for a draw.
    #[must_use]
    pub fn against(&self, other: &Self) -> f64 {
        match self.score.partial_cmp(&other.score) {
            Some(Ordering::Greater) => 1.0,
            Some(Ordering::Less) => 0.0,
            _ => 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_faults_win_and_the_two_sides_of_a_comparison_add_up_to_one() {
        let fault = Fault { kind: "rude".to_owned(), at: 0 };
        let (clean, rude) = (Verdict::of_faults(&[]), Verdict::of_faults(&[fault]));
        let outcomes = [clean.against(&rude), rude.against(&clean), rude.against(&rude)];
        assert_eq!(outcomes.map(f64::to_bits), [1.0, 0.0, 0.5].map(f64::to_bits));
    }
}
