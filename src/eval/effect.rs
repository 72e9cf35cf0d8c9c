//! What a change of recipe does: differences over many pairs of results that share seeds and prompts.
//!
//! Pairs whose results have other seeds or prompts than other pairs are drawn by themselves, see `docs/METRICS.md`. Which
//! results make a pair is left to `stage`.

use std::collections::BTreeMap;

use super::bootstrap::{Block, Design};
use super::{Difference, OutcomeError};

/// Numbers of seeds on prompts, such as outcomes, that know which seeds and prompts they belong to.
///
/// # Shapes
/// `values`: seeds by prompts, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    seeds: Vec<u64>,
    prompts: Vec<usize>,
    values: Vec<f64>,
}

impl Panel {
    /// A panel of one row for each of `seeds` and one column for each of `prompts`, whose numbers mean the same prompt in
    /// every panel.
    ///
    /// # Errors
    /// No values, or rows of another length than `prompts`.
    pub fn new(seeds: Vec<u64>, prompts: Vec<usize>, rows: &[Vec<f64>]) -> Result<Self, OutcomeError> {
        if seeds.is_empty() || prompts.is_empty() || rows.len() != seeds.len() {
            return Err(OutcomeError::Empty);
        }
        if let Some(row) = rows.iter().position(|row| row.len() != prompts.len()) {
            return Err(OutcomeError::Ragged { expected: prompts.len(), found: rows[row].len(), row });
        }
        Ok(Self { seeds, prompts, values: rows.concat() })
    }

    /// The mean over seeds and prompts.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// One slice for each seed.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.prompts.len())
    }

    /// The difference to `other` on the seeds and prompts that both have; none where they have none in common.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<Self> {
        let rows = common(&self.seeds, &other.seeds);
        let columns = common(&self.prompts, &other.prompts);
        if rows.is_empty() || columns.is_empty() {
            return None;
        }
        let cell = |(i, j): (usize, usize), (k, l): (usize, usize)| {
            self.values[i * self.prompts.len() + k] - other.values[j * other.prompts.len() + l]
        };
        let values = rows.iter().flat_map(|&row| columns.iter().map(move |&column| cell(row, column))).collect();
        Some(Self {
            seeds: rows.iter().map(|&(i, _)| self.seeds[i]).collect(),
            prompts: columns.iter().map(|&(k, _)| self.prompts[k]).collect(),
            values,
        })
    }

    /// Whether `other` has the same seeds and prompts.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.seeds == other.seeds && self.prompts == other.prompts
    }
}

/// Positions in `a` and in `b` of what both hold, in the order of `a`.
fn common<T: Copy + Ord>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    let places: BTreeMap<T, usize> = b.iter().enumerate().map(|(j, item)| (*item, j)).collect();
    a.iter().enumerate().filter_map(|(i, item)| Some((i, *places.get(item)?))).collect()
}

/// The mean difference over pairs of results, in points.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The difference with its interval and p-value.
    pub difference: Difference,
    /// Pairs without a common seed or without a common prompt, whose sides are resampled independently of each other.
    pub unpaired: usize,
    /// Pairs that are compared on a part of their seeds or prompts, since one side has others.
    pub partial: usize,
    /// The mean over the pairs cell by cell, in points; none where they do not all have the same seeds and prompts.
    pub cells: Option<Panel>,
}

/// The mean of `a - b` over `pairs`, each pair counted once, in points (100 times the difference); none without pairs.
///
/// Within a pair, cells of equal seed and prompt are subtracted. A resample draws seeds and prompts once for all pairs
/// that have the same ones [PIGEONHOLE], so what the pairs share is not counted as independent evidence. A pair that shares
/// no seed or no prompt is the difference of two means, each drawn on its own.
#[must_use]
pub fn effect(pairs: &[(&Panel, &Panel)], resamples: usize, confidence: f64, seed: u64) -> Option<Effect> {
    if pairs.is_empty() {
        return None;
    }
    let weight = 100.0 / pairs.len() as f64;
    let (mut terms, mut unpaired, mut partial) = (Terms::default(), 0, 0);
    for (a, b) in pairs {
        if let Some(difference) = a.minus(b) {
            partial += usize::from(!a.matches(b));
            terms.add(&difference, weight);
        } else {
            unpaired += 1;
            terms.add(a, weight);
            terms.add(b, -weight);
        }
    }
    let cells = match terms.0.as_slice() {
        [panel] if unpaired == 0 => Some(panel.clone()),
        _ => None,
    };
    let difference = terms.design().difference(resamples, confidence, seed);
    Some(Effect { difference, unpaired, partial, cells })
}

/// Sums of panels with equal seeds and prompts.
#[derive(Default)]
struct Terms(Vec<Panel>);

impl Terms {
    fn add(&mut self, panel: &Panel, weight: f64) {
        let weighted = panel.values.iter().map(|value| weight * value);
        match self.0.iter_mut().find(|sum| sum.matches(panel)) {
            Some(sum) => sum.values.iter_mut().zip(weighted).for_each(|(sum, value)| *sum += value),
            None => self.0.push(Panel { values: weighted.collect(), ..panel.clone() }),
        }
    }

    fn design(self) -> Design {
        let (mut seeds, mut prompts, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        for panel in self.0 {
            let block = Block {
                rows: position(&mut seeds, panel.seeds),
                columns: position(&mut prompts, panel.prompts),
                values: panel.values,
            };
            blocks.push(block);
        }
        let row_sets = seeds.iter().map(Vec::len).collect();
        Design { row_sets, column_sets: prompts.iter().map(Vec::len).collect(), blocks }
    }
}

/// Where `set` stands in `sets`, at the end if it is new.
fn position<T: PartialEq>(sets: &mut Vec<T>, set: T) -> usize {
    sets.iter().position(|known| *known == set).unwrap_or_else(|| {
        sets.push(set);
        sets.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Outcomes, paired_difference};

    fn panel(seeds: &[u64], prompts: &[usize], value: impl Fn(u64, usize) -> f64) -> Panel {
        let rows: Vec<Vec<f64>> = seeds.iter().map(|&s| prompts.iter().map(|&p| value(s, p)).collect()).collect();
        Panel::new(seeds.to_vec(), prompts.to_vec(), &rows).unwrap()
    }

    /// A coin that seed and prompt decide.
    fn coin(seed: u64, prompt: usize) -> f64 {
        f64::from(u8::from((7 * seed + 13 * prompt as u64 + seed * prompt as u64) % 5 < 2))
    }

    fn found(pairs: &[(&Panel, &Panel)]) -> Effect {
        effect(pairs, 400, 0.95, 1).unwrap()
    }

    #[test]
    fn one_pair_is_the_paired_difference_of_two_variants() {
        let prompts: Vec<usize> = (0..40).collect();
        let (a, b) = (panel(&[0, 1, 2], &prompts, coin), panel(&[0, 1, 2], &prompts, |s, p| coin(s + 1, p)));
        let outcomes = |panel: &Panel| Outcomes::new(&panel.values.chunks(40).map(<[f64]>::to_vec).collect::<Vec<_>>());
        let (left, right) = (outcomes(&a).unwrap(), outcomes(&b).unwrap());
        let expected = paired_difference(&left, &right, 400, 0.95, 1).unwrap();
        let found = found(&[(&a, &b)]).difference;
        for (found, expected) in [
            (found.points.value, expected.points.value),
            (found.points.low, expected.points.low),
            (found.points.high, expected.points.high),
            (found.p_value, expected.p_value),
        ] {
            assert!((found - expected).abs() < 1e-9, "expected {expected}, found {found}");
        }
    }

    #[test]
    fn a_pair_that_is_there_twice_is_no_more_evidence() {
        let prompts: Vec<usize> = (0..30).collect();
        let (a, b) = (panel(&[0, 1], &prompts, coin), panel(&[0, 1], &prompts, |_, p| coin(9, p)));
        let (once, twice) = (found(&[(&a, &b)]), found(&[(&a, &b), (&a, &b)]));
        assert_eq!(once.cells, twice.cells);
        assert!((once.cells.unwrap().mean() - once.difference.points.value).abs() < 1e-9);
        assert!((once.difference.points.low - twice.difference.points.low).abs() < 1e-9);
        assert!((once.difference.points.high - twice.difference.points.high).abs() < 1e-9);
    }

    #[test]
    fn only_common_seeds_and_prompts_are_compared() {
        let (a, b) = (panel(&[0, 1, 2], &[0, 1, 2, 3], |_, _| 1.0), panel(&[2, 0], &[3, 9, 1], |s, _| s as f64 / 2.0));
        let difference = a.minus(&b).unwrap();
        assert_eq!((difference.seeds.as_slice(), difference.prompts.as_slice()), (&[0, 2][..], &[1, 3][..]));
        let found = found(&[(&a, &b)]);
        assert!((found.difference.points.value - 50.0).abs() < 1e-9);
        assert_eq!((found.partial, found.unpaired), (1, 0));
    }

    #[test]
    fn sides_without_common_prompts_are_drawn_on_their_own() {
        let prompts: Vec<usize> = (0..200).collect();
        let others: Vec<usize> = (200..400).collect();
        let half = |_: u64, p: usize| (p % 2) as f64;
        let (a, b) = (panel(&[0], &prompts, half), panel(&[0], &others, half));
        let found = found(&[(&a, &b)]);
        assert_eq!(found.unpaired, 1);
        // Two independent proportions of one half on 200 prompts each.
        let expected = 196.0 * (2.0 * 0.25 / 200.0_f64).sqrt();
        let half_width = (found.difference.points.high - found.difference.points.low) / 2.0;
        assert!((half_width / expected - 1.0).abs() < 0.15, "expected {expected}, found {half_width}");
    }

    #[test]
    fn more_independent_prompts_narrow_the_interval_and_shared_ones_do_not() {
        let at = |from: usize| -> Vec<usize> { (from..from + 50).collect() };
        let (win, lose) = (|_: u64, p: usize| f64::from(u8::from(!p.is_multiple_of(3))), |_: u64, _: usize| 0.0);
        let (a, b) = (panel(&[0], &at(0), win), panel(&[0], &at(0), lose));
        let (c, d) = (panel(&[0], &at(60), win), panel(&[0], &at(60), lose));
        let width = |effect: Effect| effect.difference.points.high - effect.difference.points.low;
        assert_eq!(found(&[(&a, &b), (&c, &d)]).cells, None, "no table has all of it");
        let (one, shared, fresh) =
            (width(found(&[(&a, &b)])), width(found(&[(&a, &b), (&a, &b)])), width(found(&[(&a, &b), (&c, &d)])));
        assert!((one - shared).abs() < 1e-9 && fresh < 0.85 * one, "{one}, {shared}, {fresh}");
    }

    #[test]
    fn nothing_to_compare_is_no_effect() {
        assert_eq!(effect(&[], 10, 0.95, 0), None);
        assert_eq!(Panel::new(vec![0], vec![], &[vec![]]), Err(OutcomeError::Empty));
        assert!(matches!(Panel::new(vec![0], vec![1, 2], &[vec![0.0]]), Err(OutcomeError::Ragged { .. })));
    }
}
