//! Who decides comparisons, in words, and how consistent the decisions are.

use anyhow::Result;

use super::super::execute::Inputs;
use super::super::reward::Evaluation;
use super::collect::{Chosen, Loaded};
use super::{Config, mean};
use crate::judge::{self, Verdict};
use crate::report::JudgeResult;

/// Who decides comparisons, in words.
pub(super) const fn judged_by(judge: &judge::Config) -> &'static str {
    match judge {
        judge::Config::Oracle(_) => "oracle: fewer faults win, equal counts draw",
        judge::Config::RewardModel(_) => "reward model trained on held-out preferences: the higher score wins",
    }
}

const fn name(judge: &judge::Config) -> &'static str {
    match judge {
        judge::Config::Oracle(_) => "oracle",
        judge::Config::RewardModel(_) => "reward_model",
    }
}

/// The recipe's judge on every pair that a report shows: each variant against the reference, and against each other one.
pub(super) fn judges(
    config: &Config,
    inputs: &Inputs,
    cells: &[Loaded],
    chosen: &[Chosen],
) -> Result<Vec<JudgeResult>> {
    let judge = &config.recipe.judge;
    let mut tally = Tally::default();
    for (i, a) in chosen.iter().enumerate() {
        for cell in &a.cells {
            tally.add(&cell.judgements.test, &cell.judgements.reference);
        }
        for b in chosen[..i].iter().filter(|b| b.budget == a.budget) {
            a.cells.iter().zip(&b.cells).for_each(|(a, b)| tally.add(&a.judgements.test, &b.judgements.test));
        }
    }
    let share = |count: usize, of: usize| (of > 0).then(|| count as f64 / of as f64);
    Ok(vec![JudgeResult {
        name: name(judge).to_owned(),
        description: judged_by(judge).to_owned(),
        pairs: tally.pairs,
        tie_rate: share(tally.ties, tally.pairs),
        order_consistency: share(tally.consistent, tally.pairs),
        first_position_rate: share(tally.first, tally.decided),
        preference_accuracy: mean(&accuracies(config, inputs, cells)?),
    }])
}

/// Pairs judged in both orders.
#[derive(Default)]
struct Tally {
    pairs: usize,
    ties: usize,
    /// Pairs with the same winner in both orders.
    consistent: usize,
    /// Decided verdicts, two a pair.
    decided: usize,
    /// Those of them that go to the response shown first.
    first: usize,
}

impl Tally {
    fn add(&mut self, ours: &[Verdict], theirs: &[Verdict]) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            // What the first of the two shown gets, in either order.
            let shown = [ours.against(theirs), theirs.against(ours)];
            let is = |outcome: f64, wanted: f64| (outcome - wanted).abs() < 0.25;
            self.pairs += 1;
            self.ties += usize::from(shown.iter().all(|&outcome| is(outcome, 0.5)));
            self.consistent += usize::from(is(shown[0], 1.0 - shown[1]));
            self.decided += shown.iter().filter(|&&outcome| !is(outcome, 0.5)).count();
            self.first += shown.iter().filter(|&&outcome| is(outcome, 1.0)).count();
        }
    }
}

/// How often a learned judge is right on the pairs that the variants learned from and it did not, one a cell; empty where it
/// was not learned.
fn accuracies(config: &Config, inputs: &Inputs, cells: &[Loaded]) -> Result<Vec<f64>> {
    let judge::Config::RewardModel(_) = config.recipe.judge else { return Ok(Vec::new()) };
    let mut accuracies = Vec::new();
    for cell in cells {
        let evaluation: Evaluation = cell.artefact(inputs, "judge")?.read_json("evaluation.json")?;
        accuracies.extend(evaluation.preference_accuracy);
    }
    Ok(accuracies)
}

/// What a win rate cannot show where the judge was learned, with how well it was.
pub(super) fn caution(config: &Config, judges: &[JudgeResult]) -> Option<String> {
    let judge::Config::RewardModel(_) = config.recipe.judge else { return None };
    let accuracy = judges.first().and_then(|judge| judge.preference_accuracy);
    let right = accuracy.map_or_else(String::new, |mean| {
        format!(" It is right on {:.1} % of preference pairs that it has not seen, where chance is 50.", 100.0 * mean)
    });
    Some(format!(
        "The judge is a reward model no larger than the policies, trained on held-out preferences.{right} Win rates say whose \
         responses it scores higher, not whether people would prefer them."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_of_single_responses_is_consistent_and_prefers_no_position() {
        let verdicts = |scores: &[f64]| scores.iter().map(|score| Verdict::of_score(*score)).collect::<Vec<_>>();
        let mut tally = Tally::default();
        tally.add(&verdicts(&[1.0, 2.0, 3.0]), &verdicts(&[1.0, 3.0, 2.0]));
        assert_eq!((tally.pairs, tally.ties, tally.consistent, tally.decided, tally.first), (3, 1, 3, 4, 2));
    }
}
