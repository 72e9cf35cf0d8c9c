//! `runner diff` and `runner compare`: what tells runs from each other, and what came of it.
//!
//! Shows what differs and leaves out what does not.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::grid::{Cell, FormatArgs, Grid};
use super::output::{self, Failure, note, table};
use super::{StoreArgs, rooms, runs};
use crate::launch::{Difference, Frozen, Outcome, difference};
use crate::recipe::{Axis, Values};
use crate::store::Store;

/// Stages that are listed before they are only counted.
const LISTED: usize = 12;

#[derive(Args)]
pub(super) struct DiffArgs {
    /// A run (id, tag, or a recipe's name for its last run), or a recipe file
    a: String,
    /// What it is compared with, in the same way
    b: String,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args)]
pub(super) struct CompareArgs {
    /// Runs: ids, tags, or recipes' names for their last runs; of a sweep every point is compared
    #[arg(required = true, value_name = "RUN")]
    names: Vec<String>,
    /// Show every key, also those that are the same everywhere
    #[arg(long)]
    all: bool,
    /// Sort by a column: numbers from the largest, texts by letters
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Turn the order around
    #[arg(long, requires = "sort")]
    reverse: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let (a, b) = (run_or_recipe(&store, &args.a)?, run_or_recipe(&store, &args.b)?);
    let difference = difference(&a, &b);
    if args.json {
        let changes =
            difference.changes.iter().map(|change| json!({ "key": change.key, "a": change.a, "b": change.b }));
        let Difference { shared, only_a, only_b, .. } = &difference;
        return output::json(&json!({
            "a": a.id, "b": b.id, "changes": changes.collect::<Vec<_>>(),
            "shared": shared, "only_a": only_a, "only_b": only_b,
        }));
    }
    output::data(&described(&difference, &a.id, &b.id))
}

/// A file that is there is a recipe; what else is written names a run.
fn run_or_recipe(store: &Store, name: &str) -> Result<Frozen, Failure> {
    let path = Path::new(name);
    if path.is_file() { rooms::freeze(path) } else { runs::find(store, name) }
}

fn described(difference: &Difference, a: &str, b: &str) -> String {
    let rows: Vec<_> =
        difference.changes.iter().map(|change| [change.key.clone(), several(&change.a), several(&change.b)]).collect();
    let mut text = match rows.as_slice() {
        [] => format!("no key differs between {a} and {b}\n"),
        rows => table(&["key", a, b], rows) + "\n",
    };
    for (labels, whose) in [
        (&difference.shared, "in both".to_owned()),
        (&difference.only_a, format!("only in {a}")),
        (&difference.only_b, format!("only in {b}")),
    ] {
        let more = labels.len().saturating_sub(LISTED);
        let mut listed: Vec<&str> = labels.iter().take(LISTED).map(String::as_str).collect();
        let rest = format!("and {more} more");
        if more > 0 {
            listed.push(&rest);
        }
        let stages = if labels.len() == 1 { "stage" } else { "stages" };
        write!(text, "\n{} {stages} {whose}", labels.len()).expect("a string takes all that is written to it");
        for label in listed {
            write!(text, "\n  {label}").expect("a string takes all that is written to it");
        }
    }
    text
}

fn several(values: &[Value]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(|value| Cell::of(value.clone()).shown).collect::<Vec<_>>().join(", ")
}

/// A column's name, and how its cells are made.
type Column<'e> = (&'e str, Box<dyn Fn(&Entry) -> Cell + 'e>);

/// What one row of a comparison is about.
struct Entry {
    run: String,
    /// The point's name, in a sweep.
    point: Option<String>,
    values: Values,
    result: Option<Outcome>,
}

pub(super) fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let mut entries = Vec::new();
    for name in &args.names {
        let run = runs::find(&store, name)?;
        let outcomes = run.outcomes(&store)?;
        let by_axes = args.names.len() == 1 && run.experiment.is_sweep() && !args.all;
        let points = 0..run.experiment.points.len();
        let missing = points.clone().filter(|point| !outcomes.iter().any(|outcome| outcome.point == *point)).count();
        entries.extend(points.flat_map(|point| rows(&run, name, point, by_axes, &outcomes)));
        if missing > 0 {
            let points = if run.experiment.is_sweep() { format!("{missing} points of ") } else { String::new() };
            note(format!("{points}`{name}` without results yet\n\nhint: `runner show {name}` says what is missing"));
        }
    }
    let mut grid = grid(&entries, args.all);
    if let Some(column) = &args.sort {
        grid.sort(column, args.reverse)?;
    }
    grid.print(&args.format)
}

/// The rows of one point: one a variant and budget, or one without numbers. Among points of one sweep the axes say all that
/// differs.
fn rows(run: &Frozen, name: &str, index: usize, by_axes: bool, outcomes: &[Outcome]) -> Vec<Entry> {
    let (experiment, point) = (&run.experiment, &run.experiment.points[index]);
    let level = |(axis, named): (usize, &Axis)| {
        let level = experiment.level(point, axis)?;
        let value = if level.value.is_object() { json!(level.name) } else { level.value.clone() };
        Some((named.name.clone(), value))
    };
    let values =
        if by_axes { experiment.axes.iter().enumerate().filter_map(level).collect() } else { run.values(index) };
    let point = (experiment.is_sweep() && !by_axes).then(|| point.name.clone());
    let entry = |result| Entry { run: name.to_owned(), point: point.clone(), values: values.clone(), result };
    let results = outcomes.iter().filter(|outcome| outcome.point == index);
    let rows: Vec<_> = results.map(|outcome| entry(Some(outcome.clone()))).collect();
    if rows.is_empty() { vec![entry(None)] } else { rows }
}

fn grid(entries: &[Entry], all: bool) -> Grid {
    let keys: BTreeSet<&String> = entries.iter().flat_map(|entry| entry.values.keys()).collect();
    let differs = |key: &&String| {
        let mut values = entries.iter().map(|entry| entry.values.get(*key));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let keys: Vec<&String> = keys.into_iter().filter(|key| all || differs(key)).collect();
    let several = |of: &dyn Fn(&Entry) -> Option<String>| entries.iter().map(of).collect::<BTreeSet<_>>().len() > 1;
    let runs = several(&|entry| Some(entry.run.clone()));
    let points = several(&|entry| entry.point.clone());
    let budgets = several(&|entry| Some(entry.result.as_ref()?.budget.to_string()));
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let mut columns: Vec<Column> = Vec::new();
    if runs || !points && all {
        columns.push(("run", Box::new(|entry| Cell::of(json!(entry.run)))));
    }
    if points {
        columns.push(("point", Box::new(|entry| Cell::of(json!(entry.point)))));
    }
    for key in keys {
        columns.push((key, Box::new(move |entry| Cell::of(entry.values.get(key).cloned().unwrap_or_default()))));
    }
    columns.push(("variant", of_result(|result| Cell::of(json!(result.variant)))));
    if budgets || all {
        columns.push(("budget", of_result(|result| Cell::of(json!(result.budget)))));
    }
    columns.push(("win_rate", of_result(move |result| Cell::new(result.win_rate, percent(result.win_rate)))));
    let interval = move |ci: [f64; 2]| format!("{} to {}", percent(ci[0]), percent(ci[1]));
    columns.push(("interval", of_result(move |result| Cell::new(json!(result.ci), interval(result.ci)))));
    columns.push(("kl_nats", of_result(|result| Cell::number(result.kl_nats, 2))));
    columns.push(("length", of_result(|result| Cell::number(result.mean_length, 1))));
    let mut grid = Grid::new(&columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    grid.rows = entries.iter().map(|entry| columns.iter().map(|(_, cell)| cell(entry)).collect()).collect();
    grid
}

/// A cell made from an entry's result; nothing where it has none.
fn of_result(cell: impl Fn(&Outcome) -> Cell + 'static) -> Box<dyn Fn(&Entry) -> Cell> {
    Box::new(move |entry| entry.result.as_ref().map_or_else(|| Cell::of(Value::Null), &cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(run: &str, gae_lambda: f64, variant: &str, win_rate: f64) -> Entry {
        let values = [("ppo.gae_lambda", json!(gae_lambda)), ("ppo.steps", json!(60))];
        let result = Outcome {
            point: 0,
            variant: variant.to_owned(),
            budget: 8,
            win_rate,
            ci: [win_rate - 0.1, win_rate + 0.1],
            kl_nats: Some(2.0),
            mean_length: None,
        };
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Entry { run: run.to_owned(), point: None, values, result: Some(result) }
    }

    #[test]
    fn only_what_differs_has_a_column() {
        let entries = [entry("base", 0.95, "token", 0.75), entry("long", 1.0, "token", 0.8)];
        let table = |all| {
            let grid = grid(&entries, all);
            let shown: Vec<Vec<String>> =
                grid.rows.iter().map(|row| row.iter().map(|cell| cell.shown.clone()).collect()).collect();
            super::table(&grid.columns, &shown)
        };
        insta::assert_snapshot!(table(false), @r"
        run   ppo.gae_lambda  variant  win_rate  interval      kl_nats  length
        base  0.95            token    75.0      65.0 to 85.0  2.00     -
        long  1.0             token    80.0      70.0 to 90.0  2.00     -
        ");
        assert!(table(true).starts_with("run   ppo.gae_lambda  ppo.steps  variant  budget"));
    }

    #[test]
    fn a_difference_lists_keys_and_counts_stages() {
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let change = |key: &str, a: &[f64], b: &[f64]| crate::launch::Change {
            key: key.to_owned(),
            a: a.iter().map(|value| json!(value)).collect(),
            b: b.iter().map(|value| json!(value)).collect(),
        };
        let difference = Difference {
            changes: vec![change("ppo.gae_lambda", &[0.95], &[0.9, 1.0]), change("ppo.target", &[], &[0.5])],
            shared: labels(&["data", "tokenizer"]),
            only_a: labels(&["report"]),
            only_b: vec![],
        };
        insta::assert_snapshot!(described(&difference, "one-1", "two-2"), @r"
        key             one-1  two-2
        ppo.gae_lambda  0.95   0.9, 1.0
        ppo.target      -      0.5

        2 stages in both
          data
          tokenizer
        1 stage only in one-1
          report
        0 stages only in two-2
        ");
    }
}
