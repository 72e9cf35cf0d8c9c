//! From judged cells to the report's tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::super::execute::Inputs;
use super::super::judgements::Judgements;
use super::super::judging::best_coefficient;
use super::super::policy::seed;
use super::super::ppo::rewards;
use super::super::responses::Summary;
use super::super::reward::Evaluation;
use super::power::{against_reference, from_half, over_seeds, power};
use super::{Cell, mean};
use crate::eval::{self, Outcomes, wilson, win_rate};
use crate::ppo::train::Suspicion;
use crate::recipe::{Method, Recipe, Run};
use crate::report::{Divergence, GridCell, RewardModelResult, VariantResult, Warning};
use crate::store::Artefact;

/// A cell with what was measured of it.
///
/// Judgements are all that a plan wants in the end: what they were made from may have been deleted from the store, and a
/// sweep's report then does without.
pub(super) struct Loaded {
    pub(super) index: usize,
    pub(super) at: Cell,
    pub(super) judgements: Judgements,
    pub(super) summary: Option<Summary>,
    /// One for each reward model; of several, with their categories.
    pub(super) evaluations: Vec<(String, Evaluation)>,
    suspicions: Vec<Suspicion>,
    /// PPO's own metrics, by step.
    pub(super) metrics: BTreeMap<usize, BTreeMap<String, f64>>,
    /// Test prompts with an outcome in every cell that is reported.
    pub(super) kept: Vec<usize>,
}

#[derive(serde::Deserialize)]
struct Line {
    step: usize,
    values: BTreeMap<String, f64>,
}

impl Loaded {
    pub(super) fn new(index: usize, at: &Cell, inputs: &Inputs) -> Result<Self> {
        let of = |role: &str| inputs.artefact(&format!("{index}.{role}"));
        let (responses, policy) = (of("responses").ok(), of("policy").ok());
        let evaluation = |(category, model): (String, &Artefact)| Ok((category, model.read_json("evaluation.json")?));
        // What is not trained has no metrics, and only PPO is watched.
        let lines = |name: &str| policy.filter(|policy| policy.manifest.files.contains_key(name));
        let metrics: Option<Vec<Line>> =
            lines("metrics.jsonl").map(|policy| policy.read_jsonl("metrics.jsonl")).transpose()?;
        let suspicions = lines("suspicions.jsonl").map(|policy| policy.read_jsonl("suspicions.jsonl")).transpose()?;
        let judgements: Judgements = of("judgements")?.read_json("judgements.json")?;
        let outcomes = judgements.judged.outcomes();
        Ok(Self {
            index,
            at: at.clone(),
            kept: (0..outcomes.len()).filter(|&prompt| outcomes[prompt].is_some()).collect(),
            judgements,
            summary: responses.map(|responses| responses.read_json("summary.json")).transpose()?,
            evaluations: rewards(inputs, &format!("{index}.")).into_iter().map(evaluation).collect::<Result<_>>()?,
            suspicions: suspicions.unwrap_or_default(),
            metrics: metrics.into_iter().flatten().map(|line| (line.step, line.values)).collect(),
        })
    }

    /// The result that plays `role` for this cell.
    pub(super) fn artefact<'a>(&self, inputs: &'a Inputs, role: &str) -> Result<&'a Artefact> {
        inputs.artefact(&format!("{}.{role}", self.index))
    }

    /// Suspicions of reward hacking.
    fn warnings(&self, chosen: bool) -> impl Iterator<Item = Warning> {
        let Cell { variant, budget, kl_coef, seed, round, .. } = &self.at;
        self.suspicions.iter().map(move |suspicion| Warning {
            variant: variant.clone(),
            budget: *budget,
            kl_coef: *kl_coef,
            round: *round,
            chosen,
            seed: *seed,
            iteration: suspicion.step,
            metric: if suspicion.kind == "kl" { "kl_nats".to_owned() } else { suspicion.kind.clone() },
            message: suspicion.message.clone(),
        })
    }

    /// Win rate on the validation prompts after the last iteration.
    pub(super) fn validation(&self) -> Option<f64> {
        self.judgements.curve.last().and_then(|point| point.win_rate)
    }

    /// Mean score by the judge on the test prompts.
    pub(super) fn score(&self) -> Option<f64> {
        mean(&self.judgements.judged.test.iter().map(|verdict| verdict.score).collect::<Vec<_>>())
    }

    /// Outcome of every kept test prompt against the reference.
    pub(super) fn outcomes(&self) -> Vec<f64> {
        let all = self.judgements.judged.outcomes();
        self.kept.iter().filter_map(|&prompt| all[prompt]).collect()
    }
}

/// Keeps the test prompts on which every one of `cells` has an outcome: comparisons are of the same prompts.
pub(super) fn keep_common(cells: &mut [Loaded]) {
    let Some(first) = cells.first() else { return };
    let common: Vec<usize> =
        first.kept.iter().copied().filter(|prompt| cells.iter().all(|cell| cell.kept.contains(prompt))).collect();
    for cell in cells {
        cell.kept.clone_from(&common);
    }
}

/// A variant at a budget, at the KL coefficient chosen for it, over all seeds.
#[derive(Clone)]
pub(super) struct Chosen<'a> {
    pub(super) variant: String,
    pub(super) budget: usize,
    /// 0 where nothing was trained.
    pub(super) kl_coef: f64,
    pub(super) is_trained: bool,
    pub(super) validation: Option<f64>,
    /// One cell a seed, in the recipe's order.
    pub(super) cells: Vec<&'a Loaded>,
}

/// Chooses each variant's KL coefficient by its mean win rate on the validation prompts; the larger one on a tie.
pub(super) fn chosen<'a>(recipe: &Recipe, cells: &'a [Loaded]) -> Vec<Chosen<'a>> {
    let mut all = Vec::new();
    for budget in recipe.budgets.iter().map(|budget| budget.get()) {
        for run in recipe.runs() {
            let candidates = candidates(recipe, cells, &run, budget);
            let rates: Vec<(f64, Option<f64>)> = candidates.iter().map(|c| (c.kl_coef, c.validation)).collect();
            let best = best_coefficient(&rates);
            let best = candidates.into_iter().find(|c| best.is_some_and(|best| best.to_bits() == c.kl_coef.to_bits()));
            all.extend(best);
        }
    }
    all
}

fn candidates<'a>(recipe: &Recipe, cells: &'a [Loaded], run: &Run, budget: usize) -> Vec<Chosen<'a>> {
    let grid = run.variant.coefficients(&recipe.ppo).into_iter();
    let variant = run.name.as_str();
    let is_trained = !matches!(run.variant.method(), Some(Method::BestOfN(..)));
    let candidate = |kl_coef: f64| {
        let here = |cell: &&Loaded| {
            let Cell { variant: name, budget: at, kl_coef: beta, round, .. } = &cell.at;
            name == variant && *at == budget && beta.to_bits() == kl_coef.to_bits() && round.is_none()
        };
        let cells: Vec<&Loaded> = cells.iter().filter(here).collect();
        let validation = mean(&cells.iter().filter_map(|cell| cell.validation()).collect::<Vec<_>>());
        Chosen { variant: variant.to_owned(), budget, kl_coef, is_trained, validation, cells }
    };
    grid.map(candidate).filter(|candidate| !candidate.cells.is_empty()).collect()
}

pub(super) fn grid(recipe: &Recipe, cells: &[Loaded], chosen: &[Chosen]) -> Vec<GridCell> {
    let row = |best: &Chosen| {
        let runs = recipe.runs();
        let run = runs.iter().find(|run| run.name == best.variant);
        let tried = run.map(|run| candidates(recipe, cells, run, best.budget)).unwrap_or_default();
        tried
            .into_iter()
            .filter(|candidate| candidate.is_trained)
            .map(|candidate| GridCell {
                kl_nats: candidate.over(|cell| cell.summary.as_ref()?.kl_nats()),
                mean_reward: candidate.over(|cell| cell.summary.as_ref()?.mean_reward),
                mean_score: candidate.over(Loaded::score),
                variant: candidate.variant,
                budget: candidate.budget,
                kl_coef: candidate.kl_coef,
                validation_win_rate: candidate.validation,
                chosen: candidate.kl_coef.to_bits() == best.kl_coef.to_bits(),
            })
            .collect::<Vec<_>>()
    };
    chosen.iter().flat_map(row).collect()
}

impl Chosen<'_> {
    /// The KL coefficient, where there is one.
    pub(super) fn coefficient(&self) -> Option<f64> {
        self.is_trained.then_some(self.kl_coef)
    }

    /// The mean of `of` over the seeds where it is known.
    pub(super) fn over(&self, of: impl Fn(&Loaded) -> Option<f64>) -> Option<f64> {
        mean(&self.cells.iter().filter_map(|cell| of(cell)).collect::<Vec<_>>())
    }
}

pub(super) fn outcomes(chosen: &Chosen) -> Result<Outcomes> {
    let rows: Vec<Vec<f64>> = chosen.cells.iter().map(|cell| cell.outcomes()).collect();
    Outcomes::new(&rows).with_context(|| format!("judgements of `{}`", chosen.variant))
}

pub(super) fn variants(recipe: &Recipe, inputs: &Inputs, chosen: &[Chosen]) -> Result<Vec<VariantResult>> {
    let eval::Config { bootstrap_samples, confidence, .. } = recipe.evaluation;
    chosen
        .iter()
        .map(|chosen| {
            let outcomes = outcomes(chosen)?;
            let estimate = win_rate(&outcomes, bootstrap_samples.get(), confidence.get(), seed(0, "bootstrap"));
            let (wins, ties, losses) = outcomes.counts();
            let iqm = over_seeds(&recipe.evaluation, &outcomes);
            let kl = divergence(chosen);
            let faults: Vec<&Vec<String>> = chosen
                .cells
                .iter()
                .flat_map(|cell| &cell.judgements.judged.test)
                .filter_map(|verdict| verdict.faults.as_ref())
                .collect();
            let mut by_kind: BTreeMap<String, f64> = BTreeMap::new();
            for kind in faults.iter().copied().flatten() {
                *by_kind.entry(kind.clone()).or_default() += 1.0 / faults.len() as f64;
            }
            Ok(VariantResult {
                name: chosen.variant.clone(),
                budget: chosen.budget,
                win_rate: estimate.value,
                ci: [estimate.low, estimate.high],
                wins,
                ties,
                losses,
                letters: String::new(),
                length_controlled_win_rate: against_reference(inputs, chosen)?,
                iqm_win_rate: iqm.map(|iqm| iqm.value),
                iqm_ci: iqm.map(|iqm| [iqm.low, iqm.high]),
                power: power(&recipe.evaluation, &from_half(&outcomes)),
                kl_coef: chosen.coefficient(),
                kl_nats: chosen.over(|cell| cell.summary.as_ref()?.kl_nats()),
                kl,
                mean_reward: chosen.over(|cell| cell.summary.as_ref()?.mean_reward),
                mean_length: chosen.over(|cell| Some(cell.summary.as_ref()?.habits.length)),
                faults: mean(&faults.iter().map(|kinds| kinds.len() as f64).collect::<Vec<_>>()),
                faults_by_kind: by_kind,
                seeds: chosen.cells.iter().map(|cell| cell.at.seed).collect(),
                win_rate_per_seed: outcomes.mean_per_seed(),
                validation_win_rate: chosen.validation,
                warnings: warnings(chosen),
            })
        })
        .collect()
}

/// Means over seeds of the KL to the reference.
fn divergence(chosen: &Chosen) -> Option<Divergence> {
    let all: Vec<Divergence> = chosen.cells.iter().filter_map(|cell| cell.summary.as_ref()?.kl).collect();
    let over = |f: fn(&Divergence) -> f64| mean(&all.iter().map(f).collect::<Vec<_>>());
    Some(Divergence {
        sequence_k1: over(|kl| kl.sequence_k1)?,
        sequence_k3: over(|kl| kl.sequence_k3)?,
        token_k1: over(|kl| kl.token_k1)?,
        token_k3: over(|kl| kl.token_k3)?,
    })
}

/// The warnings of the runs at the coefficient that was chosen.
pub(super) fn warnings(chosen: &Chosen) -> Vec<Warning> {
    chosen.cells.iter().flat_map(|cell| cell.warnings(true)).collect()
}

/// The warnings of every run, those of KL coefficients that were not chosen included: what a grid cell's low win rate
/// comes from.
pub(super) fn all_warnings(cells: &[Loaded], chosen: &[Chosen]) -> Vec<Warning> {
    let is_chosen =
        |cell: &Loaded| chosen.iter().flat_map(|chosen| &chosen.cells).any(|other| other.index == cell.index);
    cells.iter().flat_map(|cell| cell.warnings(is_chosen(cell))).collect()
}

/// One row for each reward model of the chosen cells.
pub(super) fn reward_models(recipe: &Recipe, cells: &[Loaded], chosen: &[Chosen]) -> Vec<RewardModelResult> {
    let is_chosen = |index: usize| chosen.iter().flat_map(|chosen| &chosen.cells).any(|cell| cell.index == index);
    let mine = cells.iter().filter(|cell| is_chosen(cell.index));
    let row = |cell: &Loaded, category: &str, evaluation: Evaluation| {
        let name = &cell.at.variant;
        let [pairs, edits] = evaluation.held_out;
        let interval = |share: f64, n: usize| wilson(share * n as f64, n, recipe.evaluation.confidence.get());
        RewardModelResult {
            variant: if category.is_empty() { name.clone() } else { format!("{name}/{category}") },
            budget: cell.at.budget,
            seed: cell.at.seed,
            preference_accuracy: evaluation.preference_accuracy,
            preference_ci: evaluation.preference_accuracy.map(|share| interval(share, pairs)),
            edit_accuracy: evaluation.edit_accuracy,
            edit_ci: evaluation.edit_accuracy.map(|share| interval(share, edits)),
            single_fault_accuracy: evaluation.single_fault_accuracy,
            token_auc: evaluation.token_auc,
            edited_tokens: evaluation.edited_tokens,
            error_spans: evaluation.error_spans,
            preference_reliability: evaluation.preference_reliability,
            preference_calibration_error: evaluation.preference_calibration_error,
            distributions: evaluation.distributions,
            annotated: evaluation.annotated,
            best_of_n: evaluation.best_of_n,
        }
    };
    let rows = |cell: &Loaded| {
        let models = cell.evaluations.iter().map(|(category, evaluation)| row(cell, category, evaluation.clone()));
        models.collect::<Vec<_>>()
    };
    mine.flat_map(rows).collect()
}
