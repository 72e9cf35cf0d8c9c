//! Reading a reward model: raw rewards of responses.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::{Kind, TokenLoss};
use crate::compute::Crew;
use crate::model::weights::host;
use crate::model::{Batch, Model, Pair, bucket};

/// A trained reward model.
#[derive(Clone, Debug)]
pub struct RewardModel {
    /// What it was trained as.
    pub kind: Kind,
    /// The network.
    pub model: Model,
}

impl Kind {
    /// Columns of the model's head.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        match self {
            Self::Token(token) if matches!(token.loss, TokenLoss::Tlcr) => 2,
            _ => 1,
        }
    }
}

impl RewardModel {
    /// Raw rewards of every response token; a sequence model's score is the one at the last token.
    #[must_use]
    pub fn token_rewards(&self, rows: &[Pair], pad: u32, crew: &Crew) -> Vec<Vec<f64>> {
        bucket::map(rows, crew, |rows| {
            let batch = Batch::new(rows, pad, &self.model.device());
            ragged(&rewards(&self.kind, self.model.at_response(&batch)), &batch.lengths)
        })
    }

    /// One score a response, as the training loss compares them: the last token's reward, or the mean (for
    /// `pairwise_mean` and `tlcr`) or sum of token rewards.
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
            Self::Token(token) => {
                let sum: f64 = rewards.iter().sum();
                match token.loss {
                    TokenLoss::PairwiseMean | TokenLoss::Tlcr => sum / rewards.len().max(1) as f64,
                    TokenLoss::PairwiseSum | TokenLoss::PairwiseEditedOnly | TokenLoss::PairwiseEditedAnchored => sum,
                }
            }
        }
    }
}

/// The head's outputs as rewards: one column as it is, two columns as `2 softmax(positive) - 1` [TLCR].
///
/// # Shapes
/// `[B, R, outputs]` to `[B, R]`.
#[must_use]
pub fn rewards(kind: &Kind, outputs: Tensor<3>) -> Tensor<2> {
    let [b, r, _] = outputs.dims();
    if kind.outputs() == 2 {
        softmax(outputs, 2).narrow(2, 1, 1).reshape([b, r]) * 2.0 - 1.0
    } else {
        outputs.reshape([b, r])
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
