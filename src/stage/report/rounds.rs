//! What rounds of annotation add: each against the one before, and the last against one round with as many annotations.

use anyhow::Result;

use super::super::policy::seed;
use super::collect::{Chosen, Loaded, outcomes};
use crate::eval::{self, Outcomes, paired_difference, win_rate};
use crate::recipe::Recipe;
use crate::report::{Gain, RoundResult};

/// One row for each round of every variant and budget, after that of a single round; nothing where the recipe has one.
pub(super) fn rounds(recipe: &Recipe, cells: &[Loaded], chosen: &[Chosen]) -> Result<Vec<RoundResult>> {
    let mut rows = Vec::new();
    let find = |name: &str, budget: usize| chosen.iter().find(|best| best.variant == name && best.budget == budget);
    for run in recipe.runs().iter().filter(|run| run.rounds > 1) {
        for budget in recipe.budgets.iter().map(|budget| budget.get()) {
            let (Some(once), Some(last)) = (find(&run.variant.name, budget), find(&run.name, budget)) else { continue };
            let single = outcomes(once)?;
            rows.push(row(recipe, once, [1, 1], &run.variant.name, &single));
            let mut before: Option<Outcomes> = None;
            for round in 1..=run.rounds {
                let now = if round == run.rounds { outcomes(last)? } else { outcomes(&after(last, cells, round))? };
                let mut row = row(recipe, last, [run.rounds, round], &run.variant.name, &now);
                row.annotations = budget / run.rounds * round;
                row.added = before.map(|before| gain(&recipe.evaluation, &now, &before)).transpose()?;
                if round == run.rounds {
                    row.against_one_round = Some(gain(&recipe.evaluation, &now, &single)?);
                }
                rows.push(row);
                before = Some(now);
            }
        }
    }
    Ok(rows)
}

/// The cells of a run after one of its earlier rounds, at the coefficient that was chosen for it.
fn after<'a>(last: &Chosen<'a>, cells: &'a [Loaded], round: usize) -> Chosen<'a> {
    let mine = last.cells.iter().filter_map(|cell| {
        let at = super::Cell { round: Some(round), ..cell.at.clone() };
        cells.iter().find(|other| other.at == at)
    });
    Chosen { cells: mine.collect(), ..last.clone() }
}

fn row(recipe: &Recipe, at: &Chosen, [rounds, round]: [usize; 2], name: &str, found: &Outcomes) -> RoundResult {
    let eval::Config { bootstrap_samples, confidence, .. } = recipe.evaluation;
    let estimate = win_rate(found, bootstrap_samples.get(), confidence.get(), seed(0, "bootstrap"));
    RoundResult {
        variant: name.to_owned(),
        budget: at.budget,
        rounds,
        round,
        annotations: at.budget,
        kl_coef: at.kl_coef,
        win_rate: estimate.value,
        ci: [estimate.low, estimate.high],
        added: None,
        against_one_round: None,
    }
}

fn gain(config: &eval::Config, ours: &Outcomes, theirs: &Outcomes) -> Result<Gain> {
    let samples = config.bootstrap_samples.get();
    let difference = paired_difference(ours, theirs, samples, config.confidence.get(), seed(0, "bootstrap"))?;
    let points = difference.points;
    Ok(Gain { points: points.value, ci: [points.low, points.high], p_value: difference.p_value })
}
