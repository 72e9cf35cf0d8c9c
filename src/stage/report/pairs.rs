//! Variants against each other: differences of win rates, direct comparisons, and the letters that sum them up.

use anyhow::Result;

use super::super::execute::Inputs;
use super::super::policy::seed;
use super::collect::{Chosen, outcomes};
use super::power::{against, complete};
use crate::eval::{self, Outcomes, holm, letters, paired_difference, win_rate};
use crate::recipe::Recipe;
use crate::report::{Comparison, VariantResult};

/// Every variant against every one before it, at equal budget; p-values corrected over all of them.
pub(super) fn comparisons(recipe: &Recipe, inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Comparison>> {
    let mut all = Vec::new();
    for (i, a) in chosen.iter().enumerate() {
        for b in chosen[..i].iter().filter(|b| b.budget == a.budget) {
            all.push(comparison(&recipe.evaluation, inputs, a, b)?);
        }
    }
    let corrected = holm(&all.iter().map(|comparison| comparison.p_value).collect::<Vec<_>>());
    for (comparison, p) in all.iter_mut().zip(corrected) {
        comparison.p_holm = Some(p);
    }
    Ok(all)
}

fn comparison(config: &eval::Config, inputs: &Inputs, a: &Chosen, b: &Chosen) -> Result<Comparison> {
    let (samples, confidence) = (config.bootstrap_samples.get(), config.confidence.get());
    let (ours, theirs) = (outcomes(a)?, outcomes(b)?);
    let difference = paired_difference(&ours, &theirs, samples, confidence, seed(0, "bootstrap"))?;
    let mut comparison = Comparison {
        a: a.variant.clone(),
        b: b.variant.clone(),
        budget: a.budget,
        difference_points: difference.points.value,
        ci: [difference.points.low, difference.points.high],
        p_value: difference.p_value,
        ..Comparison::default()
    };
    if let Some(direct) = direct(a, b)? {
        let share = win_rate(&direct, samples, confidence, seed(0, "bootstrap"));
        comparison.head_to_head = Some(share.value);
        comparison.head_to_head_ci = Some([share.low, share.high]);
        comparison.length_controlled_head_to_head = against(inputs, a, b, &direct)?;
        (comparison.wins, comparison.ties, comparison.losses) = direct.counts();
    }
    complete(config, &mut comparison, &ours, &theirs);
    Ok(comparison)
}

/// The judge's verdicts on the responses of `a` and `b` to the same prompts, seed by seed; none where it gives no scores.
pub(super) fn direct(a: &Chosen, b: &Chosen) -> Result<Option<Outcomes>> {
    if [a, b].iter().any(|side| side.cells.iter().any(|cell| cell.judgements.judged.test.is_empty())) {
        return Ok(None);
    }
    let scores = |chosen: &Chosen| -> Vec<Vec<f64>> {
        let of = |verdicts: &[crate::judge::Verdict]| verdicts.iter().map(|verdict| verdict.score).collect();
        chosen.cells.iter().map(|cell| of(&cell.judgements.judged.test)).collect()
    };
    Ok(Some(Outcomes::from_scores(&scores(a), &scores(b))?))
}

/// Gives the variants of each budget their letters: two share one where the corrected p-value of their difference is not below
/// 1 - `confidence`. The best variant comes first.
pub(super) fn add_letters(variants: &mut [VariantResult], comparisons: &[Comparison], confidence: f64) {
    let mut budgets: Vec<usize> = variants.iter().map(|variant| variant.budget).collect();
    budgets.dedup();
    for budget in budgets {
        let mut here: Vec<usize> = (0..variants.len()).filter(|&i| variants[i].budget == budget).collect();
        here.sort_by(|&i, &j| variants[j].win_rate.total_cmp(&variants[i].win_rate));
        let place = |name: &str| here.iter().position(|&i| variants[i].name == name);
        let differ = |c: &&Comparison| c.budget == budget && c.p_holm.unwrap_or(c.p_value) < 1.0 - confidence;
        let different: Vec<(usize, usize)> =
            comparisons.iter().filter(differ).filter_map(|c| Some((place(&c.a)?, place(&c.b)?))).collect();
        if !comparisons.iter().any(|c| c.budget == budget) {
            continue;
        }
        for (variant, letters) in here.iter().copied().zip(letters(here.len(), &different)) {
            variants[variant].letters = letters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_variant_of_each_budget_has_the_first_letter() {
        let variant = |name: &str, budget, win_rate| VariantResult {
            name: name.to_owned(),
            budget,
            win_rate,
            ..VariantResult::default()
        };
        let comparison = |a: &str, b: &str, p| Comparison {
            a: a.to_owned(),
            b: b.to_owned(),
            budget: 10,
            p_value: 0.001,
            p_holm: Some(p),
            ..Comparison::default()
        };
        let mut variants =
            [variant("low", 10, 0.6), variant("high", 10, 0.8), variant("middle", 10, 0.7), variant("alone", 20, 0.9)];
        let pairs =
            [comparison("high", "low", 0.01), comparison("middle", "low", 0.2), comparison("middle", "high", 0.06)];
        add_letters(&mut variants, &pairs, 0.95);
        assert_eq!(variants.map(|v| v.letters), ["b", "a", "ab", ""]);
    }
}
