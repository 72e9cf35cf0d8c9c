//! The report of a sweep: what its points have in the store, compared.
//!
//! No stage: a sweep's report is made from whatever judgements there are, at any time, so that it also says what is missing.

mod factors;
mod gather;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde_json::Value;

use self::factors::Sweep;
use self::gather::{Gathered, Measured, gather};
use super::judges::judged_by;
use super::power::power;
use crate::eval::{self, Outcomes, Panel, effect, win_rate};
use crate::recipe::{Axis, Experiment, Level, Point, Values};
use crate::report::sweep::{AxisSummary, Baseline, Best, Effect, KeySummary, LevelSummary, SweepReport, verdict};
use crate::stage::policy::seed;
use crate::store::Store;

/// The report of the sweep `experiment` from what `store` holds by now. Points without results are listed with the reason
/// and are part of no average.
///
/// # Errors
/// When a file that a recipe names cannot be read.
pub fn sweep_report(experiment: &Experiment, store: &Store) -> Result<SweepReport> {
    let first_point = experiment.points.first().context("expected a sweep of at least one point, found none")?;
    let recipe = &first_point.recipe;
    let first_variant = recipe.variants.first().map_or("", |variant| &variant.name);
    let config = &recipe.evaluation;
    let estimator = Estimator(config);
    let mut points = gather(experiment, store)?;
    points.par_iter_mut().try_for_each(|point| estimator.complete(&mut point.results, first_variant))?;
    let sweep = Sweep::new(experiment, &points, first_variant, estimator);
    let judges: BTreeSet<_> = experiment.points.iter().map(|point| judged_by(&point.recipe.judge)).collect();
    let mut report = SweepReport {
        sweep: experiment.name.clone(),
        description: recipe.description.clone(),
        judge: judges.into_iter().collect::<Vec<_>>().join("; or "),
        confidence: config.confidence.get(),
        bootstrap_samples: config.bootstrap_samples.get(),
        difference: config.difference.get(),
        power: config.power.get(),
        first_variant: first_variant.to_owned(),
        axes: experiment.axes.iter().map(axis).collect(),
        keys: keys(experiment),
        best: best(experiment, &points, estimator),
        factors: sweep.levels(),
        level_pairs: sweep.level_pairs(),
        trends: sweep.trends(),
        ..SweepReport::default()
    };
    for point in points {
        report.points.push(point.summary);
        report.results.extend(point.results.into_iter().map(|measured| measured.result));
    }
    report.verdict = verdict(&report);
    Ok(report)
}

/// How intervals are made.
#[derive(Clone, Copy)]
struct Estimator<'a>(&'a eval::Config);

impl Estimator<'_> {
    /// The mean difference over `pairs`; none without one.
    fn effect(self, pairs: &[(&Panel, &Panel)]) -> Option<Effect> {
        let found = effect(pairs, self.0.bootstrap_samples.get(), self.0.confidence.get(), seed(0, "bootstrap"))?;
        let points = found.difference.points;
        let rows = |cells: Panel| cells.rows().map(<[f64]>::to_vec).collect::<Vec<_>>();
        Some(Effect {
            difference_points: points.value,
            ci: [points.low, points.high],
            p_value: found.difference.p_value,
            p_holm: None,
            pairs: pairs.len(),
            partial: found.partial,
            unpaired: found.unpaired,
            power: found.cells.and_then(|cells| power(self.0, &rows(cells))),
        })
    }

    /// Adds intervals, and leads over the variant `first`, to the results of a point.
    fn complete(self, results: &mut [Measured], first: &str) -> Result<()> {
        let firsts: Vec<(usize, Panel)> = results
            .iter()
            .filter(|measured| measured.result.variant == first)
            .filter_map(|measured| Some((measured.result.budget, measured.outcomes.clone()?)))
            .collect();
        for Measured { result, outcomes, lead } in results {
            let Some(outcomes) = outcomes else { continue };
            let rows: Vec<Vec<f64>> = outcomes.rows().map(<[f64]>::to_vec).collect();
            let (samples, confidence) = (self.0.bootstrap_samples.get(), self.0.confidence.get());
            let estimate = win_rate(&Outcomes::new(&rows)?, samples, confidence, seed(0, "bootstrap"));
            result.ci = Some([estimate.low, estimate.high]);
            let first = firsts.iter().find(|(budget, _)| result.variant != first && *budget == result.budget);
            if let Some((_, first)) = first {
                result.lead = self.effect(&[(outcomes, first)]);
                *lead = outcomes.minus(first);
            }
        }
        Ok(())
    }
}

fn axis(axis: &Axis) -> AxisSummary {
    let level = |level: &Level| LevelSummary { name: level.name.clone(), value: level.value.clone() };
    AxisSummary { name: axis.name.clone(), sampled: axis.sampled, levels: axis.levels.iter().map(level).collect() }
}

/// The values of the recipes that are not the same at all points.
fn keys(experiment: &Experiment) -> Vec<KeySummary> {
    let recipes: Vec<Values> = experiment.points.iter().map(|point| point.recipe.values()).collect();
    let names: BTreeSet<&String> = recipes.iter().flat_map(BTreeMap::keys).collect();
    let key = |name: &String| {
        let mut values: Vec<Value> = Vec::new();
        for recipe in &recipes {
            let value = recipe.get(name).unwrap_or(&Value::Null);
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        (values.len() > 1).then(|| KeySummary { key: name.clone(), values })
    };
    names.into_iter().filter_map(key).collect()
}

/// The result with the highest validation win rate, the first of equals, beside the same one at the baseline point.
fn best(experiment: &Experiment, points: &[Gathered], estimator: Estimator) -> Option<Best> {
    let all =
        || points.iter().enumerate().flat_map(|(point, gathered)| gathered.results.iter().map(move |m| (point, m)));
    let candidates: Vec<(usize, &Measured, f64)> =
        all().filter_map(|(point, m)| Some((point, m, m.result.measures.validation_win_rate?))).collect();
    let &(point, found, validation_win_rate) =
        candidates.iter().reduce(|best, other| if other.2 > best.2 { other } else { best })?;
    let result = &found.result;
    let same = |m: &&Measured| m.result.variant == result.variant && m.result.budget == result.budget;
    let baseline = baseline(experiment).and_then(|index| {
        let baseline = points[index].results.iter().find(same)?;
        let outcomes = baseline.outcomes.as_ref()?;
        let effect = if index == point { None } else { estimator.effect(&[(found.outcomes.as_ref()?, outcomes)]) };
        Some(Baseline { point: baseline.result.point.clone(), win_rate: outcomes.mean(), effect })
    });
    Some(Best {
        point: result.point.clone(),
        variant: result.variant.clone(),
        budget: result.budget,
        validation_win_rate,
        win_rate: result.measures.win_rate?,
        ci: result.ci?,
        candidates: candidates.len(),
        baseline,
    })
}

/// The point whose axes all take their first level; none where an axis is sampled, since its first draw means nothing.
fn baseline(experiment: &Experiment) -> Option<usize> {
    let first = |point: &Point| point.levels.iter().all(|level| matches!(level, Some(0) | None));
    if experiment.axes.iter().any(|axis| axis.sampled) { None } else { experiment.points.iter().position(first) }
}
