//! What each axis does: means by level, effects over matching points, two factors at a time, trends of sampled axes.

use rayon::prelude::*;

use super::Estimator;
use super::gather::{Gathered, Measured};
use crate::eval::{Panel, holm, spearman};
use crate::recipe::{Axis, Experiment, Point};
use crate::report::sweep::{FactorLevel, LevelPair, Quantity, Trend, TrendValue};

/// A sweep's results, ready to be compared.
pub(super) struct Sweep<'a> {
    experiment: &'a Experiment,
    points: &'a [Gathered],
    factors: Vec<Factor>,
    quantities: Vec<Quantity>,
    estimator: Estimator<'a>,
}

/// Axes that always change together, so that their effects cannot be told apart; mostly one.
struct Factor {
    axes: Vec<usize>,
    name: String,
    levels: Vec<String>,
    /// For each level of its first axis the index of its own: draws of a sampled axis repeat themselves.
    of: Vec<usize>,
}

impl Factor {
    fn new(index: usize, axis: &Axis) -> Self {
        let mut levels: Vec<String> = Vec::new();
        let mut place = |name: &String| {
            levels.iter().position(|known| known == name).unwrap_or_else(|| {
                levels.push(name.clone());
                levels.len() - 1
            })
        };
        let of = axis.levels.iter().map(|level| place(&level.name)).collect();
        Self { axes: vec![index], name: axis.name.clone(), levels, of }
    }

    /// The index of the level that `point` takes.
    fn level(&self, point: &Point) -> Option<usize> {
        self.of.get(point.levels[self.axes[0]]?).copied()
    }
}

/// A quantity at one point.
enum At<'a> {
    /// The point's recipe does not ask for it.
    Unasked,
    /// It failed or is missing.
    Absent,
    /// Seeds by prompts.
    Known(&'a Panel),
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        experiment: &'a Experiment,
        points: &'a [Gathered],
        first_variant: &str,
        estimator: Estimator<'a>,
    ) -> Self {
        let (factors, quantities) = (factors(experiment), quantities(points, first_variant));
        Self { experiment, points, factors, quantities, estimator }
    }

    /// Levels of every factor, where a point asks for the quantity; p-values are corrected over all effects.
    pub(super) fn levels(&self) -> Vec<FactorLevel> {
        let mut wanted = Vec::new();
        for factor in &self.factors {
            for quantity in &self.quantities {
                wanted.extend((0..factor.levels.len()).map(|level| (factor, quantity, level)));
            }
        }
        let mut levels: Vec<FactorLevel> =
            wanted.into_par_iter().map(|(factor, quantity, level)| self.level(factor, quantity, level)).collect();
        levels.retain(|level| level.points + level.missing > 0);
        let mut effects: Vec<_> = levels.iter_mut().filter_map(|level| level.effect.as_mut()).collect();
        let corrected = holm(&effects.iter().map(|effect| effect.p_value).collect::<Vec<_>>());
        effects.iter_mut().zip(corrected).for_each(|(effect, p)| effect.p_holm = Some(p));
        levels
    }

    fn level(&self, factor: &Factor, quantity: &Quantity, level: usize) -> FactorLevel {
        let here = |point: usize| self.takes(point, factor, level);
        let (mean_points, points, missing) = self.mean(quantity, here);
        let pair = |point: usize| match (self.at(point, quantity), self.at(self.partner(factor, point)?, quantity)) {
            (At::Known(ours), At::Known(theirs)) => Some((ours, theirs)),
            _ => None,
        };
        let pairs: Vec<(&Panel, &Panel)> =
            (0..self.points.len()).filter(|&point| level > 0 && here(point)).filter_map(pair).collect();
        FactorLevel {
            axis: factor.name.clone(),
            level: factor.levels[level].clone(),
            first_level: factor.levels[0].clone(),
            quantity: quantity.clone(),
            points,
            missing,
            mean_points,
            effect: self.estimator.effect(&pairs),
        }
    }

    fn takes(&self, point: usize, factor: &Factor, level: usize) -> bool {
        factor.level(&self.experiment.points[point]) == Some(level)
    }

    /// The point that differs from `point` in taking the first level of `factor`, and in nothing else.
    fn partner(&self, factor: &Factor, point: usize) -> Option<usize> {
        let mut levels = self.experiment.points[point].levels.clone();
        factor.axes.iter().for_each(|&axis| levels[axis] = Some(0));
        self.experiment.points.iter().position(|other| other.levels == levels)
    }

    /// Every two factors' levels together, where any point takes both.
    pub(super) fn level_pairs(&self) -> Vec<LevelPair> {
        let mut pairs = Vec::new();
        for (place, a) in self.factors.iter().enumerate() {
            for b in &self.factors[place + 1..] {
                let meet = |point: &Point| a.level(point).is_some() && b.level(point).is_some();
                if self.experiment.points.iter().any(meet) {
                    let tables = self.quantities.iter().map(|quantity| self.pairs_of(a, b, quantity));
                    let asked = |table: &Vec<LevelPair>| table.iter().any(|pair| pair.points + pair.missing > 0);
                    pairs.extend(tables.filter(asked).flatten());
                }
            }
        }
        pairs
    }

    fn pairs_of(&self, a: &Factor, b: &Factor, quantity: &Quantity) -> Vec<LevelPair> {
        let pair = |i: usize, j: usize| {
            let (mean_points, points, missing) =
                self.mean(quantity, |point| self.takes(point, a, i) && self.takes(point, b, j));
            LevelPair {
                axes: [a.name.clone(), b.name.clone()],
                levels: [a.levels[i].clone(), b.levels[j].clone()],
                quantity: quantity.clone(),
                points,
                missing,
                mean_points,
            }
        };
        (0..a.levels.len()).flat_map(|i| (0..b.levels.len()).map(move |j| pair(i, j))).collect()
    }

    /// Quantities over the values of sampled axes.
    pub(super) fn trends(&self) -> Vec<Trend> {
        let sampled = (0..self.experiment.axes.len()).filter(|&axis| is_trend(&self.experiment.axes[axis]));
        let all = sampled.flat_map(|axis| self.quantities.iter().map(move |quantity| self.trend(axis, quantity)));
        all.filter(|trend| trend.values.len() + trend.missing > 0).collect()
    }

    fn trend(&self, axis: usize, quantity: &Quantity) -> Trend {
        let (mut values, mut missing) = (Vec::new(), 0);
        for (index, point) in self.experiment.points.iter().enumerate() {
            let Some(value) = self.experiment.level(point, axis).and_then(|level| level.value.as_f64()) else {
                continue;
            };
            match self.at(index, quantity) {
                At::Known(panel) => values.push(TrendValue { value, mean_points: 100.0 * panel.mean() }),
                At::Absent => missing += 1,
                At::Unasked => {}
            }
        }
        let spearman = spearman(&values.iter().map(|at| [at.value, at.mean_points]).collect::<Vec<_>>());
        let axis = self.experiment.axes[axis].name.clone();
        Trend { axis, quantity: quantity.clone(), spearman, missing, values }
    }

    /// The mean of `quantity` over the points `here`, in points, with how many are in it and how many are missing.
    fn mean(&self, quantity: &Quantity, here: impl Fn(usize) -> bool) -> (Option<f64>, usize, usize) {
        let (mut sum, mut known, mut missing) = (0.0, 0, 0);
        for point in (0..self.points.len()).filter(|&point| here(point)) {
            match self.at(point, quantity) {
                At::Known(panel) => (sum, known) = (sum + 100.0 * panel.mean(), known + 1),
                At::Absent => missing += 1,
                At::Unasked => {}
            }
        }
        ((known > 0).then(|| sum / known as f64), known, missing)
    }

    fn at(&self, point: usize, quantity: &Quantity) -> At<'a> {
        let results = &self.points[point].results;
        let of = |variant: &str| {
            let here = |m: &&Measured| {
                m.result.variant == variant && quantity.budget.is_none_or(|budget| budget == m.result.budget)
            };
            results.iter().find(here)
        };
        let (measured, against) = (of(&quantity.variant), quantity.against.as_deref().map(of));
        match (measured, against) {
            (None, _) | (_, Some(None)) => At::Unasked,
            (Some(measured), None) => measured.outcomes.as_ref().map_or(At::Absent, At::Known),
            (Some(measured), Some(_)) => measured.lead.as_ref().map_or(At::Absent, At::Known),
        }
    }
}

/// Whether an axis is plotted against its values; a sampled axis of names is a factor.
fn is_trend(axis: &Axis) -> bool {
    axis.sampled && axis.levels.iter().all(|level| level.value.is_number())
}

/// The axes whose levels are compared; those that always change together are one factor.
fn factors(experiment: &Experiment) -> Vec<Factor> {
    let mut factors: Vec<Factor> = Vec::new();
    for (index, axis) in experiment.axes.iter().enumerate().filter(|(_, axis)| !is_trend(axis)) {
        let factor = Factor::new(index, axis);
        let together =
            |other: &&mut Factor| experiment.points.iter().all(|point| other.level(point) == factor.level(point));
        match factors.iter_mut().find(together) {
            Some(other) => {
                other.axes.push(index);
                other.name = format!("{} + {}", other.name, factor.name);
                let names = other.levels.iter().zip(factor.levels);
                other.levels = names.map(|(first, second)| format!("{first} + {second}")).collect();
            }
            None => factors.push(factor),
        }
    }
    factors
}

/// Every variant's win rate and lead, by budget. Where each point has one budget of its own, budgets are what an axis
/// changes, and quantities are not split by them.
fn quantities(points: &[Gathered], first_variant: &str) -> Vec<Quantity> {
    let mut variants: Vec<&str> = Vec::new();
    let mut budgets: Vec<usize> = Vec::new();
    for result in points.iter().flat_map(|point| &point.results).map(|measured| &measured.result) {
        if !variants.contains(&result.variant.as_str()) {
            variants.push(&result.variant);
        }
        if !budgets.contains(&result.budget) {
            budgets.push(result.budget);
        }
    }
    let own = |point: &Gathered| point.results.iter().all(|m| m.result.budget == point.results[0].result.budget);
    budgets.sort_unstable();
    let budgets: Vec<Option<usize>> = match budgets.as_slice() {
        [_, _, ..] if points.iter().all(own) => vec![None],
        _ => budgets.into_iter().map(Some).collect(),
    };
    let mut quantities = Vec::new();
    for budget in budgets {
        let quantity = |variant: &str, against| Quantity { variant: variant.to_owned(), against, budget };
        quantities.extend(variants.iter().map(|variant| quantity(variant, None)));
        let others = variants.iter().filter(|variant| **variant != first_variant);
        quantities.extend(others.map(|variant| quantity(variant, Some(first_variant.to_owned()))));
    }
    quantities
}
