//! Reading a reward model: raw rewards of responses.

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, softmax};

use super::loss::expected_class;
use super::{Kind, TokenLoss, words};
use crate::compute::Crew;
use crate::labels::spans::Segments;
use crate::model::weights::host;
use crate::model::{Batch, Model, Pair, bucket};

/// A trained reward model.
#[derive(Clone, Debug)]
pub struct RewardModel {
    /// What it was trained as.
    pub kind: Kind,
    /// The network.
    pub model: Model,
    /// Where spans end, of a `spans` model.
    pub segments: Segments,
}

impl Kind {
    /// Columns of the model's head.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        match self {
            Self::Token(token) if matches!(token.loss, TokenLoss::Tlcr) => 2,
            Self::Tppo(_) => words::CLASSES,
            _ => 1,
        }
    }
}

impl RewardModel {
    /// A network that was trained as `kind`; of a `spans` model, one that sees a response as a single span.
    #[must_use]
    pub fn new(kind: Kind, model: Model) -> Self {
        Self { kind, model, segments: Segments::default() }
    }

    /// Raw rewards of every response token; a sequence model's score is the one at the last token, a `spans` model's
    /// rewards are those at the ends of spans, and zero elsewhere.
    #[must_use]
    pub fn token_rewards(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
        bucket::map(
            rows,
            crew,
            |place| self.model.on(place),
            |model, rows| {
                let batch = Batch::new(rows, pad, &model.device());
                let mut rewards = ragged(&rewards(&self.kind, model.at_response(&batch)), &batch.lengths);
                if let Kind::Spans(_) = self.kind {
                    for (rewards, row) in rewards.iter_mut().zip(rows) {
                        let ends = self.segments.ends(row.response);
                        rewards.iter_mut().zip(ends).filter(|(_, ends)| !ends).for_each(|(reward, _)| *reward = 0.0);
                    }
                }
                rewards
            },
        )
    }

    /// One score a response, as the training loss compares them: the last token's reward, or the mean (for
    /// `pairwise_mean`, `tlcr` and `tppo`) or sum of token rewards.
    #[must_use]
    pub fn scores(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<f64> {
        self.token_rewards(rows, pad, crew).iter().map(|row| self.kind.score(row)).collect()
    }
}

impl Kind {
    /// A response's score from its token rewards.
    #[must_use]
    pub fn score(&self, rewards: &[f64]) -> f64 {
        match self {
            Self::Sequence(_) => rewards.last().copied().unwrap_or(0.0),
            Self::Token(token) => match token.loss {
                TokenLoss::PairwiseMean | TokenLoss::Tlcr => mean(rewards),
                TokenLoss::PairwiseSum | TokenLoss::PairwiseEditedOnly | TokenLoss::PairwiseEditedAnchored => {
                    rewards.iter().sum()
                }
            },
            Self::Tppo(_) => mean(rewards),
            Self::Spans(_) => rewards.iter().sum(),
        }
    }
}

/// The place of the highest score, the first of equal ones; none where there is no score. NaN is never the highest.
#[must_use]
pub fn best(scores: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, score) in scores.iter().enumerate() {
        if !score.is_nan() && best.is_none_or(|best| *score > scores[best]) {
            best = Some(i);
        }
    }
    best
}

fn mean(rewards: &[f64]) -> f64 {
    rewards.iter().sum::<f64>() / rewards.len().max(1) as f64
}

/// The head's outputs as rewards: `2 p(positive) - 1` of two classes [TLCR], the expected one of three minus 1 [TPPO], and
/// of a span with an error at probability p `clean (1 - p) - p` [FG-RLHF]; any other column as it is.
///
/// # Shapes
/// `[B, R, outputs]` to `[B, R]`.
#[must_use]
pub fn rewards(kind: &Kind, outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    match kind {
        Kind::Token(token) if token.loss == TokenLoss::Tlcr => {
            softmax(outputs, 2).narrow(2, 1, 1).reshape([b, r]) * 2.0 - 1.0
        }
        Kind::Tppo(_) => expected_class(outputs) - 1.0,
        Kind::Spans(spans) => {
            let clean = spans.clean.get();
            sigmoid(outputs.reshape([b, r])) * -(1.0 + clean) + clean
        }
        Kind::Sequence(_) | Kind::Token(_) => outputs.reshape([b, r]),
    }
}

/// A padded rectangle as rows of their own lengths.
#[must_use]
pub fn ragged(tensor: &Tensor<2>, lengths: &[usize]) -> Vec<Vec<f64>> {
    let columns = tensor.dims()[1];
    let values = host(tensor);
    lengths
        .iter()
        .enumerate()
        .map(|(i, &n)| values[i * columns..][..n].iter().map(|&x| f64::from(x)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_is_taken_and_the_first_of_equal_ones() {
        assert_eq!(best(&[0.1, 0.7, 0.7]), Some(1));
        assert_eq!(best(&[f64::NAN, -3.0]), Some(1));
        assert_eq!([best(&[]), best(&[f64::NAN])], [None, None]);
    }
}
