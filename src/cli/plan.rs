//! `runner plan`, `runner check`, `runner explain`: what a recipe says, before anything runs.
//!
//! None of them changes the store.

use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Failure, note, table};
use super::{RecipeArgs, StoreArgs, rooms};
use crate::stage::node::Plan;
use crate::stage::reason::{Status, statuses};

#[derive(Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    store: StoreArgs,
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
    let statuses = statuses(&planned.plan, &args.store.open()?);
    if args.json {
        return output::json(&as_json(&planned.plan, &statuses));
    }
    output::data(&as_table(&planned.plan, &statuses))?;
    let run = statuses.iter().filter(|status| matches!(status, Status::Run { .. })).count();
    note(format!("{} stages: {} cached, {run} to run", statuses.len(), statuses.len() - run));
    Ok(())
}

pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    match rooms::plan(&args.recipe.recipe, &args.recipe.overrides) {
        Ok(planned) if args.json => {
            let (recipe, stages) = (&planned.plan.recipe, planned.plan.nodes.len());
            output::json(&json!({ "ok": true, "recipe": recipe, "stages": stages, "warnings": planned.warnings }))
        }
        Ok(planned) => {
            planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
            note(format!("`{}` is fine: {} stages", args.recipe.recipe.display(), planned.plan.nodes.len()));
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

fn as_json(plan: &Plan, statuses: &[Status]) -> Value {
    let node = |(node, status): (&crate::stage::node::Node, &Status)| {
        let inputs =
            node.inputs.iter().map(|input| json!({ "role": input.role, "label": plan.nodes[input.node].label }));
        let reason = if let Status::Run { reason } = status { Value::from(reason.as_str()) } else { Value::Null };
        json!({
            "label": node.label,
            "stage": node.stage,
            "key": node.key,
            "inputs": inputs.collect::<Vec<_>>(),
            "status": if reason.is_null() { "cached" } else { "run" },
            "reason": reason,
        })
    };
    json!({ "recipe": plan.recipe, "nodes": plan.nodes.iter().zip(statuses).map(node).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::node::Stage;

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
        let value = as_json(&plan, &statuses);
        assert_eq!(value["nodes"][0]["status"], "cached");
        assert_eq!(value["nodes"][1]["reason"], "`steps` changed: 60 -> 80");
        assert_eq!(value["nodes"][2]["inputs"], json!([{ "role": "policy", "label": "sft seed 0" }]));
    }
}
