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

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 4] = [0.5, -1.0, 0.0, 2.0];
    const VALUES: [f64; 4] = [0.25, 1.5, -0.5, 0.75];

    #[test]
    fn advantages_are_the_direct_double_sum() {
        let (gamma, lambda) = (0.9, 0.8);
        let (advantages, returns) = gae(&REWARDS, &VALUES, gamma, lambda);
        let delta = |t: usize| REWARDS[t] + gamma * VALUES.get(t + 1).unwrap_or(&0.0) - VALUES[t];
        for t in 0..4 {
            let direct: f64 = (t..4).zip(0..).map(|(s, k)| (gamma * lambda).powi(k) * delta(s)).sum();
            assert!((advantages[t] - direct).abs() < 1e-12, "advantage {t}: {}", advantages[t]);
            assert!((returns[t] - direct - VALUES[t]).abs() < 1e-12, "return {t}: {}", returns[t]);
        }
    }

    #[test]
    fn without_discount_returns_are_rewards_to_go() {
        let (_, returns) = gae(&REWARDS, &VALUES, 1.0, 1.0);
        assert_eq!(returns, [1.5, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn whitened_values_have_unit_deviation_over_all_rows() {
        let mut rows = vec![vec![1.0, 9.0, -3.0], vec![], vec![40.0]];
        whiten(&mut rows, ADVANTAGES);
        let all = rows.concat();
        let mean = all.iter().sum::<f64>() / 4.0;
        let variance = all.iter().map(|x| x * x).sum::<f64>() / 4.0;
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-9, "mean {mean}, variance {variance}");
        assert!(rows[1].is_empty() && rows[0][1] < rows[2][0]);
    }
}
