//! Aggregates over runs that one lucky or broken seed does not move: the interquartile mean and the probability of
//! improvement, with stratified bootstrap intervals [RLIABLE].
//!
//! Tasks are what runs were repeated on (budgets, datasets); a resample draws runs within each task, never tasks.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::auc;
use super::bootstrap::{Estimate, interval};

/// The mean of the middle half of `scores`: a quarter of them, rounded down, is left out at each end; none of nothing.
#[must_use]
pub fn interquartile_mean(scores: &[f64]) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    let middle = &sorted[cut..sorted.len() - cut];
    (!middle.is_empty()).then(|| middle.iter().sum::<f64>() / middle.len() as f64)
}

/// The probability that a run of `a` scores higher than one of `b`, ties counted half, averaged over tasks: the
/// Mann-Whitney statistic as a share. None where a side has no run of a task, or the numbers of tasks differ.
///
/// # Shapes
/// Both tasks by runs.
#[must_use]
pub fn probability_of_improvement(a: &[Vec<f64>], b: &[Vec<f64>]) -> Option<f64> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let shares: Option<Vec<f64>> = a.iter().zip(b).map(|(a, b)| auc(a, b)).collect();
    Some(shares?.iter().sum::<f64>() / a.len() as f64)
}

/// The interquartile mean over all tasks and runs with its interval; none of nothing.
///
/// # Shapes
/// `tasks`: tasks by runs.
#[must_use]
pub fn interquartile_mean_with_interval(
    tasks: &[Vec<f64>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Estimate> {
    let value = interquartile_mean(&tasks.concat())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawn = (0..resamples).filter_map(|_| interquartile_mean(&redrawn(tasks, &mut rng).concat()));
    Some(estimate(value, drawn.collect(), confidence, tasks))
}

/// [`probability_of_improvement`] with its interval; both sides are drawn on their own.
#[must_use]
pub fn improvement_with_interval(
    a: &[Vec<f64>],
    b: &[Vec<f64>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Estimate> {
    let value = probability_of_improvement(a, b)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawn = (0..resamples).filter_map(|_| probability_of_improvement(&redrawn(a, &mut rng), &redrawn(b, &mut rng)));
    Some(estimate(value, drawn.collect(), confidence, &[a, b].concat()))
}

/// As many runs of each task, drawn with replacement.
fn redrawn(tasks: &[Vec<f64>], rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    tasks.iter().map(|runs| runs.iter().map(|_| runs[rng.random_range(0..runs.len())]).collect()).collect()
}

fn estimate(value: f64, mut drawn: Vec<f64>, confidence: f64, tasks: &[Vec<f64>]) -> Estimate {
    let [low, high] = interval(&mut drawn, confidence).unwrap_or([value; 2]);
    Estimate { value, low, high, covers_seeds: tasks.iter().all(|runs| runs.len() > 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides() -> [Vec<Vec<f64>>; 2] {
        let a = vec![vec![0.09, 0.8, 0.09, 0.48, 0.73], vec![0.24, 0.58, 0.43, 0.16, 0.11]];
        let b = vec![vec![0.39, 0.43, 0.74, 0.28, 0.7], vec![0.52, 0.59, 0.96, 0.65, 0.29]];
        [a, b]
    }

    /// The numbers of rliable 1.2.0.
    #[test]
    fn aggregates_are_those_of_rliable() {
        let [a, b] = sides();
        let found = [interquartile_mean(&a.concat()), interquartile_mean(&b.concat())];
        assert!(
            (found[0].unwrap() - 1.0 / 3.0).abs() < 1e-12
                && (found[1].unwrap() - 0.546_666_666_666_666_7).abs() < 1e-12
        );
        assert!((probability_of_improvement(&a, &b).unwrap() - 0.3).abs() < 1e-12);
    }

    /// Against 200 000 and 50 000 resamples by numpy.
    #[test]
    fn intervals_are_those_of_another_stratified_bootstrap() {
        let [a, b] = sides();
        let mean = interquartile_mean_with_interval(&a, 20_000, 0.95, 1).unwrap();
        assert!((mean.low - 0.141_7).abs() < 0.01 && (mean.high - 0.558_3).abs() < 0.01, "{mean:?}");
        let better = improvement_with_interval(&a, &b, 20_000, 0.95, 1).unwrap();
        assert!((better.low - 0.08).abs() < 0.021 && (better.high - 0.54).abs() < 0.021, "{better:?}");
        assert!(mean.covers_seeds && better.covers_seeds);
    }

    #[test]
    fn an_outlier_among_five_does_not_count_and_one_run_has_no_spread() {
        assert_eq!(interquartile_mean(&[0.5, 0.5, 0.5, 0.5, 900.0]), Some(0.5));
        let one = interquartile_mean_with_interval(&[vec![0.7]], 50, 0.95, 0).unwrap();
        assert_eq!((one.low, one.value, one.high, one.covers_seeds), (0.7, 0.7, 0.7, false));
        assert_eq!((interquartile_mean(&[]), probability_of_improvement(&[vec![]], &[vec![1.0]])), (None, None));
    }

    #[test]
    fn the_seed_alone_decides_the_draws() {
        let [a, b] = sides();
        let of = |seed| improvement_with_interval(&a, &b, 200, 0.95, seed);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
