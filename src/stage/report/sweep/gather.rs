//! What the store holds of a sweep: for each point its results, or what is in their way.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use serde_json::json;

use super::super::collect::{Chosen, Loaded, chosen, keep_common, warnings};
use super::super::{Cell, Config, mean};
use crate::data::Prompt;
use crate::eval::Panel;
use crate::recipe::{Experiment, Point};
use crate::report::sweep::{Measures, PointResult, PointSummary, SeedResult, Status};
use crate::stage::execute::Inputs;
use crate::stage::node::{Node, Plan, Stage};
use crate::stage::plan::plan_recipe;
use crate::stage::reason::recall;
use crate::stage::responses::Summary;
use crate::store::{Artefact, Key, Lookup, Store};

/// A point with its results, one for each variant and budget.
pub(super) struct Gathered {
    pub(super) summary: PointSummary,
    pub(super) results: Vec<Measured>,
}

/// One result, and the numbers behind it where it is there.
pub(super) struct Measured {
    /// Without interval and lead, which are estimated later.
    pub(super) result: PointResult,
    pub(super) outcomes: Option<Panel>,
    /// Its outcomes minus those of the first variant, added later; none for that variant itself.
    pub(super) lead: Option<Panel>,
}

/// Looks up all points of `experiment`.
pub(super) fn gather(experiment: &Experiment, store: &Store) -> Result<Vec<Gathered>> {
    // Runs beside each other failed under their own names.
    let names = std::iter::once(&experiment.name).chain(experiment.points.iter().map(|point| &point.name));
    let records = names.filter_map(|name| recall(store, name)).flat_map(|record| record.nodes.into_values());
    let failures = records.filter_map(|node| Some((node.key, node.error?))).collect();
    let mut prompts = Prompts::default();
    let mut gathered = Vec::with_capacity(experiment.points.len());
    for point in &experiment.points {
        let plan = plan_recipe(&point.recipe, &point.name)?;
        let found = Found::new(&plan, store, &failures)?;
        let (results, missing) = found.results(point, &mut prompts)?;
        let levels = (0..experiment.axes.len()).map(|axis| Some(experiment.level(point, axis)?.name.clone()));
        let label = |node: usize| plan.nodes[node].label.clone();
        let error = |&node: &usize| Some(format!("`{}`: {}", label(node), found.error(node)?));
        let summary = PointSummary {
            name: point.name.clone(),
            levels: levels.collect(),
            status: results.iter().map(|measured| measured.result.status).max().unwrap_or_default(),
            errors: missing.iter().filter_map(error).collect(),
            missing_stages: missing.iter().map(|&node| label(node)).collect(),
        };
        gathered.push(Gathered { summary, results });
    }
    Ok(gathered)
}

/// A point's plan beside the store.
struct Found<'a> {
    plan: &'a Plan,
    /// The nodes' results.
    artefacts: Vec<Option<Artefact>>,
    /// What failed in the sweep's last run.
    failures: &'a HashMap<Key, String>,
    config: Config,
    /// Which node plays each role in the point's report.
    roles: HashMap<&'a str, usize>,
}

impl<'a> Found<'a> {
    fn new(plan: &'a Plan, store: &'a Store, failures: &'a HashMap<Key, String>) -> Result<Self> {
        let report = plan.nodes.iter().rfind(|node| node.stage == Stage::Report).context("a plan without a report")?;
        let config = serde_json::from_value(report.config.clone()).context("config of a point's report")?;
        let roles = report.inputs.iter().map(|input| (input.role.as_str(), input.node)).collect();
        let artefact = |node: &Node| match store.find(node.stage.name(), &node.key) {
            Lookup::Found(artefact) => Some(artefact),
            Lookup::Missing | Lookup::Damaged(_) => None,
        };
        Ok(Self { plan, artefacts: plan.nodes.iter().map(artefact).collect(), failures, config, roles })
    }

    fn node(&self, cell: usize, role: &str) -> Option<usize> {
        self.roles.get(format!("{cell}.{role}").as_str()).copied()
    }

    /// What was measured of a cell; none where its judgements are missing or damaged.
    fn cell(&self, index: usize) -> Option<Loaded> {
        let input = |role: &&str| {
            let artefact = self.artefacts[self.node(index, role)?].clone()?;
            Some((format!("{index}.{role}"), artefact))
        };
        let load = |roles: &[&str]| {
            let inputs = Inputs::new(roles.iter().filter_map(input).collect());
            Loaded::new(index, &self.config.cells[index], &inputs).ok()
        };
        // What judgements were made from may be damaged as well as deleted.
        load(&["judgements", "responses", "reward", "policy"]).or_else(|| load(&["judgements"]))
    }

    /// All results of the point, and the nodes that are in the way of those that are not there.
    fn results(&self, point: &Point, prompts: &mut Prompts) -> Result<(Vec<Measured>, BTreeSet<usize>)> {
        let cells: Vec<Option<Loaded>> = (0..self.config.cells.len()).map(|index| self.cell(index)).collect();
        let lacking: Vec<bool> = cells.iter().map(Option::is_none).collect();
        let mut cells: Vec<Loaded> = cells.into_iter().flatten().collect();
        keep_common(&mut cells);
        let best = chosen(&point.recipe, &cells);
        let (mut results, mut all_missing) = (Vec::new(), BTreeSet::new());
        for budget in point.recipe.budgets.iter().map(|budget| budget.get()) {
            for variant in point.recipe.runs() {
                let seeds = point.recipe.seeds.iter().map(|&seed| SeedResult { seed, ..SeedResult::default() });
                let missing = self.missing(&variant.name, budget, &lacking);
                let result = PointResult {
                    point: point.name.clone(),
                    variant: variant.name.clone(),
                    budget,
                    status: self.status(&missing),
                    seeds: seeds.collect(),
                    ..PointResult::default()
                };
                let best = best.iter().find(|best| best.variant == variant.name && best.budget == budget);
                results.push(match best.filter(|_| missing.is_empty()) {
                    Some(best) => measured(result, best, &prompts.of(self, best))?,
                    None => Measured { result, outcomes: None, lead: None },
                });
                all_missing.extend(missing);
            }
        }
        Ok((results, all_missing))
    }

    /// Nodes without a result that judgements of this variant and budget need, in the plan's order; `lacking` says which
    /// cells have none.
    fn missing(&self, variant: &str, budget: usize, lacking: &[bool]) -> BTreeSet<usize> {
        let here = |at: &Cell| at.variant == variant && at.budget == budget;
        let cells = (0..lacking.len()).filter(|&index| lacking[index] && here(&self.config.cells[index]));
        let mut missing: BTreeSet<usize> = cells.filter_map(|index| self.node(index, "judgements")).collect();
        let mut found: Vec<usize> = missing.iter().copied().collect();
        while let Some(node) = found.pop() {
            for input in &self.plan.nodes[node].inputs {
                if self.artefacts[input.node].is_none() && missing.insert(input.node) {
                    found.push(input.node);
                }
            }
        }
        missing
    }

    fn status(&self, missing: &BTreeSet<usize>) -> Status {
        match missing {
            none if none.is_empty() => Status::Done,
            some if some.iter().any(|&node| self.error(node).is_some()) => Status::Failed,
            _ => Status::Missing,
        }
    }

    /// Why the node failed, in one line.
    fn error(&self, node: usize) -> Option<&str> {
        self.failures.get(&self.plan.nodes[node].key)?.lines().next()
    }
}

/// A result at the KL coefficient that was chosen for it; `columns` are the numbers of all test prompts.
fn measured(result: PointResult, best: &Chosen, columns: &[usize]) -> Result<Measured> {
    let rows: Vec<Vec<f64>> = best.cells.iter().map(|cell| cell.outcomes()).collect();
    let seeds: Vec<u64> = best.cells.iter().map(|cell| cell.at.seed).collect();
    let kept = best.cells.first().map_or(&[][..], |cell| &cell.kept);
    let columns: Vec<usize> = kept.iter().filter_map(|&prompt| columns.get(prompt).copied()).collect();
    let prompts = columns.len();
    let outcomes = Panel::new(seeds, columns, &rows)
        .with_context(|| format!("judgements of `{}` at point `{}`", result.variant, result.point))?;
    let seeds: Vec<SeedResult> =
        best.cells.iter().map(|cell| SeedResult { seed: cell.at.seed, measures: measures(cell) }).collect();
    let result = PointResult {
        kl_coef: best.coefficient(),
        measures: Measures::mean(&seeds.iter().map(|seed| seed.measures).collect::<Vec<_>>()),
        prompts,
        seeds,
        curve: curve(best),
        warnings: warnings(best),
        ..result
    };
    Ok(Measured { result, outcomes: Some(outcomes), lead: None })
}

/// Steps and mean win rates over seeds on the validation prompts, where all seeds were sampled.
fn curve(best: &Chosen) -> Vec<[f64; 2]> {
    let Some(first) = best.cells.first() else { return Vec::new() };
    let at = |step: usize| {
        let of = |cell: &&Loaded| cell.judgements.curve.iter().find(|point| point.step == step)?.win_rate;
        let rates: Option<Vec<f64>> = best.cells.iter().map(of).collect();
        Some([step as f64, mean(&rates?)?])
    };
    first.judgements.curve.iter().filter_map(|point| at(point.step)).collect()
}

fn measures(cell: &Loaded) -> Measures {
    let faults: Option<Vec<f64>> =
        cell.judgements.judged.test.iter().map(|verdict| Some(verdict.faults.as_ref()?.len() as f64)).collect();
    let summary = cell.summary.as_ref();
    // Of several models none stands for the variant.
    let evaluation = if let [(_, evaluation)] = cell.evaluations.as_slice() { Some(evaluation) } else { None };
    Measures {
        win_rate: mean(&cell.outcomes()),
        validation_win_rate: cell.validation(),
        kl_nats: summary.and_then(Summary::kl_nats),
        mean_reward: summary.and_then(|summary| summary.mean_reward),
        mean_length: summary.map(|summary| summary.habits.length),
        faults: faults.and_then(|faults| mean(&faults)),
        preference_accuracy: evaluation.and_then(|evaluation| evaluation.preference_accuracy),
        edit_accuracy: evaluation.and_then(|evaluation| evaluation.edit_accuracy),
        token_auc: evaluation.and_then(|evaluation| evaluation.token_auc),
    }
}

/// Numbers of test prompts: the same prompt has the same one at every point.
#[derive(Default)]
struct Prompts {
    /// By what is asked, and by how many times before in the same data.
    known: HashMap<(String, usize), usize>,
    by_data: HashMap<Key, Vec<usize>>,
}

impl Prompts {
    /// The numbers of the test prompts that `best` was judged on.
    fn of(&mut self, found: &Found, best: &Chosen) -> Vec<usize> {
        let count = best.cells.first().map_or(0, |cell| cell.judgements.judged.outcomes().len());
        let data = found.plan.nodes.iter().position(|node| node.stage == Stage::Data).unwrap_or_default();
        let key = &found.plan.nodes[data].key;
        if let Some(numbers) = self.by_data.get(key) {
            return numbers.clone();
        }
        let prompts = found.artefacts[data].as_ref().and_then(|data| data.read_jsonl("test.jsonl").ok());
        let asked = |prompt: &Prompt| json!([prompt.text, prompt.facts]).to_string();
        let prompts: Vec<String> = match prompts {
            Some(prompts) if prompts.len() == count => prompts.iter().map(asked).collect(),
            // Deleted: their data is all that is known of them.
            _ => vec![key.to_string(); count],
        };
        let mut times: HashMap<String, usize> = HashMap::new();
        let mut number = |prompt: String| {
            let time = times.entry(prompt.clone()).or_default();
            *time += 1;
            let next = self.known.len();
            *self.known.entry((prompt, *time)).or_insert(next)
        };
        let numbers: Vec<usize> = prompts.into_iter().map(&mut number).collect();
        self.by_data.insert(key.clone(), numbers.clone());
        numbers
    }
}
