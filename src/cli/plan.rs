//! `runner plan`, `runner check`, `runner explain`: what a recipe says, before anything runs.
//!
//! None of them changes the store; only a manifest needs a run that is written down (`manifest`).

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::{self, Failure, note, table};
use super::rooms::Planned;
use super::{RecipeArgs, StoreArgs, estimate, manifest, rooms};
use crate::recipe::Point;
use crate::stage::node::{Node, Plan, Sharing, Stage};
use crate::stage::reason::{Status, statuses};

#[derive(Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// List every stage of a sweep, rather than one line for each kind
    #[arg(long)]
    stages: bool,
    /// Print what has the run carried out elsewhere
    #[arg(long, value_enum, value_name = "FOR", conflicts_with_all = ["stages", "json"])]
    manifest: Option<manifest::Format>,
    /// Say what each stage takes: tokens, operations, memory, and time on this machine, whose speed is tried for some seconds
    #[arg(long, conflicts_with = "manifest")]
    estimate: bool,
    /// For the estimate, so many TFLOP/s in training, reading and sampling, rather than this machine's
    #[arg(long, requires = "estimate", value_name = "TRAIN,READ,SAMPLE")]
    tflops: Option<estimate::Tflops>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// A key or a table, as in `ppo` or `ppo.clip_range`; without one, the recipe's tables are listed
    #[arg(default_value = "", hide_default_value = true)]
    key: String,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let planned = rooms::plan(&args.recipe.recipe, &args.recipe.overrides)?;
    planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
    let store = args.store.open()?;
    if let Some(format) = args.manifest {
        return manifest::print(format, planned, &args.recipe, &store);
    }
    let statuses = statuses(&planned.plan, &store);
    if args.estimate {
        return estimate::print(&planned, &statuses, &store, args.tflops, args.stages, args.json);
    }
    if args.json {
        return output::json(&as_json(&planned, &statuses));
    }
    let is_sweep = planned.experiment.is_sweep();
    if is_sweep && !args.stages {
        output::data(&by_kind(&planned.plan, &statuses))?;
        note(points(&planned));
    } else {
        output::data(&as_table(&planned.plan, &statuses))?;
    }
    let run = statuses.iter().filter(|status| matches!(status, Status::Run { .. })).count();
    note(format!("{} stages: {} cached, {run} to run", statuses.len(), statuses.len() - run));
    if is_sweep && !args.stages {
        note("hint: `--stages` lists them with their reasons");
    }
    Ok(())
}

/// How much of a sweep's work is shared, in a sentence.
fn points(planned: &Planned) -> String {
    let (points, plan) = (planned.experiment.points.len(), &planned.plan);
    let seeds = planned.experiment.points.first().map_or(0, |point| point.recipe.seeds.len());
    let Sharing { needed, different, shared } = plan.sharing();
    format!(
        "{points} points with {seeds} {}: {needed} stages one by one, {different} different ones, {shared} of them shared by \
         several points",
        if seeds == 1 { "seed" } else { "seeds each" }
    )
}

/// One row for each kind of stage.
fn by_kind(plan: &Plan, statuses: &[Status]) -> String {
    let mut kinds: BTreeMap<Stage, [usize; 4]> = BTreeMap::new();
    for (node, status) in plan.nodes.iter().zip(statuses) {
        let [different, needed, shared, run] = kinds.entry(node.stage).or_default();
        *different += 1;
        *needed += node.points.len();
        *shared += usize::from(node.points.len() > 1);
        *run += usize::from(matches!(status, Status::Run { .. }));
    }
    let rows: Vec<_> = kinds
        .into_iter()
        .map(|(stage, [different, needed, shared, run])| {
            let cached = different - run;
            [
                stage.to_string(),
                needed.to_string(),
                different.to_string(),
                shared.to_string(),
                cached.to_string(),
                run.to_string(),
            ]
        })
        .collect();
    table(&["stage", "one by one", "different", "shared", "cached", "to run"], &rows)
}

pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    match rooms::plan(&args.recipe.recipe, &args.recipe.overrides) {
        Ok(planned) if args.json => {
            let (recipe, stages) = (&planned.plan.recipe, planned.plan.nodes.len());
            output::json(&json!({ "ok": true, "recipe": recipe, "stages": stages, "warnings": planned.warnings }))
        }
        Ok(planned) => {
            planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
            let points = match planned.experiment.points.len() {
                _ if !planned.experiment.is_sweep() => String::new(),
                1 => "1 point, ".to_owned(),
                points => format!("{points} points, "),
            };
            note(format!("`{}` is fine: {points}{} stages", args.recipe.recipe.display(), planned.plan.nodes.len()));
            Ok(())
        }
        Err(Failure::Recipe(message) | Failure::Usage(message)) if args.json => {
            output::json(&json!({ "ok": false, "error": message }))?;
            Err(Failure::Recipe(message))
        }
        Err(failure) => Err(failure),
    }
}

pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    if args.json { output::json(&rooms::explain_json(&args.key)?) } else { output::data(&rooms::explain(&args.key)?) }
}

fn as_table(plan: &Plan, statuses: &[Status]) -> String {
    let rows: Vec<_> = plan
        .nodes
        .iter()
        .zip(statuses)
        .map(|(node, status)| {
            [node.label.clone(), node.stage.to_string(), node.key.short().to_owned(), status.to_string()]
        })
        .collect();
    table(&["label", "stage", "key", "status"], &rows)
}

fn as_json(planned: &Planned, statuses: &[Status]) -> Value {
    let (plan, experiment) = (&planned.plan, &planned.experiment);
    let point = |point: &Point| {
        let axes = experiment.axes.iter().enumerate();
        let levels: Map<_, _> =
            axes.filter_map(|(i, axis)| Some((axis.name.clone(), experiment.level(point, i)?.value.clone()))).collect();
        json!({ "name": point.name, "levels": levels })
    };
    let names: Vec<&str> = experiment.points.iter().map(|point| point.name.as_str()).collect();
    json!({
        "recipe": plan.recipe,
        "points": experiment.points.iter().map(point).collect::<Vec<_>>(),
        "sharing": plan.sharing(),
        "nodes": plan.nodes.iter().zip(statuses).map(|(node, status)| as_row(plan, node, status, &names)).collect::<Vec<_>>(),
    })
}

/// One node as JSON; `names` are those of the points.
fn as_row(plan: &Plan, node: &Node, status: &Status, names: &[&str]) -> Value {
    let inputs = node.inputs.iter().map(|input| json!({ "role": input.role, "label": plan.nodes[input.node].label }));
    let reason = if let Status::Run { reason } = status { Value::from(reason.as_str()) } else { Value::Null };
    json!({
        "label": node.label,
        "stage": node.stage,
        "key": node.key,
        "inputs": inputs.collect::<Vec<_>>(),
        "status": if reason.is_null() { "cached" } else { "run" },
        "reason": reason,
        "points": node.points.iter().filter_map(|&point| names.get(point)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Plan, Vec<Status>) {
        let mut plan = Plan::new("toy");
        let data = plan.push(Stage::Data, 1, "data", json!({}), &[]);
        let sft = plan.push(Stage::Sft, 1, "sft seed 0", json!({ "steps": 80 }), &[("data", data)]);
        plan.push(Stage::Report, 1, "report", json!({}), &[("policy", sft)]);
        let run = |reason: &str| Status::Run { reason: reason.to_owned() };
        (plan, vec![Status::Unwanted, run("`steps` changed: 60 -> 80"), run("input `policy` runs")])
    }

    #[test]
    fn the_table_says_what_would_run_and_why() {
        let (plan, statuses) = example();
        insta::assert_snapshot!(as_table(&plan, &statuses), @r"
        label       stage   key       status
        data        data    9691dc8b  cached (deleted, but all that is made from it is there)
        sft seed 0  sft     e58126e4  run: `steps` changed: 60 -> 80
        report      report  4a019edc  run: input `policy` runs
        ");
    }

    #[test]
    fn json_says_the_same() {
        let (plan, statuses) = example();
        let row = |i: usize| as_row(&plan, &plan.nodes[i], &statuses[i], &["toy"]);
        assert_eq!((&row(0)["status"], &row(0)["points"]), (&json!("cached"), &json!(["toy"])));
        assert_eq!(row(1)["reason"], "`steps` changed: 60 -> 80");
        assert_eq!(row(2)["inputs"], json!([{ "role": "policy", "label": "sft seed 0" }]));
    }
}
