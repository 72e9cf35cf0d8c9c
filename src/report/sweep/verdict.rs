//! What a sweep found, in sentences that claim no more than the numbers do.

use super::schema::{Baseline, Effect, FactorLevel, Status, SweepReport};
use crate::report::Power;
use crate::report::numbers::{fixed, p_relation, percent, plural, shortest};
use crate::report::sentence::{defined, plain};
use crate::report::verdict::Strength;

/// The sentences that the report opens with; `report.verdict` itself is not read.
#[must_use]
pub fn verdict(report: &SweepReport) -> Vec<String> {
    sentences(report).iter().map(|sentence| plain(sentence)).collect()
}

/// The same with their numbers' definitions.
pub fn sentences(report: &SweepReport) -> Vec<String> {
    let mut sentences = vec![size(report)];
    sentences.extend(best(report));
    sentences.extend(factor(report, false));
    sentences.extend(factor(report, true));
    sentences.extend(trend(report));
    sentences.extend(limits(report));
    sentences
}

fn size(report: &SweepReport) -> String {
    let count = |status: Status| report.points.iter().filter(|point| point.status == status).count();
    let all = defined("count", plural(report.points.len(), "point"));
    let sample = sample(report).map_or_else(String::new, |sample| format!(", {sample}"));
    match (count(Status::Failed), count(Status::Missing)) {
        (0, 0) => format!("All {all} are done{sample}."),
        (failed, missing) => format!(
            "Of {all}, {} are done{sample}; {} failed, {} missing. What is not there is in no average, and \
             levels are compared over the points that both have.",
            defined("count", count(Status::Done)),
            defined("count", failed),
            defined("count", missing)
        ),
    }
}

/// How much stands behind each result: `3 seeds x 500 test prompts`.
fn sample(report: &SweepReport) -> Option<String> {
    let done = || report.results.iter().filter(|result| result.status == Status::Done);
    let range = |of: fn(&super::PointResult) -> usize, thing: &str| {
        let (low, high) = (done().map(of).min()?, done().map(of).max()?);
        Some(if low == high { plural(low, thing) } else { format!("{low} to {high} {thing}s") })
    };
    let (seeds, prompts) = (range(|r| r.seeds.len(), "seed")?, range(|r| r.prompts, "test prompt")?);
    Some(format!("{} x {}", defined("seeds", seeds), defined("prompts", prompts)))
}

fn best(report: &SweepReport) -> Option<String> {
    let best = report.best.as_ref()?;
    Some(format!(
        "Of {} the best by validation win rate is `{}` at `{}` with {}: it wins {} % of comparisons with the SFT reference on \
         test prompts ({} % interval {} to {}); {}.",
        defined("count", plural(best.candidates, "result")),
        best.variant,
        best.point,
        defined("annotations", plural(best.budget, "annotation")),
        defined("win_rate", percent(best.win_rate)),
        fixed(100.0 * report.confidence, 0),
        defined("ci", percent(best.ci[0])),
        defined("ci", percent(best.ci[1])),
        beside(report, best.baseline.as_ref()),
    ))
}

/// How the best result compares with the baseline.
fn beside(report: &SweepReport, baseline: Option<&Baseline>) -> String {
    let Some(baseline) = baseline else {
        return "there is no result at a baseline point to compare it with".to_owned();
    };
    let Some(effect) = &baseline.effect else { return "it is the baseline point itself".to_owned() };
    let points = defined("difference_points", fixed(effect.difference_points.abs(), 1));
    let more = if effect.difference_points < 0.0 { "less" } else { "more" };
    let gap = match Strength::of(effect.ci, effect.p_value) {
        Strength::Nothing => format!("no detectable difference from the baseline: {points} points {more}"),
        _ => format!("{points} points {more} than the baseline"),
    };
    let evidence = evidence(report, effect, "p_value");
    format!("{gap}, `{}` ({evidence}, not corrected for the choice)", baseline.point)
}

/// The factor whose effect on a win rate, or on a lead, is largest: among those that the correction upholds, if any.
fn factor(report: &SweepReport, lead: bool) -> Option<String> {
    let strength = |effect: &Effect| Strength::of(effect.ci, effect.p_holm.unwrap_or(effect.p_value));
    let effects = report.factors.iter().filter(|level| level.quantity.against.is_some() == lead);
    let effects = effects.filter_map(|level| Some((level, level.effect.as_ref()?)));
    let (level, effect) = effects.reduce(|best, other| {
        let rank = |(_, effect): &(&FactorLevel, &Effect)| (strength(effect), effect.difference_points.abs());
        if rank(&other) > rank(&best) { other } else { best }
    })?;
    let what = level.quantity.against.as_ref().map_or_else(
        || format!("the win rate of `{}`", level.quantity.variant),
        |against| format!("the lead of `{}` over `{against}`", level.quantity.variant),
    );
    let at = level.quantity.budget.map_or_else(String::new, |budget| format!(" at {}", plural(budget, "annotation")));
    let sign = if effect.difference_points < 0.0 { "lower" } else { "higher" };
    let change = format!(
        "with `{}` at `{}` instead of `{}`, {what}{at} is {} points {sign} ({}, {} of points)",
        level.axis,
        level.level,
        level.first_level,
        defined("effect", fixed(effect.difference_points.abs(), 1)),
        evidence(report, effect, if effect.p_holm.is_some() { "p_holm" } else { "p_value" }),
        defined("pairs", plural(effect.pairs, "pair")),
    );
    let kind = if lead { "a lead" } else { "a win rate" };
    Some(match strength(effect) {
        Strength::Nothing => format!("No factor has a detectable effect on {kind}; the largest found: {change}."),
        Strength::Uncorrected => {
            format!("No factor has an effect on {kind} that the correction upholds; the largest found: {change}.")
        }
        Strength::Clear => format!("The factor that matters most for {kind} is `{}`: {change}.", level.axis),
    })
}

fn trend(report: &SweepReport) -> Option<String> {
    let known = report.trends.iter().filter(|trend| trend.quantity.against.is_none());
    let known = known.filter_map(|trend| Some((trend, trend.spearman?)));
    let (trend, rho) = known.reduce(|best, other| if other.1.abs() > best.1.abs() { other } else { best })?;
    Some(format!(
        "Of the sampled axes, `{}` has the strongest rank correlation with a win rate: {} with that of `{}`, over {}; it is not \
         tested.",
        trend.axis,
        defined("spearman", fixed(rho, 2)),
        trend.quantity.variant,
        defined("count", plural(trend.values.len(), "point")),
    ))
}

fn limits(report: &SweepReport) -> Vec<String> {
    let mut sentences = Vec::new();
    let effects: Vec<&Effect> = report.factors.iter().filter_map(|level| level.effect.as_ref()).collect();
    if effects.len() > 1 {
        sentences.push(format!(
            "P-values of factors are corrected by Holm's method over {} effects; intervals are not.",
            defined("count", effects.len())
        ));
    }
    if report.judge.contains("; or ") {
        sentences.push("Points were judged in different ways: their win rates do not compare.".to_owned());
    }
    sentences.extend(too_small(report));
    let done = || report.results.iter().filter(|result| result.status == Status::Done);
    if done().any(|result| result.seeds.len() == 1) {
        sentences.push("Where there is one seed, intervals do not cover the spread between runs.".to_owned());
    }
    let count = |of: fn(&Effect) -> usize| effects.iter().map(|effect| of(effect)).max().unwrap_or(0);
    let (partial, unpaired) = (count(|effect| effect.partial), count(|effect| effect.unpaired));
    if partial > 0 {
        sentences.push(
            "Some pairs of points differ in their seeds or test prompts and are compared on those that they share."
                .to_owned(),
        );
    }
    if unpaired > 0 {
        sentences.push(
            "Some pairs of points share no test prompts or no seeds: they are compared as independent samples."
                .to_owned(),
        );
    }
    let warned = done().filter(|result| !result.warnings.is_empty()).count();
    if warned > 0 {
        sentences.push(format!(
            "Runs of {} raised warnings; read them before trusting the ranking.",
            defined("count", plural(warned, "result"))
        ));
    }
    sentences
}

/// That an effect was not found says little where the sweep was too small to find it.
fn too_small(report: &SweepReport) -> Option<String> {
    let effects = report.factors.iter().filter_map(|level| level.effect.as_ref());
    let quiet = effects.filter(|effect| Strength::of(effect.ci, 0.0) == Strength::Nothing);
    let hidden = |power: &&Power| power.detectable_points > report.difference;
    let powers: Vec<&Power> = quiet.filter_map(|effect| effect.power.as_ref()).filter(hidden).collect();
    let detectable = || powers.iter().map(|power| power.detectable_points);
    let (low, high) = (detectable().reduce(f64::min)?, detectable().reduce(f64::max)?);
    let most = |metric: &str, of: fn(&Power) -> Option<usize>, thing: &str| {
        let all: Option<Vec<usize>> = powers.iter().map(|power| of(power)).collect();
        all?.into_iter().max().map(|most| defined(metric, plural(most, thing)))
    };
    let ways = [
        most("prompts_needed", |power| power.prompts_needed, "test prompt"),
        most("seeds_needed", |power| power.seeds_needed, "seed"),
    ];
    let ways: Vec<String> = ways.into_iter().flatten().collect();
    let ways = if ways.is_empty() { "more prompts and more seeds".to_owned() } else { ways.join(", or ") };
    let (low, high) = (fixed(low, 1), fixed(high, 1));
    let range = defined("detectable_points", if low == high { low } else { format!("{low} to {high}") });
    Some(format!(
        "The sweep was too small for its question: {} whose interval covers zero would be seen {} % of the time from {range} \
         points on only; {} points would take {ways}.",
        defined("count", plural(powers.len(), "effect")),
        fixed(100.0 * report.power, 0),
        shortest(report.difference),
    ))
}

/// With the p-value that `metric` names; the corrected one where there is one.
fn evidence(report: &SweepReport, effect: &Effect, metric: &str) -> String {
    let [low, high] = effect.ci.map(|x| defined("ci", fixed(x, 1)));
    let p = if metric == "p_holm" { effect.p_holm.unwrap_or(effect.p_value) } else { effect.p_value };
    format!("{} % interval {low} to {high}, p {}", fixed(100.0 * report.confidence, 0), defined(metric, p_relation(p)))
}
