//! The report arranged for the templates: matrices, groups and charts, every number still a number of the report.
//!
//! Means over seeds and sums over stages are the only arithmetic. Wording and markup are left to the templates.

use std::collections::BTreeSet;

use serde::Serialize;

use super::curves::{self, Metric};
use super::dots;
use super::heat;
use super::numbers::{duration, fixed, p_relation, percent, signed};
use super::svg::Svg;
use super::{Report, RewardModelResult, TokenQuality};

/// What the templates see.
#[derive(Serialize)]
pub struct View<'a> {
    pub report: &'a Report,
    pub style: &'static str,
    pub cost: String,
    pub confidence: String,
    pub seeds: usize,
    pub fault_kinds: Vec<&'a str>,
    pub matrices: Vec<Matrix<'a>>,
    pub grids: Vec<Grid<'a>>,
    pub dots: Option<Chart>,
    pub curves: Vec<BudgetCharts>,
    pub rewards: Vec<Reward<'a>>,
    pub reward_kinds: Vec<&'a str>,
    pub detections: Vec<Detection<'a>>,
    pub best_of: Vec<BestOf<'a>>,
    pub heatmaps: Vec<heat::View<'a>>,
    pub scale: Option<HeatScale>,
    pub stages: Vec<StageGroup<'a>>,
}

/// A chart and the name of its file.
#[derive(Serialize)]
pub struct Chart {
    pub file: String,
    pub inline: String,
    #[serde(skip)]
    pub standalone: String,
    pub alt: String,
}

impl Chart {
    pub fn new(file: String, alt: String, svg: &Svg) -> Self {
        Self { file, alt, inline: svg.inline(), standalone: svg.standalone() }
    }
}

/// The learning curves at one budget.
#[derive(Serialize)]
pub struct BudgetCharts {
    pub budget: usize,
    pub charts: Vec<Chart>,
}

/// Differences of every variant (row) to every other (column) at one budget.
#[derive(Serialize)]
pub struct Matrix<'a> {
    pub budget: usize,
    pub names: Vec<&'a str>,
    pub rows: Vec<MatrixRow<'a>>,
}

/// One row of a matrix; a cell is empty where nothing was compared.
#[derive(Serialize)]
pub struct MatrixRow<'a> {
    pub name: &'a str,
    pub cells: Vec<Option<MatrixCell>>,
}

/// One difference, in points.
#[derive(Serialize)]
pub struct MatrixCell {
    pub points: String,
    pub interval: String,
    pub p: String,
    pub head_to_head: Option<String>,
    pub detectable: bool,
}

/// Validation win rates of one variant at one budget over the coefficients tried.
#[derive(Serialize)]
pub struct Grid<'a> {
    pub variant: &'a str,
    pub budget: usize,
    pub cells: Vec<&'a super::GridCell>,
}

/// Accuracies of one variant's reward models at one budget, means over seeds.
#[derive(Serialize)]
pub struct Reward<'a> {
    pub variant: &'a str,
    pub budget: usize,
    pub seeds: usize,
    pub preference_accuracy: Option<f64>,
    pub edit_accuracy: Option<f64>,
    pub token_auc: Option<f64>,
    pub single_fault: Vec<Option<f64>>,
}

/// How well one variant's token rewards find what is wrong, at one budget, means over seeds.
#[derive(Serialize)]
pub struct Detection<'a> {
    pub variant: &'a str,
    pub budget: usize,
    pub against: &'static str,
    pub wrong: Option<f64>,
    pub auc: Option<f64>,
    pub average_precision: Option<f64>,
    pub f1: Option<f64>,
    pub calibration_error: Option<f64>,
}

/// What the best of some samples by one variant's reward models is worth, at one budget, means over seeds.
#[derive(Serialize)]
pub struct BestOf<'a> {
    pub variant: &'a str,
    pub budget: usize,
    /// One for each of [`BEST_OF`].
    pub gold: Vec<Option<f64>>,
}

/// The points of a best-of-n curve that a table shows.
const BEST_OF: [usize; 4] = [1, 4, 16, 64];

/// The ends and the steps of the heat maps' colour scale.
#[derive(Serialize)]
pub struct HeatScale {
    pub limit: String,
    pub colours: Vec<String>,
}

/// Stages of one kind.
#[derive(Serialize)]
pub struct StageGroup<'a> {
    pub kind: &'a str,
    pub count: usize,
    pub cached: usize,
    pub wall_seconds: f64,
    /// The highest of its stages.
    pub peak_memory_bytes: Option<u64>,
}

/// Arranges `report`.
pub fn view(report: &Report) -> View<'_> {
    let fault_kinds: BTreeSet<&str> =
        report.variants.iter().flat_map(|v| v.faults_by_kind.keys()).map(String::as_str).collect();
    let reward_kinds: BTreeSet<&str> =
        report.reward_models.iter().flat_map(|m| m.single_fault_accuracy.keys()).map(String::as_str).collect();
    let reward_kinds: Vec<&str> = reward_kinds.into_iter().collect();
    let dots = dots::chart(report)
        .map(|svg| Chart::new("win_rate.svg".to_owned(), "Win rates with their intervals".to_owned(), &svg));
    View {
        report,
        style: super::svg::STYLE,
        cost: cost(report),
        confidence: fixed(100.0 * report.confidence, 0),
        seeds: report.variants.iter().map(|v| v.seeds.len()).max().unwrap_or(0),
        fault_kinds: fault_kinds.into_iter().collect(),
        matrices: report.budgets().into_iter().filter_map(|budget| matrix(report, budget)).collect(),
        grids: grids(report),
        dots,
        curves: report.budgets().into_iter().filter_map(|budget| charts(report, budget)).collect(),
        rewards: rewards(report, &reward_kinds),
        detections: detections(report),
        best_of: best_of(report),
        reward_kinds,
        heatmaps: heat::views(report),
        scale: (!report.heatmaps.is_empty()).then(|| heat_scale(report)),
        stages: stages(report),
    }
}

fn cost(report: &Report) -> String {
    let total: f64 = report.stages.iter().filter_map(|s| s.wall_seconds).sum();
    let cached = report.stages.iter().filter(|s| s.cached).count();
    let took = report.provenance.wall_seconds.map_or_else(String::new, |s| format!("This run took {}. ", duration(s)));
    format!(
        "{took}All {} stages together cost {} of wall time; {cached} of them were in the store already.",
        report.stages.len(),
        duration(total)
    )
}

fn matrix(report: &Report, budget: usize) -> Option<Matrix<'_>> {
    let names: Vec<&str> = report.at(budget).map(|v| v.name.as_str()).collect();
    let cell = |a: &str, b: &str| {
        let c = report.comparison(a, b, budget)?;
        let [low, high] = c.ci.map(|x| fixed(x, 1));
        Some(MatrixCell {
            points: signed(c.difference_points, 1),
            interval: format!("{low} to {high}"),
            p: p_relation(c.p_holm.unwrap_or(c.p_value)),
            head_to_head: c.head_to_head.map(percent),
            detectable: !c.covers_zero(),
        })
    };
    let row = |a: &&'_ str| -> Vec<Option<MatrixCell>> { names.iter().map(|b| cell(a, b)).collect() };
    let rows: Vec<Vec<Option<MatrixCell>>> = names.iter().map(row).collect();
    let compared = rows.iter().flatten().any(Option::is_some);
    let rows = names.iter().copied().zip(rows).map(|(name, cells)| MatrixRow { name, cells }).collect();
    compared.then_some(Matrix { budget, names, rows })
}

fn grids(report: &Report) -> Vec<Grid<'_>> {
    let mut grids: Vec<Grid<'_>> = Vec::new();
    for cell in &report.grid {
        match grids.iter_mut().find(|g| g.variant == cell.variant && g.budget == cell.budget) {
            Some(grid) => grid.cells.push(cell),
            None => grids.push(Grid { variant: &cell.variant, budget: cell.budget, cells: vec![cell] }),
        }
    }
    grids
}

fn charts(report: &Report, budget: usize) -> Option<BudgetCharts> {
    let chart = |metric: Metric| {
        let svg = curves::chart(report, budget, metric)?;
        let alt = format!("{} at {budget} annotations", metric.heading());
        Some(Chart::new(format!("curve-{}-{budget}.svg", metric.key()), alt, &svg))
    };
    let charts: Vec<Chart> = Metric::ALL.into_iter().filter_map(chart).collect();
    (!charts.is_empty()).then_some(BudgetCharts { budget, charts })
}

/// A variant, a budget and its reward models of all seeds.
type RewardGroup<'a> = (&'a str, usize, Vec<&'a RewardModelResult>);

fn reward_groups(report: &Report) -> Vec<RewardGroup<'_>> {
    let mut groups: Vec<RewardGroup> = Vec::new();
    for model in &report.reward_models {
        match groups.iter_mut().find(|(variant, budget, _)| *variant == model.variant && *budget == model.budget) {
            Some((.., models)) => models.push(model),
            None => groups.push((&model.variant, model.budget, vec![model])),
        }
    }
    groups
}

fn detections(report: &Report) -> Vec<Detection<'_>> {
    let mut rows = Vec::new();
    for (variant, budget, models) in reward_groups(report) {
        let edits: Vec<&TokenQuality> = models.iter().filter_map(|model| model.edited_tokens.as_ref()).collect();
        let spans: Vec<&TokenQuality> = models.iter().filter_map(|model| model.error_spans.as_ref()).collect();
        let annotated: Vec<&TokenQuality> = models.iter().filter_map(|model| model.annotated.as_ref()).collect();
        for (against, all) in [("edits", edits), ("error spans", spans), ("its own labels", annotated)] {
            let over = |of: fn(&TokenQuality) -> Option<f64>| mean(all.iter().filter_map(|quality| of(quality)));
            if all.is_empty() {
                continue;
            }
            rows.push(Detection {
                variant,
                budget,
                against,
                wrong: over(|quality| Some(quality.wrong)),
                auc: over(|quality| Some(quality.auc)),
                average_precision: over(|quality| Some(quality.average_precision)),
                f1: over(|quality| quality.f1),
                calibration_error: over(|quality| quality.calibration_error),
            });
        }
    }
    rows
}

fn best_of(report: &Report) -> Vec<BestOf<'_>> {
    let rows = reward_groups(report).into_iter().map(|(variant, budget, models)| {
        let at = |n: usize| mean(models.iter().filter_map(|model| Some(model.best_of_n.get(n - 1)?.gold)));
        BestOf { variant, budget, gold: BEST_OF.into_iter().map(at).collect() }
    });
    rows.filter(|row| row.gold.iter().any(Option::is_some)).collect()
}

fn rewards<'a>(report: &'a Report, kinds: &[&str]) -> Vec<Reward<'a>> {
    let groups = reward_groups(report);
    let summarised = groups.into_iter().map(|(variant, budget, models)| {
        let mean_of = |of: &dyn Fn(&RewardModelResult) -> Option<f64>| mean(models.iter().filter_map(|m| of(m)));
        Reward {
            variant,
            budget,
            seeds: models.len(),
            preference_accuracy: mean_of(&|m| m.preference_accuracy),
            edit_accuracy: mean_of(&|m| m.edit_accuracy),
            token_auc: mean_of(&|m| m.token_auc),
            single_fault: kinds.iter().map(|kind| mean_of(&|m| m.single_fault_accuracy.get(*kind).copied())).collect(),
        }
    });
    summarised.collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn heat_scale(report: &Report) -> HeatScale {
    let limit = heat::limit(report);
    let colours = (-5..=5).map(|i| heat::colour(f64::from(i) / 5.0, 1.0)).collect();
    HeatScale { limit: fixed(limit, 2), colours }
}

fn stages(report: &Report) -> Vec<StageGroup<'_>> {
    let mut groups: Vec<StageGroup<'_>> = Vec::new();
    for stage in &report.stages {
        let kind = stage.label.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        if !groups.iter().any(|g| g.kind == kind) {
            groups.push(StageGroup { kind, count: 0, cached: 0, wall_seconds: 0.0, peak_memory_bytes: None });
        }
        if let Some(group) = groups.iter_mut().find(|g| g.kind == kind) {
            group.count += 1;
            group.cached += usize::from(stage.cached);
            group.wall_seconds += stage.wall_seconds.unwrap_or(0.0);
            group.peak_memory_bytes = group.peak_memory_bytes.max(stage.peak_memory_bytes);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn reward_models_are_averaged_over_seeds() {
        let report = report();
        let rows = rewards(&report, &["rude"]);
        assert_eq!(rows.len(), 6);
        assert!((rows[0].preference_accuracy.unwrap() - 0.731).abs() < 1e-12);
        assert_eq!((rows[0].token_auc, rows[0].seeds), (None, 3));
    }

    #[test]
    fn only_token_models_find_tokens_and_every_model_chooses_among_samples() {
        let report = report();
        let (found, chosen) = (detections(&report), best_of(&report));
        assert_eq!(found.iter().map(|row| (row.variant, row.against)).collect::<Vec<_>>(), [("token", "edits"); 2]);
        assert!((found[0].average_precision.unwrap() - 0.47).abs() < 1e-12);
        assert_eq!(chosen.len(), 6);
        assert!((chosen[0].gold[1].unwrap() - (-2.8 + 0.2 * 4.0_f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn the_matrix_is_antisymmetric_with_an_empty_diagonal() {
        let report = report();
        let matrix = matrix(&report, 300).unwrap();
        assert!((0..3).all(|i| matrix.rows[i].cells[i].is_none()));
        let points = |i: usize, j: usize| matrix.rows[i].cells[j].as_ref().unwrap().points.clone();
        assert_eq!([points(2, 0), points(0, 2)], ["+12.0", "-12.0"]);
    }

    #[test]
    fn stages_are_summed_by_kind() {
        let report = report();
        let groups = stages(&report);
        assert_eq!(groups.iter().map(|g| g.kind).collect::<Vec<_>>(), ["data", "sft", "reward", "ppo", "report"]);
        assert_eq!((groups[1].count, groups[1].cached), (1, 1));
    }
}
