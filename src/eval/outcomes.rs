//! The matrix of judged comparisons, seeds by prompts.
//!
//! Holds and checks outcomes and derives them from scores. Uncertainty is left to the bootstrap.

use std::cmp::Ordering;

/// Outcomes of one variant against an opponent: 1 a win, 0.5 a draw, 0 a loss, between them how sure a judge is.
///
/// # Shapes
/// Seeds by prompts; column `j` is the same prompt under every seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    seeds: usize,
    prompts: usize,
    values: Vec<f64>,
}

/// Why rows do not make a matrix of outcomes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OutcomeError {
    /// Nothing was compared.
    #[error("expected outcomes of at least one seed on at least one prompt, found none")]
    Empty,
    /// Seeds were judged on different numbers of prompts.
    #[error("expected {expected} prompts for every seed, found {found} in row {row}")]
    Ragged {
        /// Prompts of the first seed.
        expected: usize,
        /// Prompts of this one.
        found: usize,
        /// Index of the seed.
        row: usize,
    },
    /// A value that no judge gives.
    #[error("expected an outcome between 0 and 1, found {value} in row {row}, column {column}")]
    Value {
        /// What was found.
        value: f64,
        /// Index of the seed.
        row: usize,
        /// Index of the prompt.
        column: usize,
    },
    /// Two matrices that do not pair.
    #[error("expected {expected:?} seeds and prompts as on the other side, found {found:?}")]
    Unpaired {
        /// Seeds and prompts of the first side.
        expected: (usize, usize),
        /// Seeds and prompts of the second side.
        found: (usize, usize),
    },
}

impl Outcomes {
    /// Outcomes from one row for each seed.
    ///
    /// # Errors
    /// No values, rows of different lengths, values outside [0, 1].
    pub fn new(rows: &[Vec<f64>]) -> Result<Self, OutcomeError> {
        let prompts = check_shape(rows)?;
        for (row, values) in rows.iter().enumerate() {
            if let Some(column) = values.iter().position(|v| !(0.0..=1.0).contains(v)) {
                return Err(OutcomeError::Value { value: values[column], row, column });
            }
        }
        Ok(Self { seeds: rows.len(), prompts, values: rows.concat() })
    }

    /// Head-to-head outcomes of `ours` against `theirs`, where the higher score wins and equal scores draw.
    ///
    /// # Errors
    /// The two sides differ in shape or hold nothing. A score that is not a number draws with everything.
    pub fn from_scores(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> Result<Self, OutcomeError> {
        let prompts = check_shape(ours)?;
        let found = check_shape(theirs)?;
        if (ours.len(), prompts) != (theirs.len(), found) {
            return Err(OutcomeError::Unpaired { expected: (ours.len(), prompts), found: (theirs.len(), found) });
        }
        let values = ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| outcome(a.partial_cmp(b)));
        Ok(Self { seeds: ours.len(), prompts, values: values.collect() })
    }

    /// Head-to-head outcomes of `ours` against `theirs`, where fewer faults win and equal counts draw.
    ///
    /// # Errors
    /// As [`Outcomes::from_scores`].
    pub fn from_faults(ours: &[Vec<usize>], theirs: &[Vec<usize>]) -> Result<Self, OutcomeError> {
        let negated =
            |rows: &[Vec<usize>]| rows.iter().map(|row| row.iter().map(|&n| -(n as f64)).collect()).collect::<Vec<_>>();
        Self::from_scores(&negated(ours), &negated(theirs))
    }

    /// The same comparisons seen from the other side.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { values: self.values.iter().map(|v| 1.0 - v).collect(), ..*self }
    }

    /// Number of seeds.
    #[must_use]
    pub const fn seeds(&self) -> usize {
        self.seeds
    }

    /// Number of prompts.
    #[must_use]
    pub const fn prompts(&self) -> usize {
        self.prompts
    }

    /// The mean outcome.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// The mean outcome of each seed.
    #[must_use]
    pub fn mean_per_seed(&self) -> Vec<f64> {
        self.rows().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect()
    }

    /// One slice for each seed.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.prompts)
    }

    /// Wins, draws and losses over all seeds and prompts.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |pick: fn(f64) -> bool| self.values.iter().filter(|&&v| pick(v)).count();
        (count(|v| v > 0.5), count(|v| (0.25..=0.75).contains(&v)), count(|v| v < 0.5))
    }
}

fn check_shape<T>(rows: &[Vec<T>]) -> Result<usize, OutcomeError> {
    let expected = rows.first().map_or(0, Vec::len);
    if expected == 0 {
        return Err(OutcomeError::Empty);
    }
    match rows.iter().position(|row| row.len() != expected) {
        Some(row) => Err(OutcomeError::Ragged { expected, found: rows[row].len(), row }),
        None => Ok(expected),
    }
}

const fn outcome(ordering: Option<Ordering>) -> f64 {
    match ordering {
        Some(Ordering::Greater) => 1.0,
        Some(Ordering::Less) => 0.0,
        Some(Ordering::Equal) | None => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fewer_faults_win_and_equal_counts_draw() {
        let outcomes = Outcomes::from_faults(&[vec![0, 2, 1], vec![3, 3, 0]], &[vec![1, 2, 0], vec![0, 4, 0]]).unwrap();
        let rows: Vec<&[f64]> = outcomes.rows().collect();
        assert_eq!(rows, [[1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]);
        assert_eq!(outcomes.counts(), (2, 2, 2));
        assert_eq!(outcomes.mean_per_seed(), [0.5, 0.5]);
    }

    #[test]
    fn what_is_no_matrix_of_outcomes_is_refused() {
        let message = |rows: &[Vec<f64>]| Outcomes::new(rows).unwrap_err().to_string();
        assert_eq!(message(&[]), "expected outcomes of at least one seed on at least one prompt, found none");
        assert_eq!(message(&[vec![1.0, 0.0], vec![1.0]]), "expected 2 prompts for every seed, found 1 in row 1");
        assert_eq!(message(&[vec![1.0, 1.7]]), "expected an outcome between 0 and 1, found 1.7 in row 0, column 1");
        assert!(matches!(Outcomes::new(&[vec![f64::NAN]]), Err(OutcomeError::Value { .. })));
        let unpaired = Outcomes::from_scores(&[vec![1.0]], &[vec![1.0, 2.0]]).unwrap_err().to_string();
        assert_eq!(unpaired, "expected (1, 1) seeds and prompts as on the other side, found (1, 2)");
    }

    proptest! {
        #[test]
        fn win_rates_of_the_two_sides_sum_to_one(
            pairs in proptest::collection::vec((0_usize..4, 0_usize..4), 1..60),
        ) {
            let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let forth = Outcomes::from_faults(from_ref(&ours), from_ref(&theirs)).unwrap();
            let back = Outcomes::from_faults(from_ref(&theirs), from_ref(&ours)).unwrap();
            prop_assert!((forth.mean() + back.mean() - 1.0).abs() < 1e-12);
            prop_assert_eq!(forth.reversed(), back);
        }
    }
}
