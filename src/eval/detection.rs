//! How well scores find what they should: F1 at a threshold, average precision. The area under the ROC curve is `auc`'s.

use super::ranks::order;

/// A score and whether what it stands for was to be found.
pub type Scored = (f64, bool);

/// Average precision: the mean of the precision at each threshold, weighted by the recall that it adds
/// [AVERAGE-PRECISION]; equal scores are one threshold. None without positives.
#[must_use]
pub fn average_precision(scored: &[Scored]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let mut sum = 0.0;
    for (hits, found, new) in thresholds(scored).map(|t| (t.hits, t.found, t.new_hits)) {
        sum += new as f64 * hits as f64 / found as f64;
    }
    (positives > 0).then(|| sum / positives as f64)
}

/// The threshold with the highest F1 on `scored`, the highest of equals: scores at least as high are found. None without
/// positives.
#[must_use]
pub fn best_threshold(scored: &[Scored]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let best = thresholds(scored).fold((0.0, None), |best: (f64, Option<f64>), t| {
        let f1 = 2.0 * t.hits as f64 / (t.found + positives) as f64;
        if f1 > best.0 { (f1, Some(t.score)) } else { best }
    });
    best.1
}

/// F1, the harmonic mean of precision and recall, where scores of `threshold` or more are found; none where there is nothing
/// to find and nothing found.
#[must_use]
pub fn f1(scored: &[Scored], threshold: f64) -> Option<f64> {
    f1_of(scored.iter().map(|&(score, positive)| (score >= threshold, positive)))
}

/// F1 at thresholds that were not chosen on what they are measured on: of `groups`, those of even index at the best
/// threshold of those of odd index, and the other way round, counted together. None where a half has no positives.
#[must_use]
pub fn cross_fitted_f1(groups: &[Vec<Scored>]) -> Option<f64> {
    let half = |start: usize| -> Vec<Scored> { groups.iter().skip(start).step_by(2).flatten().copied().collect() };
    let (even, odd) = (half(0), half(1));
    let (for_odd, for_even) = (best_threshold(&even)?, best_threshold(&odd)?);
    let at = |scored: &[Scored], threshold: f64| -> Vec<(bool, bool)> {
        scored.iter().map(|&(score, positive)| (score >= threshold, positive)).collect()
    };
    f1_of(at(&even, for_even).into_iter().chain(at(&odd, for_odd)))
}

fn f1_of(found: impl Iterator<Item = (bool, bool)>) -> Option<f64> {
    let (mut hits, mut misses) = (0_usize, 0_usize);
    for (found, positive) in found {
        hits += usize::from(found && positive);
        misses += usize::from(found != positive);
    }
    (hits + misses > 0).then(|| 2.0 * hits as f64 / (2 * hits + misses) as f64)
}

/// What is found at a threshold.
struct Threshold {
    score: f64,
    /// Positives with at least this score.
    hits: usize,
    /// All with at least this score.
    found: usize,
    /// Positives with exactly this score.
    new_hits: usize,
}

/// Every score as a threshold, from the highest.
fn thresholds(scored: &[Scored]) -> impl Iterator<Item = Threshold> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| order(b.0, a.0));
    let mut all = Vec::new();
    let (mut hits, mut found) = (0, 0);
    for tied in sorted.chunk_by(|a, b| order(a.0, b.0).is_eq()) {
        let new_hits = tied.iter().filter(|(_, positive)| *positive).count();
        hits += new_hits;
        found += tied.len();
        all.push(Threshold { score: tied[0].0, hits, found, new_hits });
    }
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(scores: &[f64], positives: &[u8]) -> Vec<Scored> {
        scores.iter().zip(positives).map(|(&score, &positive)| (score, positive == 1)).collect()
    }

    /// The example in scikit-learn's documentation of `average_precision_score`, and the same with ties, by hand.
    #[test]
    fn average_precision_is_that_of_scikit_learn() {
        let found = average_precision(&scored(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1])).unwrap();
        assert!((found - 0.833_333_333_333_333_3).abs() < 1e-12, "{found}");
        // Thresholds 0.8 (1 of 2) and 0.3 (3 of 5): 1/3 x 1/2 + 2/3 x 3/5.
        let tied = average_precision(&scored(&[0.8, 0.8, 0.3, 0.3, 0.3], &[1, 0, 1, 1, 0])).unwrap();
        assert!((tied - (0.5 / 3.0 + 0.4)).abs() < 1e-12, "{tied}");
        assert_eq!(average_precision(&scored(&[0.5], &[0])), None);
    }

    /// Twelve scores with ties, by scikit-learn 1.9.1.
    #[test]
    fn ties_are_one_threshold_as_in_scikit_learn() {
        let scores = [0.9, 0.8, 0.8, 0.7, 0.55, 0.55, 0.5, 0.4, 0.4, 0.3, 0.2, 0.1];
        let twelve = scored(&scores, &[1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1]);
        assert!((average_precision(&twelve).unwrap() - 0.689_814_814_814_814_8).abs() < 1e-12);
        assert_eq!(best_threshold(&twelve), Some(0.55));
        assert!((f1(&twelve, 0.55).unwrap() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_best_threshold_finds_most_for_its_errors() {
        let four = scored(&[0.9, 0.7, 0.6, 0.1], &[1, 0, 1, 0]);
        assert_eq!(best_threshold(&four), Some(0.6));
        assert!((f1(&four, 0.6).unwrap() - 0.8).abs() < 1e-12);
        assert!((f1(&four, 0.9).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((f1(&four, 2.0), f1(&four[3..], 2.0)), (Some(0.0), None));
    }

    #[test]
    fn thresholds_are_chosen_on_the_other_half() {
        // Each half is found perfectly at a threshold of its own, which finds nothing (0.9), or too much (0.2), in the other.
        let groups = [scored(&[1.0, 0.5], &[1, 0]), scored(&[0.2, 0.1], &[1, 0])];
        // Even at 0.2: one hit, one too many. Odd at 1.0: one missed. 2 / (2 + 2).
        assert!((cross_fitted_f1(&groups).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(cross_fitted_f1(&groups[..1]), None);
    }
}
