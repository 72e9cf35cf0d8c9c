//! What was found, in sentences that claim no more than the numbers do.
//!
//! One sentence for each budget, then what limits it. Costs are left to the renderings: they differ from run to run.

use super::numbers::{fixed, p_relation, percent, plural};
use super::schema::{Comparison, Report, VariantResult};

/// A corrected p-value above this is no evidence.
const SIGNIFICANT: f64 = 0.05;

/// The sentences that a report opens with; `report.verdict` itself is not read.
///
/// At each budget the variant with the highest win rate is compared with the baseline, the first variant of the report.
#[must_use]
pub fn verdict(report: &Report) -> Vec<String> {
    let mut sentences: Vec<String> =
        report.budgets().into_iter().filter_map(|budget| at_budget(report, budget)).collect();
    if sentences.is_empty() {
        sentences.push("No variant was judged.".to_owned());
        return sentences;
    }
    if report.comparisons.iter().any(|c| c.p_holm.is_some()) && report.comparisons.len() > 1 {
        sentences.push(format!(
            "All p-values here are corrected by Holm's method over {} comparisons.",
            report.comparisons.len()
        ));
    }
    if report.variants.iter().all(|v| v.seeds.len() == 1) {
        sentences.push("There is one seed: the intervals do not cover the spread between runs.".to_owned());
    }
    let warned: usize = report.variants.iter().map(|v| v.warnings.len()).sum::<usize>() + report.warnings.len();
    if warned > 0 {
        sentences.push(format!("The runs raised {}; read them before trusting the ranking.", plural(warned, "warning")));
    }
    sentences
}

fn at_budget(report: &Report, budget: usize) -> Option<String> {
    let here: Vec<&VariantResult> = report.variants.iter().filter(|v| v.budget == budget).collect();
    let baseline = *here.iter().find(|v| v.name == report.variants[0].name).or_else(|| here.first())?;
    // The first of equals: a challenger must be better, not as good.
    let best = here.iter().copied().fold(baseline, |best, v| if v.win_rate > best.win_rate { v } else { best });
    let wins = format!(
        "`{}` wins {} % of comparisons with the SFT reference at {}",
        best.name,
        percent(best.win_rate),
        plural(budget, "annotation")
    );
    let rest = if best.name == baseline.name { runner_up(report, &here, best) } else { over(report, best, baseline) };
    Some(match rest {
        Some(rest) => format!("{wins}, {rest}."),
        None => format!("{wins} ({}).", sample(report, best)),
    })
}

/// How far `best` stands above `other`, and how sure that is.
fn over(report: &Report, best: &VariantResult, other: &VariantResult) -> Option<String> {
    let comparison = report.comparison(&best.name, &other.name, best.budget)?;
    let p = comparison.p_holm.unwrap_or(comparison.p_value);
    let points = fixed(comparison.difference_points, 1);
    let evidence = evidence(report, &comparison, p, best);
    let name = &other.name;
    Some(if covers_zero(&comparison) {
        format!("no detectable difference from `{name}`: {points} points ({evidence})")
    } else if p > SIGNIFICANT {
        format!("{points} points more than `{name}`, which does not stand up to the correction ({evidence})")
    } else {
        format!("{points} points more than `{name}` ({evidence})")
    })
}

/// How far the next variant stands below a baseline that is itself the best.
fn runner_up(report: &Report, here: &[&VariantResult], best: &VariantResult) -> Option<String> {
    let others = here.iter().copied().filter(|v| v.name != best.name);
    let next = others.reduce(|next, v| if v.win_rate > next.win_rate { v } else { next })?;
    Some(format!("no variant does better; the next is {}", over(report, best, next)?.replacen(" points more", " points behind", 1)))
        .map(|text| rephrase(&text, &next.name))
}

/// `over` speaks of the winner; here the loser is the subject.
fn rephrase(text: &str, name: &str) -> String {
    text.replacen(&format!("behind than `{name}`"), "behind", 1).replacen("the next is ", &format!("the next is `{name}`, "), 1)
}

fn evidence(report: &Report, comparison: &Comparison, p: f64, best: &VariantResult) -> String {
    let [low, high] = comparison.ci.map(|x| fixed(x, 1));
    format!(
        "{} % interval {low} to {high}, p {}, {}",
        fixed(100.0 * report.confidence, 0),
        p_relation(p),
        sample(report, best)
    )
}

fn sample(report: &Report, variant: &VariantResult) -> String {
    format!("{} x {}", plural(report.prompts, "prompt"), plural(variant.seeds.len(), "seed"))
}

fn covers_zero(comparison: &Comparison) -> bool {
    comparison.ci[0] <= 0.0 && comparison.ci[1] >= 0.0
}
