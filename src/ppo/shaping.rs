//! From a reward model's raw token rewards to the rewards that PPO sees: the variants' one difference.
//!
//! Rows are ragged; token t's reward stands at index t, the end-of-sequence token's last.

use serde::{Deserialize, Serialize};

use super::Credit;
use crate::reward::Kind;

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

impl Credit {
    /// The rewards of one response's tokens from its raw token rewards.
    #[must_use]
    pub fn rewards(self, kind: &Kind, raw: &[f64], calibration: Calibration) -> Vec<f64> {
        let Calibration { center, scale } = calibration;
        let n = raw.len().max(1) as f64;
        match self {
            Self::PerToken => raw.iter().map(|r| r / scale).collect(),
            Self::PerTokenOverLength => raw.iter().map(|r| r / n / scale).collect(),
            Self::PotentialDifference => {
                let before = std::iter::once(&0.0).chain(raw);
                raw.iter().zip(before).map(|(now, before)| (now - before) / scale).collect()
            }
            Self::EndOfSequence => {
                let score = match kind {
                    Kind::Sequence(_) => raw.last().copied().unwrap_or(0.0),
                    Kind::Token(_) => raw.iter().sum::<f64>() / n,
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
