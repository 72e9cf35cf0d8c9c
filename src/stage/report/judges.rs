//! Who decides comparisons, in words, how consistent the decisions are, and how far several judges agree.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::super::execute::Inputs;
use super::super::judging::Judged;
use super::super::opinions::Opinion;
use super::super::policy::seed;
use super::super::reward::Evaluation;
use super::collect::{Chosen, Loaded};
use super::{Config, mean};
use crate::endpoint::Usage;
use crate::eval::{self, Agreement, Outcomes, interval_alpha, win_rate};
use crate::judge::{self, Consistency, Judge, Verdict};
use crate::report::{JudgeAgreement, JudgeResult, JudgedWinRate};
use crate::store::Artefact;

/// Who decides comparisons, in words.
pub(super) fn judged_by(judge: &judge::Config) -> String {
    judge.primary().map(|judge| judge.description()).unwrap_or_default()
}

/// A variant's name and budget, the seed, and what a judge said of its responses to the test prompts.
type Said = (String, usize, u64, Judged);

/// All judges of the recipe, the primary one first, and the agreement of every two.
pub(super) fn judges(
    config: &Config,
    inputs: &Inputs,
    cells: &[Loaded],
    chosen: &[Chosen],
) -> Result<(Vec<JudgeResult>, Vec<JudgeAgreement>)> {
    let table = &config.recipe.judge;
    let primary = table.primary().context("a judge")?;
    let mut panel = vec![(primary, said_by_primary(chosen))];
    for judge in table.further() {
        let said = said_by(&judge, inputs, chosen)?;
        panel.push((judge, said));
    }
    let mut results = Vec::new();
    for (i, (judge, said)) in panel.iter().enumerate() {
        let mut result = result(&config.recipe.evaluation, judge, said);
        result.primary = i == 0;
        result.usage = usage(judge, i == 0, inputs, cells)?;
        if matches!(judge, Judge::RewardModel(_)) {
            result.preference_accuracy = mean(&accuracies(inputs, cells)?);
        }
        if i == 0 {
            add_variants(&mut result, chosen);
        }
        if let Some(first) = results.first() {
            result.win_rates = like(first, &result.win_rates);
        }
        results.push(result);
    }
    let mut agreements = Vec::new();
    for (i, (a, ours)) in panel.iter().enumerate() {
        agreements.extend(panel[i + 1..].iter().map(|(b, theirs)| agreement((a, ours), (b, theirs))));
    }
    Ok((results, agreements))
}

fn said_by_primary(chosen: &[Chosen]) -> Vec<Said> {
    let of = |best: &Chosen| {
        let name = best.variant.clone();
        let mine = |cell: &&Loaded| (name.clone(), best.budget, cell.at.seed, cell.judgements.judged.clone());
        best.cells.iter().map(mine).collect::<Vec<_>>()
    };
    chosen.iter().flat_map(of).collect()
}

/// What a further judge said; nothing where its stage has no result.
fn said_by(judge: &Judge, inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<Said>> {
    let mut all = Vec::new();
    for best in chosen {
        let role = format!("opinions.{}/{}/budget={}", judge.name().text(), best.variant, best.budget);
        let Some(artefact) = inputs.find(&role) else { continue };
        let opinions: Vec<Opinion> = artefact.read_json("opinions.json")?;
        all.extend(opinions.into_iter().map(|said| (best.variant.clone(), best.budget, said.seed, said.judged)));
    }
    Ok(all)
}

fn result(config: &eval::Config, judge: &Judge, said: &[Said]) -> JudgeResult {
    let share = |count: usize, of: usize| (of > 0).then(|| count as f64 / of as f64);
    let outcomes: Vec<Option<f64>> = said.iter().flat_map(|(.., judged)| judged.outcomes()).collect();
    let known: Vec<f64> = outcomes.iter().flatten().copied().collect();
    let ties = known.iter().filter(|outcome| (**outcome - 0.5).abs() < 1e-9).count();
    let ballots = || said.iter().flat_map(|(.., judged)| &judged.ballots);
    let seen = Consistency::of(ballots());
    let votes = ballots().map(|ballot| ballot.0.iter().filter(|vote| vote.annotator.is_some()));
    JudgeResult {
        name: judge.name().text().to_owned(),
        description: judge.description(),
        pairs: known.len(),
        unjudged: outcomes.len() - known.len(),
        tie_rate: share(ties, known.len()),
        // Who looks at one response at a time cannot know an order.
        order_consistency: if judge.scores() { Some(1.0) } else { share(seen.consistent, seen.in_both_orders) },
        first_position_rate: if judge.scores() { Some(0.5) } else { share(seen.first, seen.decided) },
        annotator_alpha: interval_alpha(votes.map(|votes| votes.filter_map(|vote| vote.preference).collect())),
        win_rates: win_rates(config, said),
        ..JudgeResult::default()
    }
}

/// A variant's name and budget, and its outcomes seed by seed.
type Row<'a> = (&'a str, usize, Vec<Vec<Option<f64>>>);

/// One row a variant and budget, on the prompts that were judged for every seed.
fn win_rates(config: &eval::Config, said: &[Said]) -> Vec<JudgedWinRate> {
    let mut rows: Vec<Row> = Vec::new();
    for (variant, budget, _, judged) in said {
        match rows.iter_mut().find(|(name, at, _)| name == variant && at == budget) {
            Some((.., seeds)) => seeds.push(judged.outcomes()),
            None => rows.push((variant, *budget, vec![judged.outcomes()])),
        }
    }
    let row = |(variant, budget, seeds): Row| {
        let prompts = seeds.iter().map(Vec::len).min().unwrap_or(0);
        let kept: Vec<usize> = (0..prompts).filter(|&i| seeds.iter().all(|seed| seed[i].is_some())).collect();
        let kept_of = |seed: &Vec<Option<f64>>| kept.iter().filter_map(|&i| seed[i]).collect::<Vec<f64>>();
        let outcomes = Outcomes::new(&seeds.iter().map(kept_of).collect::<Vec<_>>()).ok();
        let (samples, confidence) = (config.bootstrap_samples.get(), config.confidence.get());
        let estimate = outcomes.map(|outcomes| win_rate(&outcomes, samples, confidence, seed(0, "bootstrap")));
        JudgedWinRate {
            variant: variant.to_owned(),
            budget,
            prompts: kept.len(),
            win_rate: estimate.map(|estimate| estimate.value),
            ci: estimate.map(|estimate| [estimate.low, estimate.high]),
        }
    };
    rows.into_iter().map(row).collect()
}

/// The rows of `rates` in the order of the first judge's; empty ones where nothing was said.
fn like(first: &JudgeResult, rates: &[JudgedWinRate]) -> Vec<JudgedWinRate> {
    let row = |of: &JudgedWinRate| {
        let same = |rate: &&JudgedWinRate| rate.variant == of.variant && rate.budget == of.budget;
        let empty = JudgedWinRate { variant: of.variant.clone(), budget: of.budget, ..JudgedWinRate::default() };
        rates.iter().find(same).cloned().unwrap_or(empty)
    };
    first.win_rates.iter().map(row).collect()
}

fn agreement((a, ours): (&Judge, &Vec<Said>), (b, theirs): (&Judge, &Vec<Said>)) -> JudgeAgreement {
    let by_run: BTreeMap<(&str, usize, u64), &Judged> =
        theirs.iter().map(|(variant, budget, seed, judged)| ((variant.as_str(), *budget, *seed), judged)).collect();
    let mut pairs = Vec::new();
    for (variant, budget, seed, judged) in ours {
        let Some(other) = by_run.get(&(variant.as_str(), *budget, *seed)) else { continue };
        let both = judged.outcomes().into_iter().zip(other.outcomes());
        pairs.extend(both.filter_map(|(ours, theirs)| Some([ours?, theirs?])));
    }
    let Agreement { pairs, same, decided, same_of_decided, alpha } = Agreement::of(&pairs);
    let [a, b] = [a, b].map(|judge| judge.name().text().to_owned());
    JudgeAgreement { a, b, pairs, same, decided, same_of_decided, alpha }
}

/// Adds the comparisons of variants with each other, which a judge that gives scores decides too.
fn add_variants(result: &mut JudgeResult, chosen: &[Chosen]) {
    let (mut pairs, mut ties) = (0, 0);
    for (i, a) in chosen.iter().enumerate() {
        for b in chosen[..i].iter().filter(|b| b.budget == a.budget) {
            for (ours, theirs) in a.cells.iter().zip(&b.cells) {
                let [ours, theirs] = [ours, theirs].map(|cell| cell.judgements.judged.test.iter());
                let even = |(ours, theirs): &(&Verdict, &Verdict)| (ours.against(theirs) - 0.5).abs() < 1e-9;
                pairs += ours.len().min(theirs.len());
                ties += ours.zip(theirs).filter(even).count();
            }
        }
    }
    let all = result.pairs + pairs;
    let before = result.tie_rate.unwrap_or(0.0) * result.pairs as f64;
    result.tie_rate = (all > 0).then(|| (before + ties as f64) / all as f64);
    result.pairs = all;
}

/// What asking an endpoint took, over all of a judge's results.
fn usage(judge: &Judge, is_primary: bool, inputs: &Inputs, cells: &[Loaded]) -> Result<Option<Usage>> {
    let own = format!("opinions.{}/", judge.name().text());
    let artefacts: Vec<&Artefact> = if is_primary {
        cells.iter().filter_map(|cell| cell.artefact(inputs, "judgements").ok()).collect()
    } else {
        inputs.artefacts(&own).map(|(_, artefact)| artefact).collect()
    };
    let mut sum: Option<Usage> = None;
    for artefact in artefacts.iter().filter(|artefact| artefact.manifest.files.contains_key("usage.json")) {
        *sum.get_or_insert_default() += artefact.read_json("usage.json")?;
    }
    Ok(sum)
}

/// How often a learned judge is right on the pairs that it did not learn from, one a cell.
fn accuracies(inputs: &Inputs, cells: &[Loaded]) -> Result<Vec<f64>> {
    let mut accuracies = Vec::new();
    for cell in cells {
        let evaluation: Evaluation = cell.artefact(inputs, "judge")?.read_json("evaluation.json")?;
        accuracies.extend(evaluation.preference_accuracy);
    }
    Ok(accuracies)
}

/// What a win rate cannot show where the judge was learned, with how well it was.
pub(super) fn caution(config: &Config, judges: &[JudgeResult]) -> Option<String> {
    let Some(Judge::RewardModel(_)) = config.recipe.judge.primary() else { return None };
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
    use crate::judge::{Ballot, Vote};

    fn said(variant: &str, seed: u64, preferences: &[Option<f64>]) -> Said {
        let ballot = |preference: &Option<f64>| {
            let vote = |first| Vote { preference: *preference, first: Some(first), annotator: None };
            Ballot(vec![vote(true), vote(false)])
        };
        let ballots = preferences.iter().map(ballot).collect();
        (variant.to_owned(), 10, seed, Judged { ballots, ..Judged::default() })
    }

    #[test]
    fn prompts_without_a_verdict_for_every_seed_are_left_out_of_a_win_rate() {
        let both = [said("a", 0, &[Some(1.0), None, Some(0.5)]), said("a", 1, &[Some(1.0), Some(0.0), Some(0.5)])];
        let rows = win_rates(&eval::Config::default(), &both);
        assert_eq!((rows.len(), rows[0].prompts, rows[0].win_rate), (1, 2, Some(0.75)));
    }

    #[test]
    fn judges_agree_on_the_runs_that_both_judged() {
        let judge = |text: &str| toml::from_str::<judge::Config>(text).unwrap().primary().unwrap();
        let (one, other) = (judge("[oracle]"), judge("[human]\npath = \"x\""));
        let ours = vec![said("a", 0, &[Some(1.0), Some(0.0)]), said("b", 0, &[Some(1.0), Some(1.0)])];
        let theirs = vec![said("a", 0, &[Some(1.0), Some(1.0)])];
        let found = agreement((&one, &ours), (&other, &theirs));
        assert_eq!((found.a.as_str(), found.b.as_str(), found.pairs, found.same), ("oracle", "human", 2, Some(0.5)));
    }
}
