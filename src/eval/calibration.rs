//! Whether probabilities mean what they say: reliability diagrams and the expected calibration error [CALIBRATION].

use serde::{Deserialize, Serialize};

use super::detection::Scored;
use super::logistic::{Sample, sigmoid};

/// How strongly the observations count against the penalty when scores become probabilities: all but no penalty.
const STRENGTH: f64 = 1e4;

/// One bar of a reliability diagram: predictions in one range of probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Predictions in the range.
    pub count: usize,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of them that came true.
    pub observed: f64,
}

/// The reliability diagram of `predictions`, probabilities with what came true, over `bins` ranges of equal width; a
/// probability on a border belongs to the upper range, 1 to the last. Ranges without predictions are left out.
#[must_use]
pub fn reliability(predictions: &[Scored], bins: usize) -> Vec<Bin> {
    let mut all = vec![(0_usize, 0.0, 0_usize); bins.max(1)];
    for &(probability, came_true) in predictions {
        #[allow(clippy::cast_sign_loss, reason = "clamped at zero")]
        let at = ((probability.clamp(0.0, 1.0) * bins as f64) as usize).min(all.len() - 1);
        all[at].0 += 1;
        all[at].1 += probability;
        all[at].2 += usize::from(came_true);
    }
    let bin = |&(count, sum, hits): &(usize, f64, usize)| Bin {
        count,
        predicted: sum / count as f64,
        observed: hits as f64 / count as f64,
    };
    all.iter().filter(|(count, ..)| *count > 0).map(bin).collect()
}

/// The expected calibration error: the mean distance of `observed` from `predicted`, weighted by the bins' counts; none
/// without predictions.
#[must_use]
pub fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let n: usize = bins.iter().map(|bin| bin.count).sum();
    let distance = |bin: &Bin| bin.count as f64 * (bin.observed - bin.predicted).abs();
    (n > 0).then(|| bins.iter().map(distance).sum::<f64>() / n as f64)
}

/// Scores as probabilities, by a logistic curve [PLATT] that was not fitted on what it is applied to: of `groups`, those of
/// even index by the curve of those of odd index, and the other way round. None where a half is empty.
#[must_use]
pub fn cross_fitted_probabilities(groups: &[Vec<Scored>]) -> Option<Vec<Scored>> {
    let half = |start: usize| -> Vec<Scored> { groups.iter().skip(start).step_by(2).flatten().copied().collect() };
    let (even, odd) = (half(0), half(1));
    let apply = |scored: &[Scored], other: &[Scored]| -> Option<Vec<Scored>> {
        if other.is_empty() {
            return None;
        }
        let features: Vec<Vec<f64>> = other.iter().map(|(score, _)| vec![*score, 1.0]).collect();
        let targets: Vec<f64> = other.iter().map(|(_, positive)| f64::from(u8::from(*positive))).collect();
        let weights = Sample { features: &features, targets: &targets }.fit(STRENGTH);
        Some(scored.iter().map(|&(score, positive)| (sigmoid(weights[0] * score + weights[1]), positive)).collect())
    };
    Some([apply(&even, &odd)?, apply(&odd, &even)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_a_worked_example() {
        // Bins of a fifth: 0.1, 0.1 (none true), 0.5 (true), 0.9, 0.9, 1.0 (two of three true).
        let predictions = [(0.1, false), (0.1, false), (0.5, true), (0.9, true), (0.9, false), (1.0, true)];
        let bins = reliability(&predictions, 5);
        assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 1, 3]);
        let expected = (2.0 * 0.1 + 0.5 + 3.0 * (2.8_f64 / 3.0 - 2.0 / 3.0).abs()) / 6.0;
        assert!((expected_calibration_error(&bins).unwrap() - expected).abs() < 1e-12);
        assert_eq!((reliability(&[], 5), expected_calibration_error(&[])), (vec![], None));
    }

    #[test]
    fn a_border_belongs_to_the_upper_range() {
        let counts = |p: f64| reliability(&[(p, true), (0.0, true)], 4).len();
        assert_eq!([0.249, 0.25, 1.0].map(counts), [1, 2, 2]);
    }

    #[test]
    fn scores_of_a_logistic_world_become_calibrated() {
        // Of 100 items at each score, as many are positive as a curve says; the error left is rounding.
        let group = |shift: usize| -> Vec<Scored> {
            (0..600)
                .map(|i| {
                    let score = (i % 6) as f64 - 2.5;
                    let of = 100.0 * sigmoid(2.0 * score + 1.0);
                    (score, (((i / 6 + shift) % 100) as f64) < of)
                })
                .collect()
        };
        let found = cross_fitted_probabilities(&[group(0), group(17)]).unwrap();
        assert_eq!(found.len(), 1200);
        let error = expected_calibration_error(&reliability(&found, 10)).unwrap();
        assert!(error < 0.01, "{error}");
        assert_eq!(cross_fitted_probabilities(&[group(0)]), None);
    }
}
