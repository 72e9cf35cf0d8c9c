//! `runner power`: how many prompts and seeds it takes to see a difference, from the variance that a run measured.
//!
//! The report has the variance; what follows from it is `eval`'s.

use clap::Args;
use serde_json::{Value, json};

use super::grid::{Cell, FormatArgs, Grid};
use super::output::{Failure, note};
use super::{StoreArgs, runs};
use crate::eval::{Components, Requirement};
use crate::report::{Power, Report};

#[derive(Args)]
pub(super) struct PowerArgs {
    /// A run (id, tag, or a recipe's name for its last run) that has its report
    #[arg(value_name = "RUN")]
    name: String,
    /// The difference to see, in points [default: the recipe's `evaluation.difference`]
    #[arg(long, value_name = "POINTS", value_parser = points, allow_negative_numbers = true)]
    difference: Option<f64>,
    /// How often to see it [default: the recipe's `evaluation.power`]
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    power: Option<f64>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    store: StoreArgs,
}

fn points(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    found.ok_or_else(|| "expected a number of points above 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|x: &f64| 0.0 < *x && *x < 1.0);
    found.ok_or_else(|| "expected a number between 0 and 1".to_owned())
}

pub(super) fn power(args: &PowerArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let run = runs::find(&store, &args.name)?;
    if run.experiment.is_sweep() {
        return Err(Failure::usage(format!(
            "`{}` is a sweep; expected the run of one recipe, whose prompts and seeds are to be planned",
            args.name
        )));
    }
    let report = run.report(&store).ok_or_else(|| {
        Failure::usage(format!("`{0}` has no report yet\n\nhint: `runner show {0}` says what is missing", args.name))
    })?;
    let report: Report = report.read_json("report.json").map_err(anyhow::Error::from)?;
    let difference = args.difference.unwrap_or(report.difference);
    let requirement = Requirement { confidence: report.confidence, power: args.power.unwrap_or(report.power) };
    let grid = grid(&report, difference, requirement);
    if !args.format.is_for_programs() {
        note(format!(
            "to see {difference} points {} % of the time by a {} % interval; SD in points",
            100.0 * requirement.power,
            100.0 * requirement.confidence
        ));
    }
    grid.print(&args.format)
}

/// One row for each comparison, and for each variant against the reference.
fn grid(report: &Report, difference: f64, requirement: Requirement) -> Grid {
    let mut grid = Grid::new(&[
        "a",
        "b",
        "budget",
        "difference",
        "sd_seeds",
        "sd_prompts",
        "sd_responses",
        "seeds",
        "prompts",
        "detectable",
        "prompts_needed",
        "seeds_needed",
    ]);
    let comparisons = report.comparisons.iter().map(|c| (&c.a, c.b.as_str(), c.budget, c.difference_points, &c.power));
    let variants = report.variants.iter();
    let variants = variants.map(|v| (&v.name, "the reference", v.budget, 100.0 * (v.win_rate - 0.5), &v.power));
    for (a, b, budget, found, power) in comparisons.chain(variants) {
        let Some(power) = power else { continue };
        let seeds = report.at(budget).find(|v| v.name == *a).map_or(1, |v| v.seeds.len());
        let components = components(power);
        let sd = |variance: Option<f64>| Cell::number(variance.map(f64::sqrt), 1);
        let needed = |n: Option<usize>| Cell::of(n.map_or(Value::Null, |n| json!(n)));
        grid.rows.push(vec![
            Cell::of(json!(a)),
            Cell::of(json!(b)),
            Cell::of(json!(budget)),
            Cell::number(Some(found), 1),
            sd(power.seed_variance),
            sd(Some(power.prompt_variance)),
            // With one seed it is in the prompts'.
            sd(power.seed_variance.map(|_| power.residual_variance)),
            Cell::of(json!(seeds)),
            Cell::of(json!(report.prompts)),
            Cell::number(Some(components.detectable(seeds, report.prompts, requirement)), 1),
            needed(components.prompts_needed(difference, seeds, requirement)),
            needed(components.seeds_needed(difference, report.prompts, requirement)),
        ]);
    }
    grid
}

const fn components(power: &Power) -> Components {
    Components { seed: power.seed_variance, prompt: power.prompt_variance, residual: power.residual_variance }
}
