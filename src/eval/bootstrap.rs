//! The two-level bootstrap: intervals and p-values that count both prompts and seeds as samples.
//!
//! Seeds and prompts are crossed (every seed answers the same prompts), so rows and columns are resampled independently
//! [PIGEONHOLE]. Pairing results of different recipes is left to `effect`, correction for several comparisons to
//! `classical`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{OutcomeError, Outcomes};

/// A mean and its percentile bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean over seeds and prompts.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Whether seeds were resampled too. With one seed they cannot be: the interval then says nothing about the spread
    /// between runs.
    pub covers_seeds: bool,
}

/// A paired difference `a - b` of win rates, in points (100 times the difference).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The difference and its interval, in points.
    pub points: Estimate,
    /// Two-sided bootstrap p-value of "no difference"; at least 1 / (resamples + 1).
    pub p_value: f64,
}

/// The mean outcome with its interval.
///
/// `resamples` draws from `ChaCha8` seeded by `seed`; `confidence` is the interval's coverage, in (0, 1).
#[must_use]
pub fn win_rate(outcomes: &Outcomes, resamples: usize, confidence: f64, seed: u64) -> Estimate {
    let values = outcomes.rows().flatten().copied().collect();
    let design = Design::crossed(outcomes.seeds(), outcomes.prompts(), values);
    design.estimate(&mut design.resample(resamples, seed), confidence)
}

/// The mean of any measured number with its interval, such as a reward or a length.
///
/// # Shapes
/// `rows`: seeds by prompts.
///
/// # Errors
/// No values, or rows of different lengths.
pub fn mean_with_interval(
    rows: &[Vec<f64>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Result<Estimate, OutcomeError> {
    let columns = rows.first().map_or(0, Vec::len);
    if columns == 0 {
        return Err(OutcomeError::Empty);
    }
    if let Some(row) = rows.iter().position(|row| row.len() != columns) {
        return Err(OutcomeError::Ragged { expected: columns, found: rows[row].len(), row });
    }
    let design = Design::crossed(rows.len(), columns, rows.concat());
    Ok(design.estimate(&mut design.resample(resamples, seed), confidence))
}

/// The difference of two variants' win rates over the same seeds and prompts, paired cell by cell.
///
/// The p-value is the share of resampled differences at least as far from the observed one as that is from zero, the
/// observed one counted: `p = (1 + #{|d* - d| >= |d|}) / (B + 1)` [BOOTSTRAP].
///
/// # Errors
/// The two matrices differ in shape.
pub fn paired_difference(
    a: &Outcomes,
    b: &Outcomes,
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Result<Difference, OutcomeError> {
    let shape = |o: &Outcomes| (o.seeds(), o.prompts());
    if shape(a) != shape(b) {
        return Err(OutcomeError::Unpaired { expected: shape(a), found: shape(b) });
    }
    let values = a.rows().flatten().zip(b.rows().flatten()).map(|(a, b)| 100.0 * (a - b)).collect();
    Ok(Design::crossed(a.seeds(), a.prompts(), values).difference(resamples, confidence, seed))
}

/// Matrices of seeds by prompts whose means are added up; what several of them have in common is drawn once for all.
#[derive(Debug, Default)]
pub(super) struct Design {
    /// Sizes of the different sets of seeds.
    pub(super) row_sets: Vec<usize>,
    /// Sizes of the different sets of prompts.
    pub(super) column_sets: Vec<usize>,
    pub(super) blocks: Vec<Block>,
}

/// One matrix of a design.
#[derive(Debug)]
pub(super) struct Block {
    /// Which set of seeds its rows are.
    pub(super) rows: usize,
    /// Which set of prompts its columns are.
    pub(super) columns: usize,
    /// Row by row.
    pub(super) values: Vec<f64>,
}

impl Design {
    /// One matrix.
    fn crossed(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        let block = Block { rows: 0, columns: 0, values };
        Self { row_sets: vec![rows], column_sets: vec![columns], blocks: vec![block] }
    }

    fn value(&self) -> f64 {
        self.blocks.iter().map(|block| block.values.iter().sum::<f64>() / block.values.len() as f64).sum()
    }

    /// Values of `resamples` designs whose rows and columns are drawn with replacement; a single row is kept.
    fn resample(&self, resamples: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut columns = vec![0.0; self.column_sets.iter().copied().max().unwrap_or(0)];
        (0..resamples)
            .map(|_| {
                let mut draw = |set: &usize| -> Vec<usize> {
                    (0..*set).map(|_| if *set == 1 { 0 } else { rng.random_range(0..*set) }).collect()
                };
                let rows: Vec<_> = self.row_sets.iter().map(&mut draw).collect();
                let drawn: Vec<_> = self.column_sets.iter().map(&mut draw).collect();
                let mean = |block: &Block| {
                    let columns = &mut columns[..self.column_sets[block.columns]];
                    columns.fill(0.0);
                    for row in &rows[block.rows] {
                        let values = &block.values[row * columns.len()..(row + 1) * columns.len()];
                        columns.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    }
                    let sum: f64 = drawn[block.columns].iter().map(|column| columns[*column]).sum();
                    sum / block.values.len() as f64
                };
                self.blocks.iter().map(mean).sum()
            })
            .collect()
    }

    /// The value with the interval of `means`, which are sorted on the way.
    fn estimate(&self, means: &mut [f64], confidence: f64) -> Estimate {
        let value = self.value();
        let [low, high] = interval(means, confidence).unwrap_or([value; 2]);
        Estimate { value, low, high, covers_seeds: self.row_sets.iter().all(|&seeds| seeds > 1) }
    }

    /// The value as a difference, tested against zero.
    pub(super) fn difference(&self, resamples: usize, confidence: f64, seed: u64) -> Difference {
        let mut means = self.resample(resamples, seed);
        let points = self.estimate(&mut means, confidence);
        // Rounding must not decide whether a resample that repeats the observed difference counts.
        let reach = points.value.abs() - 1e-9;
        let beyond = means.iter().filter(|&&mean| (mean - points.value).abs() >= reach).count();
        Difference { points, p_value: (1 + beyond) as f64 / (means.len() + 1) as f64 }
    }
}

/// Sorts `drawn` and reads the percentile interval off it; none without values.
pub(super) fn interval(drawn: &mut [f64], confidence: f64) -> Option<[f64; 2]> {
    drawn.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some([quantile(drawn, tail)?, quantile(drawn, 1.0 - tail)?])
}

/// Linear interpolation between order statistics; none without values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;

    fn outcomes(rows: &[&[f64]]) -> Outcomes {
        Outcomes::new(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()).unwrap()
    }

    /// A matrix of wins with its own chance for each seed and prompt.
    fn drawn(rng: &mut ChaCha8Rng, seeds: usize, prompts: usize, spread: f64) -> Outcomes {
        let shift = |rng: &mut ChaCha8Rng| rng.random_range(-spread..=spread);
        let columns: Vec<f64> = (0..prompts).map(|_| shift(rng)).collect();
        let rows: Vec<Vec<f64>> = (0..seeds)
            .map(|_| {
                let row = shift(rng);
                columns.iter().map(|c| f64::from(u8::from(rng.random::<f64>() < 0.5 + row + c))).collect()
            })
            .collect();
        Outcomes::new(&rows).unwrap()
    }

    #[test]
    fn the_bootstrap_distribution_of_two_prompts_is_the_binomial() {
        // Two prompts, one won: a resample wins 0, 1 or 2 of 2 with chances 1/4, 1/2, 1/4.
        let means = Design::crossed(1, 2, vec![1.0, 0.0]).resample(8000, 3);
        let share = |mean: f64| means.iter().filter(|&&m| (m - mean).abs() < 1e-12).count() as f64 / 8000.0;
        assert!(
            (share(0.0) - 0.25).abs() < 0.02 && (share(0.5) - 0.5).abs() < 0.02 && (share(1.0) - 0.25).abs() < 0.02
        );
    }

    #[test]
    fn the_half_width_of_one_seed_is_that_of_the_normal_approximation() {
        let row: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 7))).collect();
        let found = win_rate(&outcomes(&[&row]), 4000, 0.95, 1);
        let expected = 1.959_964 * (0.7_f64 * 0.3 / 1000.0).sqrt();
        assert!((found.value - 0.7).abs() < 1e-12 && !found.covers_seeds);
        let half_width = (found.high - found.low) / 2.0;
        assert!((half_width / expected - 1.0).abs() < 0.05, "expected {expected}, found {half_width}");
    }

    #[test]
    fn spread_between_seeds_widens_the_interval_as_its_closed_form_says() {
        // Seeds that win everything or nothing: only the choice of seeds matters, and its variance is p (1 - p) / S.
        let (win, loss) = ([1.0; 50], [0.0; 50]);
        let rows: Vec<&[f64]> = (0..40).map(|i| if i % 2 == 0 { &win[..] } else { &loss[..] }).collect();
        let found = win_rate(&outcomes(&rows), 4000, 0.95, 5);
        let expected = 1.959_964 * (0.25_f64 / 40.0).sqrt();
        let half_width = (found.high - found.low) / 2.0;
        assert!(found.covers_seeds && (half_width / expected - 1.0).abs() < 0.08, "{half_width} against {expected}");
    }

    #[test]
    fn a_difference_on_every_cell_has_no_spread_and_the_floor_as_p_value() {
        let found = paired_difference(&outcomes(&[&[1.0, 1.0]]), &outcomes(&[&[0.5, 0.5]]), 999, 0.95, 0).unwrap();
        assert_eq!((found.points.value, found.points.low, found.points.high), (50.0, 50.0, 50.0));
        assert!((found.p_value - 0.001).abs() < 1e-12);
    }

    #[test]
    fn equal_variants_differ_by_nothing() {
        let a = outcomes(&[&[1.0, 0.0, 0.5], &[0.0, 0.0, 1.0]]);
        let found = paired_difference(&a, &a, 200, 0.95, 0).unwrap();
        assert_eq!((found.points.value, found.p_value), (0.0, 1.0));
    }

    #[test]
    fn the_p_value_agrees_with_the_normal_test_on_many_prompts() {
        // 1000 prompts, 60 won only by a, 40 only by b: z = 20 / sqrt(100 - 0.4), p = 0.0451.
        let row = |ours: bool| -> Vec<f64> {
            (0..1000).map(|i| f64::from(u8::from(if ours { i < 60 } else { (60..100).contains(&i) }))).collect()
        };
        let found = paired_difference(&outcomes(&[&row(true)]), &outcomes(&[&row(false)]), 20_000, 0.95, 2).unwrap();
        assert!((found.points.value - 2.0).abs() < 1e-9);
        assert!((found.p_value - 0.0451).abs() < 0.008, "found {}", found.p_value);
    }

    #[test]
    fn the_seed_alone_decides_the_draws() {
        let o = drawn(&mut ChaCha8Rng::seed_from_u64(9), 3, 40, 0.2);
        assert_eq!(win_rate(&o, 300, 0.95, 4), win_rate(&o, 300, 0.95, 4));
        assert_ne!(win_rate(&o, 300, 0.95, 4), win_rate(&o, 300, 0.95, 5));
    }

    #[test]
    fn unpaired_matrices_are_refused() {
        let error = paired_difference(&outcomes(&[&[1.0]]), &outcomes(&[&[1.0, 0.0]]), 10, 0.95, 0).unwrap_err();
        assert_eq!(error, OutcomeError::Unpaired { expected: (1, 1), found: (1, 2) });
    }

    #[test]
    fn most_intervals_hold_the_true_rate() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let covered = (0..200)
            .filter(|_| {
                let found = win_rate(&drawn(&mut rng, 12, 60, 0.15), 200, 0.95, 6);
                (found.low..=found.high).contains(&0.5)
            })
            .count();
        assert!((180..=199).contains(&covered), "{covered} of 200 intervals of nominally 95 % hold the true rate");
    }

    proptest! {
        #[test]
        fn swapping_the_sides_mirrors_estimate_and_interval(seed in 0_u64..500, seeds in 1_usize..4) {
            let o = drawn(&mut ChaCha8Rng::seed_from_u64(seed), seeds, 20, 0.3);
            let (forth, back) = (win_rate(&o, 100, 0.9, 1), win_rate(&o.reversed(), 100, 0.9, 1));
            prop_assert!((forth.value + back.value - 1.0).abs() < 1e-9);
            prop_assert!((forth.low + back.high - 1.0).abs() < 1e-9 && forth.low <= forth.high);
        }
    }
}
