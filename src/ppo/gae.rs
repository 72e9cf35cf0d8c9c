//! Generalised advantage estimation and whitening, on rows of response tokens.
//!
//! Rows are ragged: padding does not exist here, so it cannot leak into a mean.

/// Advantages and returns of one response [GAE]:
/// `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lambda A_{t+1}`, `return_t = A_t + V_t`; the value
/// after the last token is zero.
///
/// # Panics
/// When `rewards` and `values` differ in length.
#[must_use]
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(rewards.len(), values.len(), "one value a reward");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * next_value - values[t];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// How [`whiten`] treats mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whitening {
    /// Whether the mean is removed; otherwise only the spread is scaled.
    pub shift_mean: bool,
    /// Whether the variance divides by n - 1.
    pub unbiased: bool,
    /// Added to the variance, so that equal values become zero.
    pub epsilon: f64,
}

/// What PPO uses for advantages.
pub const ADVANTAGES: Whitening = Whitening { shift_mean: true, unbiased: false, epsilon: 1e-8 };

/// `(x - mean) / sqrt(var + epsilon)` over all values of all rows, in place.
pub fn whiten(rows: &mut [Vec<f64>], whitening: Whitening) {
    let n = rows.iter().map(Vec::len).sum::<usize>() as f64;
    if n == 0.0 {
        return;
    }
    let mean = rows.iter().flatten().sum::<f64>() / n;
    let squares: f64 = rows.iter().flatten().map(|x| (x - mean).powi(2)).sum();
    let variance = squares / if whitening.unbiased { (n - 1.0).max(1.0) } else { n };
    let scale = (variance + whitening.epsilon).sqrt().recip();
    let offset = if whitening.shift_mean { 0.0 } else { mean };
    for x in rows.iter_mut().flatten() {
        *x = (*x - mean) * scale + offset;
    }
}
