//! AlpacaEval's win rates: from pairwise annotations to the numbers of its leaderboard [ALPACA-EVAL].
//!
//! Length-controlled rates are left to `length_control`.

use serde::Serialize;

use super::annotations::Annotation;
use super::length_control::LengthControlled;

/// A row of AlpacaEval's leaderboard, under its names. Rates and errors are percentages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlpacaEval {
    /// 100 x the mean of p, the preference less 1: 1 where the model wins, 0 where the baseline does.
    pub win_rate: f64,
    /// 100 x the standard error of that mean, `sd / sqrt(n)` with n - 1 degrees of freedom; none of a single preference.
    pub standard_error: Option<f64>,
    /// Preferences with p above one half.
    pub n_wins: usize,
    /// Preferences with p below one half.
    pub n_wins_base: usize,
    /// Preferences with p of one half.
    pub n_draws: usize,
    /// Preferences that count.
    pub n_total: usize,
    /// The win rate after every preference was rounded to a win or a loss, but for those that are draws.
    pub discrete_win_rate: f64,
    /// Mean length of the model's outputs in code points, cut to a whole number; none where no output is known.
    pub avg_length: Option<u64>,
    /// The length-controlled rate, where it was asked for.
    #[serde(flatten)]
    pub length_controlled: Option<LengthControlled>,
}

impl AlpacaEval {
    /// The numbers of `annotations`; none where no preference counts.
    #[must_use]
    pub fn new(annotations: &[Annotation]) -> Option<Self> {
        let preferences = || annotations.iter().filter_map(|annotation| annotation.preference);
        let shares: Vec<f64> = preferences().filter_map(share).collect();
        let discrete: Vec<f64> = preferences().filter_map(|preference| share(rounded(preference))).collect();
        let lengths: Vec<f64> = annotations.iter().filter_map(|annotation| annotation.lengths[1]).collect();
        let count = |fits: fn(f64) -> bool| shares.iter().filter(|&&share| fits(share)).count();
        Some(Self {
            win_rate: 100.0 * mean(&shares)?,
            standard_error: standard_error(&shares).map(|error| 100.0 * error),
            n_wins: count(|share| share > 0.5),
            n_wins_base: count(|share| share < 0.5),
            n_draws: count(|share| share.to_bits() == 0.5_f64.to_bits()),
            n_total: shares.len(),
            discrete_win_rate: 100.0 * mean(&discrete)?,
            #[allow(clippy::cast_sign_loss, reason = "lengths are not negative")]
            avg_length: mean(&lengths).map(|length| length as u64),
            length_controlled: None,
        })
    }

    /// Indices of rows whose preference is a number that counts as none, being neither in 1 to 2 nor 0.
    #[must_use]
    pub fn left_out(annotations: &[Annotation]) -> Vec<usize> {
        let odd = |annotation: &Annotation| annotation.preference.is_some_and(|preference| share(preference).is_none());
        annotations.iter().enumerate().filter(|(_, annotation)| odd(annotation)).map(|(row, _)| row).collect()
    }
}

/// The model's share of a win: the preference less 1, a draw where it is 0; none outside 1 to 2.
pub(super) fn share(preference: f64) -> Option<f64> {
    let preference = if preference == 0.0 { 1.5 } else { preference };
    (1.0..=2.0).contains(&preference).then_some(preference - 1.0)
}

/// The preference as a whole number, halves to the even one; 0 for a draw.
///
/// AlpacaEval rounds before it looks whether a preference is one, so that some which count for nothing otherwise do here.
fn rounded(preference: f64) -> f64 {
    if preference.to_bits() == 1.5_f64.to_bits() { 0.0 } else { preference.round_ties_even() }
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation, with n - 1 degrees of freedom; none below two values.
pub(super) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let middle = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// The standard error of the mean; none below two values.
pub(super) fn standard_error(values: &[f64]) -> Option<f64> {
    Some(standard_deviation(values)? / (values.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(preferences: &[f64]) -> AlpacaEval {
        let rows: Vec<Annotation> =
            preferences.iter().map(|&p| Annotation { preference: Some(p), ..Annotation::default() }).collect();
        AlpacaEval::new(&rows).unwrap()
    }

    /// What AlpacaEval 0.6.6 says of the same lists.
    #[test]
    fn odd_preferences_count_as_alpaca_eval_counts_them() {
        let counts = |found: &AlpacaEval| (found.n_wins, found.n_wins_base, found.n_draws, found.n_total);
        let plain = of(&[1.0, 2.0, 1.5, 0.0]);
        assert_eq!((plain.win_rate, plain.discrete_win_rate, counts(&plain)), (50.0, 50.0, (1, 1, 2, 4)));
        assert!((plain.standard_error.unwrap() - 20.412_414_523_193_15).abs() < 1e-12);
        let odd = of(&[1.0, 2.0, 3.0, 0.5, 2.4, -0.3, 2.5]);
        assert_eq!((odd.win_rate, counts(&odd)), (50.0, (1, 1, 0, 2)));
        assert!((odd.discrete_win_rate - 66.666_666_666_666_66).abs() < 1e-12);
        let near = of(&[1.500_000_1, 1.499_9, 0.5]);
        assert!((near.win_rate - 49.995_005).abs() < 1e-9);
        assert_eq!((near.discrete_win_rate, counts(&near)), (50.0, (1, 1, 0, 2)));
        assert_eq!(counts(&of(&[-0.0, 2.0, 1.0])), (1, 1, 1, 3));
    }

    #[test]
    fn one_preference_has_no_standard_error_and_none_has_nothing() {
        assert_eq!((of(&[2.0]).win_rate, of(&[2.0]).standard_error), (100.0, None));
        let rows = [Annotation { preference: Some(7.0), ..Annotation::default() }, Annotation::default()];
        assert_eq!(AlpacaEval::new(&rows), None);
        assert_eq!(AlpacaEval::left_out(&rows), [0]);
    }
}
