//! From a reward model's raw token rewards to the rewards that PPO sees: the variants' one difference.
//!
//! Rows are ragged; token t's reward stands at index t, the end-of-sequence token's last.

use serde::{Deserialize, Serialize};

use super::Credit;
use crate::compute::Crew;
use crate::model::Pair;
use crate::reward::Kind;
use crate::reward::score::RewardModel;

/// Scale and centre of a reward, measured on samples of the reference.
///
/// Dividing by the standard deviation of the *return* makes one KL coefficient comparable over variants. Only a reward
/// paid once a response may be centred: a constant taken off every token would pay for length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Subtracted from a score that is paid once.
    pub center: f64,
    /// Divides every reward.
    pub scale: f64,
}

/// No change.
const RAW: Calibration = Calibration { center: 0.0, scale: 1.0 };

impl Calibration {
    /// Measures the return of `credit` on the raw rewards of the reference's samples.
    #[must_use]
    pub fn measure(kind: &Kind, credit: Credit, rewards: &[Vec<f64>]) -> Self {
        let returns: Vec<f64> = rewards.iter().map(|row| credit.rewards(kind, row, RAW).iter().sum()).collect();
        let n = returns.len().max(1) as f64;
        let mean = returns.iter().sum::<f64>() / n;
        let variance = returns.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let center = if credit == Credit::EndOfSequence { mean } else { 0.0 };
        // A reward model that says the same of everything gives no signal; scaling it up would make one of noise.
        Self { center, scale: if variance.sqrt() > 1e-6 { variance.sqrt() } else { 1.0 } }
    }
}

/// The reward that a policy is trained on: one reward model's or a weighted sum of several, less a penalty on length if need
/// be.
#[derive(Clone, Debug)]
pub struct Reward {
    first: Part,
    others: Vec<Part>,
    length_penalty: Option<LengthPenalty>,
}

/// What tokens beyond a usual length cost [TPPO].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthPenalty {
    /// Tokens of a response that cost nothing.
    pub free_tokens: usize,
    /// What every further one costs, in standard deviations of the reference's return.
    pub penalty: f64,
}

impl LengthPenalty {
    /// Tokens beyond the median of `lengths` cost `penalty` each; of two in the middle the shorter is the median.
    #[must_use]
    pub fn beyond_median(lengths: impl Iterator<Item = usize>, penalty: f64) -> Self {
        let mut lengths: Vec<usize> = lengths.collect();
        lengths.sort_unstable();
        let middle = lengths.len().saturating_sub(1) / 2;
        Self { free_tokens: lengths.get(middle).copied().unwrap_or(usize::MAX), penalty }
    }
}

/// A reward model in a weighted sum of several that is calibrated as one.
#[derive(Clone, Debug)]
pub struct Member {
    /// The reward model.
    pub model: RewardModel,
    /// What its raw rewards count.
    pub weight: f64,
}

/// The weighted sum of what `members` say of each token, raw.
#[must_use]
pub fn weighted(members: &[Member], rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = rows.iter().map(|row| vec![0.0; row.response.len()]).collect();
    for Member { model, weight } in members {
        for (sums, raw) in sums.iter_mut().zip(model.token_rewards(rows, pad, crew)) {
            sums.iter_mut().zip(raw).for_each(|(sum, raw)| *sum += weight * raw);
        }
    }
    sums
}

/// One reward model's share of a reward.
#[derive(Clone, Debug)]
pub struct Part {
    /// The reward model.
    pub model: RewardModel,
    /// How its rewards are paid.
    pub credit: Credit,
    /// Their scale and centre.
    pub calibration: Calibration,
    /// What they count.
    pub weight: f64,
}

impl Part {
    fn rewards(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
        let weighted = |row: &Vec<f64>| {
            let mut rewards = self.credit.rewards(&self.model.kind, row, self.calibration);
            for reward in &mut rewards {
                *reward *= self.weight;
            }
            rewards
        };
        self.model.token_rewards(rows, pad, crew).iter().map(weighted).collect()
    }
}

impl Reward {
    /// The sum of `first` and `others`.
    #[must_use]
    pub const fn new(first: Part, others: Vec<Part>) -> Self {
        Self { first, others, length_penalty: None }
    }

    /// The same with a penalty on length.
    #[must_use]
    pub fn with_length_penalty(self, length_penalty: Option<LengthPenalty>) -> Self {
        Self { length_penalty, ..self }
    }

    /// The reward model that the value model starts from.
    #[must_use]
    pub const fn model(&self) -> &RewardModel {
        &self.first.model
    }

    /// Rewards of every response token.
    #[must_use]
    pub fn rewards(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
        let mut sums = self.first.rewards(rows, pad, crew);
        for part in &self.others {
            for (sums, more) in sums.iter_mut().zip(part.rewards(rows, pad, crew)) {
                for (sum, more) in sums.iter_mut().zip(more) {
                    *sum += more;
                }
            }
        }
        if let Some(LengthPenalty { free_tokens, penalty }) = self.length_penalty {
            sums.iter_mut().flat_map(|row| row.iter_mut().skip(free_tokens)).for_each(|reward| *reward -= penalty);
        }
        sums
    }

    /// The return of every response: the sum of its rewards, without KL.
    #[must_use]
    pub fn returns(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<f64> {
        self.rewards(rows, pad, crew).iter().map(|row| row.iter().sum()).collect()
    }
}

impl Credit {
    /// The rewards of one response's tokens from its raw token rewards.
    #[must_use]
    pub fn rewards(self, kind: &Kind, raw: &[f64], calibration: Calibration) -> Vec<f64> {
        let Calibration { center, scale } = calibration;
        let n = raw.len().max(1) as f64;
        match self {
            // A `spans` model's raw rewards stand at the ends of spans already.
            Self::PerToken | Self::SpanEnd => raw.iter().map(|r| r / scale).collect(),
            Self::PerTokenOverLength => raw.iter().map(|r| r / n / scale).collect(),
            Self::PotentialDifference => {
                let before = std::iter::once(&0.0).chain(raw);
                raw.iter().zip(before).map(|(now, before)| (now - before) / scale).collect()
            }
            Self::EndOfSequence => {
                let score = match kind {
                    Kind::Sequence(_) => raw.last().copied().unwrap_or(0.0),
                    Kind::Token(_) | Kind::Tppo(_) | Kind::Spans(_) => raw.iter().sum::<f64>() / n,
                };
                let mut rewards = vec![0.0; raw.len()];
                if let Some(last) = rewards.last_mut() {
                    *last = (score - center) / scale;
                }
                rewards
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(table: serde_json::Value) -> Kind {
        serde_json::from_value(table).unwrap()
    }

    fn token() -> Kind {
        kind(json!({ "token": { "loss": "pairwise_mean" } }))
    }

    #[test]
    fn every_credit_pays_what_it_says_where_it_says() {
        let raw = [3.0, -1.0, 4.0, 2.0];
        let sequence = kind(json!({ "sequence": { "data": "edits" } }));
        let calibration = Calibration { center: 1.0, scale: 2.0 };
        for (kind, credit, expected) in [
            (token(), Credit::PerToken, [1.5, -0.5, 2.0, 1.0]),
            (token(), Credit::PerTokenOverLength, [0.375, -0.125, 0.5, 0.25]),
            (token(), Credit::PotentialDifference, [1.5, -2.0, 2.5, -1.0]),
            (token(), Credit::EndOfSequence, [0.0, 0.0, 0.0, 0.5]),
            (kind(json!({ "spans": {} })), Credit::SpanEnd, [1.5, -0.5, 2.0, 1.0]),
            (sequence, Credit::EndOfSequence, [0.0, 0.0, 0.0, 0.5]),
        ] {
            assert_eq!(credit.rewards(&kind, &raw, calibration), expected, "{credit:?}");
            assert_eq!(credit.rewards(&kind, &[], calibration), [0.0; 0], "{credit:?} of nothing");
        }
    }

    #[test]
    fn calibrated_returns_have_unit_deviation_and_only_scores_are_centred() {
        let samples = [vec![1.0, 2.0], vec![4.0, -1.0, 6.0], vec![0.5], vec![-3.0, 2.0, 2.0, 2.0]];
        let all = [Credit::PerToken, Credit::PerTokenOverLength, Credit::PotentialDifference, Credit::EndOfSequence];
        for credit in all {
            let calibration = Calibration::measure(&token(), credit, &samples);
            let returns: Vec<f64> =
                samples.iter().map(|row| credit.rewards(&token(), row, calibration).iter().sum()).collect();
            let mean = returns.iter().sum::<f64>() / 4.0;
            let variance = returns.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0;
            assert!((variance - 1.0).abs() < 1e-12, "{credit:?}: variance {variance}");
            assert_eq!(mean.abs() < 1e-12, credit == Credit::EndOfSequence, "{credit:?}: mean {mean}");
        }
    }

    #[test]
    fn half_of_the_reference_is_no_longer_than_the_free_tokens() {
        let free = |lengths: &[usize]| LengthPenalty::beyond_median(lengths.iter().copied(), 0.5).free_tokens;
        assert_eq!([free(&[9, 2, 4]), free(&[9, 2, 4, 5]), free(&[3])], [4, 4, 3]);
        assert_eq!(free(&[]), usize::MAX, "nothing is known of a usual length");
    }

    #[test]
    fn a_reward_that_says_nothing_is_not_blown_up() {
        let calibration = Calibration::measure(&token(), Credit::PerToken, &[vec![0.5, 0.5], vec![1.0]]);
        assert_eq!(calibration, RAW);
    }
}
