//! What was found, in sentences that claim no more than the numbers do.
//!
//! One sentence for each budget, then what limits it. Costs are left to the renderings: they differ from run to run.

use super::numbers::{fixed, p_relation, percent, plural, shortest};
use super::schema::{Comparison, Report, VariantResult};
use super::sentence::{defined, plain};

/// A corrected p-value above this is no evidence.
const SIGNIFICANT: f64 = 0.05;

/// The sentences that a report opens with; `report.verdict` itself is not read.
#[must_use]
pub fn verdict(report: &Report) -> Vec<String> {
    sentences(report).iter().map(|sentence| plain(sentence)).collect()
}

/// The same with their numbers' definitions.
///
/// At each budget the variant with the highest win rate is compared with the baseline, the first variant of the report,
/// and with the next best: the baseline may be the weakest of many.
pub fn sentences(report: &Report) -> Vec<String> {
    let mut sentences: Vec<String> =
        report.budgets().into_iter().filter_map(|budget| at_budget(report, budget)).collect();
    if sentences.is_empty() {
        sentences.push("No variant was judged.".to_owned());
        return sentences;
    }
    if report.comparisons.iter().any(|c| c.p_holm.is_some()) && report.comparisons.len() > 1 {
        sentences.push(format!(
            "All p-values here are corrected by Holm's method over {} comparisons.",
            defined("count", report.comparisons.len())
        ));
    }
    if report.variants.iter().all(|v| v.seeds.len() == 1) {
        sentences.push("There is one seed: the intervals do not cover the spread between runs.".to_owned());
    }
    let warned = report.warnings.len();
    if warned > 0 {
        let warnings = defined("count", plural(warned, "warning"));
        sentences.push(format!("The runs raised {warnings}; read them before trusting the ranking."));
    }
    sentences
}

fn at_budget(report: &Report, budget: usize) -> Option<String> {
    let here: Vec<&VariantResult> = report.variants.iter().filter(|v| v.budget == budget).collect();
    let baseline = *here.iter().find(|v| v.name == report.variants[0].name).or_else(|| here.first())?;
    let best = highest(baseline, here.iter().copied());
    let wins = format!(
        "`{}` wins {} % of comparisons with the SFT reference at {}",
        best.name,
        defined("win_rate", percent(best.win_rate)),
        defined("annotations", plural(budget, "annotation"))
    );
    let others = || here.iter().copied().filter(|v| v.name != baseline.name);
    let (gap, lead) = if best.name == baseline.name {
        (others().next().and_then(|first| ahead_of_all(report, best, highest(first, others()))), None)
    } else {
        let next = highest(baseline, here.iter().copied().filter(|v| v.name != best.name));
        let lead = (next.name != baseline.name).then(|| ahead_of_next(report, best, next)).flatten();
        (ahead_of_baseline(report, best, baseline), lead)
    };
    let gap = gap.unwrap_or_else(|| format!(" ({})", sample(report, best)));
    let rest = [lead, like_the_reference(report, best), too_small(report, best, baseline)];
    Some(format!("{wins}{gap}.{}", rest.into_iter().flatten().collect::<String>()))
}

fn ahead_of_next(report: &Report, best: &VariantResult, next: &VariantResult) -> Option<String> {
    let gap = report.comparison(&best.name, &next.name, best.budget)?;
    let (points, lead) = (points(gap.difference_points), format!("Its lead over the next, `{}`,", next.name));
    let claim = match Strength::of(gap.ci, corrected(&gap)) {
        Strength::Nothing => format!("{lead} is no detectable difference: {points} points"),
        Strength::Uncorrected => format!("{lead} is {points} points, which the correction does not uphold"),
        Strength::Clear => format!("{lead} is {points} points"),
    };
    Some(format!(" {claim} ({}).", evidence(report, &gap, best)))
}

/// A win rate whose interval covers one half is none.
fn like_the_reference(report: &Report, best: &VariantResult) -> Option<String> {
    let [low, high] = best.ci;
    (low <= 0.5 && high >= 0.5).then(|| {
        format!(
            " Against the reference there is no detectable difference: the {} % interval of the win rate, {} to {}, covers 50 %.",
            fixed(100.0 * report.confidence, 0),
            defined("ci", percent(low)),
            defined("ci", percent(high))
        )
    })
}

/// That a difference was not found says little where the run was too small to find it.
///
/// Said of the best variant against the baseline, or against the reference where it is the baseline, and only where nothing
/// was found.
fn too_small(report: &Report, best: &VariantResult, baseline: &VariantResult) -> Option<String> {
    let (between, power) = if best.name == baseline.name {
        let covered = best.ci[0] <= 0.5 && best.ci[1] >= 0.5;
        (format!("`{}` and the reference", best.name), best.power.clone().filter(|_| covered)?)
    } else {
        let gap = report.comparison(&best.name, &baseline.name, best.budget)?;
        let covered = gap.covers_zero();
        (format!("`{}` and `{}`", best.name, baseline.name), gap.power.filter(|_| covered)?)
    };
    (power.detectable_points > report.difference).then(|| {
        let many = |n: usize, thing: &str, other: usize, others: &str| {
            let (needed, known) = (format!("{thing}s_needed"), format!("{others}s"));
            format!("{} with {}", defined(&needed, plural(n, thing)), defined(&known, plural(other, others)))
        };
        let (prompts, seeds) = (report.prompts, best.seeds.len());
        let ways = [
            power.prompts_needed.map(|n| many(n, "prompt", seeds, "seed")),
            power.seeds_needed.map(|n| many(n, "seed", prompts, "prompt")),
        ];
        let ways: Vec<String> = ways.into_iter().flatten().collect();
        let ways = if ways.is_empty() { "more prompts and more seeds".to_owned() } else { ways.join(", or ") };
        format!(
            " The run was too small for its question: differences between {between} are seen {} % of the time from {} points \
             on; {} points would take {ways}.",
            fixed(100.0 * report.power, 0),
            defined("detectable_points", fixed(power.detectable_points, 1)),
            shortest(report.difference),
        )
    })
}

/// The first of equals: a challenger must be better, not as good.
fn highest<'a>(first: &'a VariantResult, all: impl Iterator<Item = &'a VariantResult>) -> &'a VariantResult {
    all.fold(first, |best, v| if v.win_rate > best.win_rate { v } else { best })
}

fn ahead_of_baseline(report: &Report, best: &VariantResult, baseline: &VariantResult) -> Option<String> {
    let gap = report.comparison(&best.name, &baseline.name, best.budget)?;
    let (points, name) = (points(gap.difference_points), &baseline.name);
    let claim = match Strength::of(gap.ci, corrected(&gap)) {
        Strength::Nothing => format!("; no detectable difference from `{name}`: {points} points"),
        Strength::Uncorrected => format!(", {points} points more than `{name}`, which the correction does not uphold"),
        Strength::Clear => format!(", {points} points more than `{name}`"),
    };
    Some(format!("{claim} ({})", evidence(report, &gap, best)))
}

fn ahead_of_all(report: &Report, best: &VariantResult, next: &VariantResult) -> Option<String> {
    let gap = report.comparison(&best.name, &next.name, best.budget)?;
    let (points, name) = (points(gap.difference_points), &next.name);
    let claim = match Strength::of(gap.ci, corrected(&gap)) {
        Strength::Nothing => format!("and the next, `{name}`, shows no detectable difference: {points} points less"),
        Strength::Uncorrected => {
            format!("and the next, `{name}`, is {points} points behind, which the correction does not uphold")
        }
        Strength::Clear => format!("and the next, `{name}`, is {points} points behind"),
    };
    Some(format!("; no other variant does better, {claim} ({})", evidence(report, &gap, best)))
}

/// What a comparison is evidence of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// The interval covers zero.
    Nothing,
    /// It does not, but the corrected p-value is too high.
    Uncorrected,
    /// Both hold.
    Clear,
}

impl Strength {
    /// Of a difference with the interval `ci` and the corrected p-value `p`.
    pub fn of(ci: [f64; 2], p: f64) -> Self {
        if ci[0] <= 0.0 && ci[1] >= 0.0 {
            Self::Nothing
        } else if p > SIGNIFICANT {
            Self::Uncorrected
        } else {
            Self::Clear
        }
    }
}

fn corrected(comparison: &Comparison) -> f64 {
    comparison.p_holm.unwrap_or(comparison.p_value)
}

fn evidence(report: &Report, comparison: &Comparison, best: &VariantResult) -> String {
    let [low, high] = comparison.ci.map(|x| defined("ci", fixed(x, 1)));
    let which = if comparison.p_holm.is_some() { "p_holm" } else { "p_value" };
    let (confidence, p) = (fixed(100.0 * report.confidence, 0), defined(which, p_relation(corrected(comparison))));
    format!("{confidence} % interval {low} to {high}, p {p}, {}", sample(report, best))
}

fn sample(report: &Report, variant: &VariantResult) -> String {
    let (prompts, seeds) = (plural(report.prompts, "prompt"), plural(variant.seeds.len(), "seed"));
    format!("{} x {}", defined("prompts", prompts), defined("seeds", seeds))
}

fn points(difference: f64) -> String {
    defined("difference_points", fixed(difference, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Power;
    use crate::report::sample::report as sample_report;

    fn two(first: f64, second: f64, ci: [f64; 2], p: f64) -> Report {
        let variant = |name: &str, win_rate| VariantResult {
            name: name.to_owned(),
            budget: 1000,
            win_rate,
            seeds: vec![0, 1, 2, 3, 4],
            ..VariantResult::default()
        };
        Report {
            confidence: 0.95,
            prompts: 500,
            variants: vec![variant("sequence", first), variant("token", second)],
            comparisons: vec![Comparison {
                a: "token".to_owned(),
                b: "sequence".to_owned(),
                budget: 1000,
                difference_points: 100.0 * (second - first),
                ci,
                p_value: p,
                ..Comparison::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn a_clear_difference_is_stated_with_its_evidence() {
        assert_eq!(
            verdict(&two(0.721, 0.812, [4.0, 14.1], 0.001)),
            ["`token` wins 81.2 % of comparisons with the SFT reference at 1000 annotations, 9.1 points more than \
              `sequence` (95 % interval 4.0 to 14.1, p = 0.001, 500 prompts x 5 seeds)."]
        );
    }

    #[test]
    fn an_interval_over_zero_is_no_difference() {
        let found = verdict(&two(0.80, 0.812, [-3.0, 5.4], 0.6)).remove(0);
        assert!(
            found.contains("; no detectable difference from `sequence`: 1.2 points (95 % interval -3.0"),
            "{found}"
        );
    }

    #[test]
    fn a_winning_baseline_is_named_with_the_gap_turned_round() {
        let found = verdict(&two(0.812, 0.721, [-14.1, -4.0], 0.001)).remove(0);
        assert!(found.starts_with("`sequence` wins 81.2 %"), "{found}");
        assert!(found.contains("the next, `token`, is 9.1 points behind (95 % interval 4.0 to 14.1"), "{found}");
    }

    #[test]
    fn a_difference_that_the_correction_takes_away_is_not_claimed() {
        let mut report = two(0.721, 0.812, [0.2, 14.1], 0.04);
        report.comparisons[0].p_holm = Some(0.12);
        assert!(verdict(&report)[0].contains("which the correction does not uphold"));
    }

    #[test]
    fn a_lead_over_the_next_best_is_not_claimed_by_beating_the_baseline() {
        let mut report = two(0.721, 0.812, [4.0, 14.1], 0.001);
        report.variants.push(VariantResult { name: "edits".to_owned(), win_rate: 0.79, ..report.variants[0].clone() });
        report.comparisons.push(Comparison {
            b: "edits".to_owned(),
            difference_points: 2.2,
            ci: [-1.0, 5.3],
            p_value: 0.2,
            ..report.comparisons[0].clone()
        });
        let found = verdict(&report).remove(0);
        assert!(found.contains("9.1 points more than `sequence`"), "{found}");
        assert!(
            found.ends_with(
                "Its lead over the next, `edits`, is no detectable difference: 2.2 points (95 % interval -1.0 to 5.3, \
                 p = 0.20, 500 prompts x 5 seeds)."
            ),
            "{found}"
        );
    }

    #[test]
    fn an_interval_over_one_half_is_no_win() {
        let mut report = two(0.49, 0.52, [-3.0, 5.4], 0.6);
        report.variants[1].ci = [0.47, 0.57];
        let found = verdict(&report).remove(0);
        assert!(
            found.ends_with(
                " Against the reference there is no detectable difference: the 95 % interval of the win rate, 47.0 to 57.0, \
                 covers 50 %."
            ),
            "{found}"
        );
    }

    #[test]
    fn a_run_that_could_not_see_its_difference_says_so() {
        let mut report = two(0.80, 0.812, [-3.0, 5.4], 0.6);
        (report.difference, report.power) = (2.5, 0.8);
        let power =
            Power { detectable_points: 6.04, prompts_needed: Some(2910), seeds_needed: Some(31), ..Power::default() };
        report.comparisons[0].power = Some(power.clone());
        let found = |report: &Report| verdict(report).remove(0);
        assert!(
            found(&report).ends_with(
                " The run was too small for its question: differences between `token` and `sequence` are seen 80 % of the \
                 time from 6.0 points on; 2.5 points would take 2910 prompts with 5 seeds, or 31 seeds with 500 prompts."
            ),
            "{}",
            found(&report)
        );
        report.comparisons[0].power = Some(Power { prompts_needed: None, seeds_needed: None, ..power });
        assert!(found(&report).ends_with("2.5 points would take more prompts and more seeds."), "{}", found(&report));
        report.difference = 7.0;
        assert!(!found(&report).contains("too small"));
        (report.difference, report.comparisons[0].ci) = (2.5, [0.3, 5.4]);
        assert!(!found(&report).contains("too small"), "what was found was not missed");
    }

    #[test]
    fn limits_of_the_evidence_are_said() {
        let mut report = two(0.721, 0.812, [4.0, 14.1], 0.001);
        report.variants.iter_mut().for_each(|v| v.seeds = vec![0]);
        report.warnings.push(crate::report::sample::warning());
        let found = verdict(&report);
        assert!(found[1].starts_with("There is one seed") && found[2].contains("1 warning"), "{found:?}");
        assert_eq!(verdict(&Report::default()), ["No variant was judged."]);
    }

    #[test]
    fn each_budget_gets_its_sentence() {
        let found = verdict(&sample_report());
        assert!(found[0].contains("at 300 annotations") && found[1].contains("at 1000 annotations"), "{found:?}");
    }
}
