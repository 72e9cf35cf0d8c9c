//! How large an experiment must be: variance components of seeds and prompts, and what follows from them.
//!
//! Plans with normal quantiles, which is a little optimistic with few seeds.

use super::{OutcomeError, normal_quantile};

/// Where the variance of a crossed design of seeds by prompts comes from; in the square of the values' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Components {
    /// Between seeds; none where there is one: what belongs to runs is then not known.
    pub seed: Option<f64>,
    /// Between prompts. With one seed, what belongs to single responses is in it.
    pub prompt: f64,
    /// Of single responses: what neither seed nor prompt explains.
    pub residual: f64,
}

/// When a difference counts as seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requirement {
    /// Coverage of the interval that must leave out zero, in (0, 1).
    pub confidence: f64,
    /// How often it must, in (0, 1).
    pub power: f64,
}

impl Components {
    /// The components of `rows`, from the mean squares of the two-way random-effects model without replication
    /// [SHROUT-FLEISS]; what is estimated below zero is zero.
    ///
    /// # Shapes
    /// `rows`: seeds by prompts.
    ///
    /// # Errors
    /// Less than two prompts, or rows of different lengths.
    pub fn of(rows: &[&[f64]]) -> Result<Self, OutcomeError> {
        let prompts = rows.first().map_or(0, |row| row.len());
        if prompts < 2 {
            return Err(OutcomeError::Empty);
        }
        if let Some(row) = rows.iter().position(|row| row.len() != prompts) {
            return Err(OutcomeError::Ragged { expected: prompts, found: rows[row].len(), row });
        }
        let (s, p) = (rows.len() as f64, prompts as f64);
        let by_seed: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / p).collect();
        let by_prompt: Vec<f64> = (0..prompts).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / s).collect();
        let mean = by_seed.iter().sum::<f64>() / s;
        let squares = |means: &[f64]| means.iter().map(|m| (m - mean).powi(2)).sum::<f64>();
        let prompt_square = s * squares(&by_prompt) / (p - 1.0);
        if rows.len() == 1 {
            return Ok(Self { seed: None, prompt: prompt_square, residual: 0.0 });
        }
        let seed_square = p * squares(&by_seed) / (s - 1.0);
        let left = |(row, by_seed): (&&[f64], &f64)| -> f64 {
            row.iter().zip(&by_prompt).map(|(value, by_prompt)| (value - by_seed - by_prompt + mean).powi(2)).sum()
        };
        let residual = rows.iter().zip(&by_seed).map(left).sum::<f64>() / ((s - 1.0) * (p - 1.0));
        Ok(Self {
            seed: Some(((seed_square - residual) / p).max(0.0)),
            prompt: ((prompt_square - residual) / s).max(0.0),
            residual,
        })
    }

    /// The standard error of the mean over `seeds` and `prompts`, of other seeds and prompts of the same kind:
    /// `sqrt(seed / S + prompt / P + residual / (S P))`.
    #[must_use]
    pub fn standard_error(&self, seeds: usize, prompts: usize) -> f64 {
        let (s, p) = (seeds as f64, prompts as f64);
        (self.between_seeds() / s + self.prompt / p + self.residual / (s * p)).sqrt()
    }

    /// The smallest true difference that is seen as often as required with `seeds` and `prompts`.
    #[must_use]
    pub fn detectable(&self, seeds: usize, prompts: usize, requirement: Requirement) -> f64 {
        requirement.reach() * self.standard_error(seeds, prompts)
    }

    /// The prompts that it takes to see `difference` with `seeds`; none where no number is enough, because runs differ
    /// too much.
    #[must_use]
    pub fn prompts_needed(&self, difference: f64, seeds: usize, requirement: Requirement) -> Option<usize> {
        let s = seeds as f64;
        enough(self.prompt + self.residual / s, self.between_seeds() / s, difference, requirement)
    }

    /// The seeds that it takes to see `difference` with `prompts`; none where no number is enough, because prompts differ
    /// too much, or where it is not known how much seeds do.
    #[must_use]
    pub fn seeds_needed(&self, difference: f64, prompts: usize, requirement: Requirement) -> Option<usize> {
        let p = prompts as f64;
        enough(self.seed? + self.residual / p, self.prompt / p, difference, requirement)
    }

    fn between_seeds(&self) -> f64 {
        self.seed.unwrap_or(0.0)
    }
}

impl Requirement {
    /// Standard errors between zero and a difference that is seen as often as required.
    fn reach(&self) -> f64 {
        normal_quantile(f64::midpoint(1.0, self.confidence)) + normal_quantile(self.power)
    }
}

/// The smallest n with `shrinking / n + fixed` no more than the variance that `difference` allows.
fn enough(shrinking: f64, fixed: f64, difference: f64, requirement: Requirement) -> Option<usize> {
    let room = (difference / requirement.reach()).powi(2) - fixed;
    let n = (shrinking / room).ceil().max(1.0);
    #[allow(clippy::cast_sign_loss, reason = "at least one")]
    (room > 0.0 && n < 1e15).then_some(n as usize)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    const USUAL: Requirement = Requirement { confidence: 0.95, power: 0.8 };

    #[test]
    fn components_are_those_of_the_published_example() {
        // Shrout and Fleiss (1979), table 2: four judges on six targets; mean squares 11.24, 32.49 and 1.02, and a
        // reliability ICC(2, 1) of 0.29.
        let judges: [&[f64]; 4] = [
            &[9.0, 6.0, 8.0, 7.0, 10.0, 6.0],
            &[2.0, 1.0, 4.0, 1.0, 5.0, 2.0],
            &[5.0, 3.0, 6.0, 2.0, 6.0, 4.0],
            &[8.0, 2.0, 8.0, 6.0, 9.0, 7.0],
        ];
        let found = Components::of(&judges).unwrap();
        let seed = found.seed.unwrap();
        assert!((found.residual - 1.02).abs() < 0.005, "{found:?}");
        assert!((4.0 * found.prompt + found.residual - 11.24).abs() < 0.005, "{found:?}");
        assert!((6.0 * seed + found.residual - 32.49).abs() < 0.005, "{found:?}");
        assert!((found.prompt / (found.prompt + seed + found.residual) - 0.29).abs() < 0.005, "{found:?}");
    }

    #[test]
    fn one_seed_says_nothing_of_seeds() {
        let found = Components::of(&[&[1.0, 2.0, 3.0, 4.0]]).unwrap();
        assert_eq!((found.seed, found.residual), (None, 0.0));
        assert!((found.prompt - 5.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.seeds_needed(1.0, 100, USUAL), None);
        assert_eq!(Components::of(&[&[1.0]]), Err(OutcomeError::Empty));
        assert!(matches!(Components::of(&[&[1.0, 2.0], &[1.0]]), Err(OutcomeError::Ragged { .. })));
    }

    #[test]
    fn sizes_are_those_of_the_tables() {
        // A standardised difference of 0.5 takes 32 pairs, one of 0.2 takes 197 (normal quantiles, 5 %, 80 %).
        let one = Components { seed: None, prompt: 1.0, residual: 0.0 };
        assert_eq!([0.5, 0.2].map(|d| one.prompts_needed(d, 1, USUAL)), [Some(32), Some(197)]);
        assert!((one.detectable(1, 32, USUAL) - 0.495).abs() < 0.001);
    }

    #[test]
    fn what_more_of_one_kind_cannot_buy_is_none() {
        let c = Components { seed: Some(4.0), prompt: 100.0, residual: 50.0 };
        assert_eq!(c.prompts_needed(2.0, 3, USUAL), None);
        assert_eq!(c.seeds_needed(2.0, 100, USUAL), None);
        for (difference, seeds, prompts) in [(5.0, 5, 200), (6.0, 2, 30)] {
            let p = c.prompts_needed(difference, seeds, USUAL).unwrap();
            assert!(c.detectable(seeds, p, USUAL) <= difference && c.detectable(seeds, p - 1, USUAL) > difference);
            let s = c.seeds_needed(difference, prompts, USUAL).unwrap_or(usize::MAX);
            assert!(
                s > 1
                    && c.detectable(s, prompts, USUAL) <= difference
                    && c.detectable(s - 1, prompts, USUAL) > difference
            );
        }
    }

    #[test]
    fn a_detectable_difference_is_seen_as_often_as_promised() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let c = Components { seed: Some(9.0), prompt: 400.0, residual: 900.0 };
        let (seeds, prompts) = (6, 80);
        let (truth, error) = (c.detectable(seeds, prompts, USUAL), c.standard_error(seeds, prompts));
        let mut normal = |variance: f64| -> f64 { rng.sample::<f64, _>(StandardNormal) * variance.sqrt() };
        let seen = (0..2000).filter(|_| {
            let by_prompt: Vec<f64> = (0..prompts).map(|_| normal(400.0)).collect();
            let total: f64 = (0..seeds)
                .map(|_| {
                    let run = normal(9.0);
                    by_prompt.iter().map(|prompt| truth + run + prompt + normal(900.0)).sum::<f64>()
                })
                .sum();
            (total / (seeds * prompts) as f64).abs() > 1.959_964 * error
        });
        let share = seen.count() as f64 / 2000.0;
        assert!((share - 0.8).abs() < 0.03, "{share}");
    }
}
