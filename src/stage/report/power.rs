//! What a run could see, and what else is said of a result beside its win rate: length control, seeds, prompts.

use std::cmp::Ordering;

use anyhow::{Context, Result};

use super::super::execute::Inputs;
use super::super::policy::seed;
use super::collect::{Chosen, Loaded};
use crate::data::Response;
use crate::eval::{self, Compared, Components, Estimate, GlmWeights, Outcomes, Requirement};
use crate::eval::{improvement_with_interval, interquartile_mean_with_interval, sign_test};
use crate::report::{Comparison, Power};

/// What rows of seeds by prompts, in points, could show of a mean other than zero; none on one prompt.
pub(super) fn power(config: &eval::Config, rows: &[Vec<f64>]) -> Option<Power> {
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let (seeds, prompts) = (rows.len(), rows.first()?.len());
    let components = Components::of(&rows).ok()?;
    let requirement = Requirement { confidence: config.confidence.get(), power: config.power.get() };
    let difference = config.difference.get();
    let detectable = components.detectable(seeds, prompts, requirement);
    Some(Power {
        seed_variance: components.seed,
        prompt_variance: components.prompt,
        residual_variance: components.residual,
        // A recipe may ask for certainty; no size gives it.
        detectable_points: Some(detectable).filter(|points| points.is_finite())?,
        prompts_needed: components.prompts_needed(difference, seeds, requirement),
        seeds_needed: components.seeds_needed(difference, prompts, requirement),
    })
}

/// Distances from one half, in points.
pub(super) fn from_half(outcomes: &Outcomes) -> Vec<Vec<f64>> {
    outcomes.rows().map(|row| row.iter().map(|outcome| 100.0 * (outcome - 0.5)).collect()).collect()
}

/// The interquartile mean of the seeds' win rates; none with one seed, whose spread is not known.
pub(super) fn over_seeds(config: &eval::Config, outcomes: &Outcomes) -> Option<Estimate> {
    let (samples, confidence) = (config.bootstrap_samples.get(), config.confidence.get());
    let rates = [outcomes.mean_per_seed()];
    interquartile_mean_with_interval(&rates, samples, confidence, seed(0, "bootstrap")).filter(|mean| mean.covers_seeds)
}

/// Adds to a comparison what it shows prompt by prompt, seed by seed, and could have shown.
pub(super) fn complete(config: &eval::Config, comparison: &mut Comparison, a: &Outcomes, b: &Outcomes) {
    let rows: Vec<Vec<f64>> =
        a.rows().zip(b.rows()).map(|(a, b)| a.iter().zip(b).map(|(a, b)| 100.0 * (a - b)).collect()).collect();
    let by_prompt = (0..a.prompts()).map(|prompt| rows.iter().map(|row| row[prompt]).sum::<f64>());
    for sum in by_prompt {
        match sum.partial_cmp(&0.0) {
            Some(Ordering::Greater) => comparison.better_prompts += 1,
            Some(Ordering::Less) => comparison.worse_prompts += 1,
            _ => {}
        }
    }
    comparison.sign_p = Some(sign_test(comparison.better_prompts, comparison.worse_prompts));
    let (samples, confidence) = (config.bootstrap_samples.get(), config.confidence.get());
    let [ours, theirs] = [a, b].map(|side| [side.mean_per_seed()]);
    let improvement = improvement_with_interval(&ours, &theirs, samples, confidence, seed(0, "bootstrap"));
    let improvement = improvement.filter(|improvement| improvement.covers_seeds);
    comparison.probability_of_improvement = improvement.map(|improvement| improvement.value);
    comparison.improvement_ci = improvement.map(|improvement| [improvement.low, improvement.high]);
    comparison.power = power(config, &rows);
}

/// The win rate if responses were as long as the reference's, all seeds together; none where that cannot be told.
pub(super) fn against_reference(inputs: &Inputs, chosen: &Chosen) -> Result<Option<f64>> {
    let (theirs, ours) = (lengths(inputs, chosen, "reference_responses")?, lengths(inputs, chosen, "responses")?);
    let outcomes: Vec<Vec<f64>> = chosen.cells.iter().map(|cell| cell.outcomes()).collect();
    Ok(length_controlled(&outcomes, &ours, &theirs))
}

/// The share of `direct` comparisons that `a` would win if its responses were as long as those of `b`.
pub(super) fn against(inputs: &Inputs, a: &Chosen, b: &Chosen, direct: &Outcomes) -> Result<Option<f64>> {
    let (ours, theirs) = (lengths(inputs, a, "responses")?, lengths(inputs, b, "responses")?);
    let outcomes: Vec<Vec<f64>> = direct.rows().map(<[f64]>::to_vec).collect();
    Ok(length_controlled(&outcomes, &ours, &theirs))
}

/// Tokens of the responses of `role` to the kept prompts, seed by seed.
fn lengths(inputs: &Inputs, chosen: &Chosen, role: &str) -> Result<Vec<Vec<f64>>> {
    let of = |cell: &&Loaded| {
        let responses: Vec<Response> = cell.artefact(inputs, role)?.read_jsonl("test.jsonl").context("responses")?;
        Ok(cell.kept.iter().map(|&prompt| responses[prompt].ids.len() as f64).collect())
    };
    chosen.cells.iter().map(of).collect()
}

/// # Shapes
/// All three seeds by prompts.
fn length_controlled(outcomes: &[Vec<f64>], ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> Option<f64> {
    let mut compared = Vec::new();
    for ((outcomes, ours), theirs) in outcomes.iter().zip(ours).zip(theirs) {
        let rows = outcomes.iter().zip(theirs).zip(ours).enumerate();
        compared.extend(rows.map(|(group, ((outcome, baseline), model))| Compared {
            share: Some(*outcome),
            lengths: [*baseline, *model],
            difficulty: 0.0,
            group,
        }));
    }
    let rate = GlmWeights::fit(&compared).ok().and_then(|weights| weights.length_controlled(&[0.0]));
    rate.map(|rate| rate.length_controlled_winrate / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(rows: &[&[f64]]) -> Outcomes {
        Outcomes::new(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_comparison_counts_prompts_over_all_seeds_together() {
        let a = outcomes(&[&[1.0, 1.0, 0.5, 0.0], &[1.0, 0.0, 0.5, 0.0]]);
        let b = outcomes(&[&[0.0, 0.0, 0.5, 1.0], &[0.5, 1.0, 0.5, 0.0]]);
        let mut found = Comparison::default();
        complete(&eval::Config::default(), &mut found, &a, &b);
        assert_eq!((found.better_prompts, found.worse_prompts, found.sign_p), (1, 1, Some(1.0)));
        // Win rates 0.625 and 0.375 against 0.375 and 0.5.
        assert_eq!(found.probability_of_improvement, Some((1.0 + 1.0 + 0.5 + 0.0) / 4.0));
        assert!(found.power.unwrap().seed_variance.is_some());
    }

    #[test]
    fn one_seed_has_no_spread_between_seeds() {
        let one = outcomes(&[&[1.0, 0.0, 1.0, 0.5]]);
        let mut found = Comparison::default();
        complete(&eval::Config::default(), &mut found, &one, &one.reversed());
        assert_eq!((found.probability_of_improvement, over_seeds(&eval::Config::default(), &one)), (None, None));
        let power = found.power.unwrap();
        assert_eq!((power.seed_variance, power.seeds_needed), (None, None));
        // Differences of 100, -100, 100 and 0 points: 9166.7 x (1.96 + 0.8416)^2 / 5^2.
        assert_eq!(power.prompts_needed, Some(2878));
    }

    #[test]
    fn certainty_is_not_to_be_had() {
        let config = eval::Config { power: crate::units::Fraction::try_from(1.0).unwrap(), ..eval::Config::default() };
        assert_eq!(power(&config, &from_half(&outcomes(&[&[1.0, 0.0]]))), None);
    }
}
