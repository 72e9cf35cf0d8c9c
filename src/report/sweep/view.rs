//! The report arranged for the templates: tables and charts in groups. Wording and markup are left to the templates.

use serde::Serialize;

use super::schema::{FactorLevel, LevelPair, Quantity, Status, SweepReport, Trend};
use super::tables::{self, quantity, reason};
use super::{effects, scatter, verdict};
use crate::report::numbers::{fixed, percent, plural};
use crate::report::sentence::defined;
use crate::report::svg::Svg;
use crate::report::tables::Table;
use crate::report::view::Chart;

/// Distinct values of a key that are spelled out.
const SPELLED_OUT: usize = 8;

/// What the templates see.
#[derive(Serialize)]
pub struct View<'a> {
    pub report: &'a SweepReport,
    /// The verdict's sentences with their numbers' definitions.
    pub verdict: Vec<String>,
    pub confidence: String,
    /// How often a difference is to be seen, in percent.
    pub power: String,
    pub best: Option<BestView>,
    /// Points without all of their results.
    pub gaps: Vec<Gap<'a>>,
    pub factors: Vec<Section<'a>>,
    pub level_pairs: Vec<PairSection>,
    pub trends: Vec<Section<'a>>,
    pub points: Table,
    pub axes: Table,
    pub keys: Table,
    /// Warnings of runs, with where they were.
    pub warnings: Vec<String>,
}

/// The best result, as text.
#[derive(Serialize)]
pub struct BestView {
    pub validation: String,
    pub test: String,
    pub interval: String,
    /// What the same variant does at the baseline point.
    pub baseline: Option<String>,
}

/// Why a point is not done.
#[derive(Serialize)]
pub struct Gap<'a> {
    pub point: &'a str,
    pub status: &'static str,
    pub reason: String,
    pub errors: &'a [String],
    pub missing_stages: &'a [String],
}

/// What one axis does at one budget.
#[derive(Serialize)]
pub struct Section<'a> {
    pub axis: &'a str,
    /// In words; empty where there is nothing to tell apart.
    pub budget: String,
    pub table: Table,
    pub charts: Vec<Chart>,
}

/// Means of one quantity over two factors.
#[derive(Serialize)]
pub struct PairSection {
    pub title: String,
    /// Whether it is a lead, which is folded away in the page.
    pub lead: bool,
    pub table: Table,
}

impl View<'_> {
    /// Every chart that is a file of its own.
    pub fn charts(&self) -> impl Iterator<Item = &Chart> {
        self.factors.iter().chain(&self.trends).flat_map(|section| &section.charts)
    }

    /// Every table that is a file of its own.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        let sections = self.factors.iter().chain(&self.trends).map(|section| &section.table);
        let pairs = self.level_pairs.iter().map(|section| &section.table);
        sections.chain(pairs).chain([&self.points, &self.axes, &self.keys])
    }
}

/// Arranges `report`.
pub fn view(report: &SweepReport) -> View<'_> {
    let best = report.best.as_ref().map(|best| BestView {
        validation: percent(best.validation_win_rate),
        test: percent(best.win_rate),
        interval: format!("{} to {}", percent(best.ci[0]), percent(best.ci[1])),
        baseline: best.baseline.as_ref().map(|baseline| percent(baseline.win_rate)),
    });
    let gaps = report.points.iter().filter(|point| point.status != Status::Done).map(|point| Gap {
        point: &point.name,
        status: point.status.name(),
        reason: reason(point),
        errors: &point.errors,
        missing_stages: &point.missing_stages,
    });
    let warnings = report.results.iter().flat_map(|result| {
        let annotations = defined("annotations", plural(result.budget, "annotation"));
        let at = format!("{} at {}, {annotations}", result.variant, result.point);
        result.warnings.iter().map(move |warning| format!("{at}: {}", warning.suspicion()))
    });
    View {
        report,
        verdict: verdict::sentences(report),
        confidence: fixed(100.0 * report.confidence, 0),
        power: fixed(100.0 * report.power, 0),
        best,
        gaps: gaps.collect(),
        factors: factors(report),
        level_pairs: level_pairs(report),
        trends: trends(report),
        points: tables::points(report),
        axes: axes(report),
        keys: keys(report),
        warnings: warnings.collect(),
    }
}

fn factors<'a>(report: &'a SweepReport) -> Vec<Section<'a>> {
    let names = names(report.factors.iter().map(|level| &level.quantity));
    let section = |levels: Vec<&'a FactorLevel>| {
        let axis = &levels[0].axis;
        let kind = |lead: bool| {
            let levels: Vec<&FactorLevel> =
                levels.iter().copied().filter(|level| level.quantity.against.is_some() == lead).collect();
            Some(chart("effect", axis, &levels.first()?.quantity, &effects::chart(&levels, &names)?))
        };
        Section {
            axis,
            budget: budget(report, &levels[0].quantity),
            charts: [false, true].into_iter().filter_map(kind).collect(),
            table: tables::factor(&levels),
        }
    };
    grouped(&report.factors, |level| (&level.axis, level.quantity.budget)).into_iter().map(section).collect()
}

fn trends<'a>(report: &'a SweepReport) -> Vec<Section<'a>> {
    let names = names(report.trends.iter().map(|trend| &trend.quantity));
    let section = |trends: Vec<&'a Trend>| {
        let axis = &trends[0].axis;
        let kind = |lead: bool| {
            let trends: Vec<&Trend> =
                trends.iter().copied().filter(|trend| trend.quantity.against.is_some() == lead).collect();
            Some(chart("trend", axis, &trends.first()?.quantity, &scatter::chart(&trends, &names)?))
        };
        Section {
            axis,
            budget: budget(report, &trends[0].quantity),
            charts: [false, true].into_iter().filter_map(kind).collect(),
            table: tables::trends(&trends),
        }
    };
    grouped(&report.trends, |trend| (&trend.axis, trend.quantity.budget)).into_iter().map(section).collect()
}

/// Tables of one kind of quantity have one scale of colours.
fn level_pairs(report: &SweepReport) -> Vec<PairSection> {
    let limit = |lead: bool| {
        let cells = report.level_pairs.iter().filter(|cell| cell.quantity.against.is_some() == lead);
        cells.filter_map(tables::above).fold(0.0, |limit: f64, points| limit.max(points.abs()))
    };
    let section = |cells: Vec<&LevelPair>| {
        let LevelPair { axes: [a, b], quantity: of, .. } = cells[0];
        let at = budget(report, of);
        let at = if at.is_empty() { at } else { format!(", {at}") };
        PairSection {
            title: format!("{a} and {b}: {}{at}", quantity(of)),
            lead: of.against.is_some(),
            table: tables::level_pairs(&cells, limit(of.against.is_some())),
        }
    };
    grouped(&report.level_pairs, |pair| (&pair.axes, &pair.quantity)).into_iter().map(section).collect()
}

/// What stands together and has the same key, in order.
fn grouped<'a, T, K: PartialEq>(all: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<Vec<&'a T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    for item in all {
        match groups.last_mut() {
            Some(group) if key(group[0]) == key(item) => group.push(item),
            _ => groups.push(vec![item]),
        }
    }
    groups
}

/// Names of quantities in order of first appearance: each keeps its colour in all charts.
fn names<'a>(quantities: impl Iterator<Item = &'a Quantity>) -> Vec<String> {
    let mut names = Vec::new();
    for name in quantities.map(quantity) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The budget in words; empty where there is one only.
fn budget(report: &SweepReport, quantity: &Quantity) -> String {
    let several = report.results.iter().any(|result| Some(result.budget) != quantity.budget);
    quantity.budget.filter(|_| several).map_or_else(String::new, |budget| plural(budget, "annotation"))
}

fn chart(kind: &str, axis: &str, of: &Quantity, svg: &Svg) -> Chart {
    let plain = tables::plain(axis);
    let what = if of.against.is_some() { "lead" } else { "win_rate" };
    let at = of.budget.map_or_else(String::new, |budget| format!("-{budget}"));
    let alt = format!("{axis}: {}", what.replace('_', " "));
    let metrics = if kind == "trend" { ["win_rate", "spearman"] } else { ["win_rate", "effect"] };
    Chart::new(format!("{kind}-{plain}-{what}{at}.svg"), alt, &metrics, svg)
}

fn axes(report: &SweepReport) -> Table {
    let row = |axis: &super::AxisSummary| {
        let levels: Vec<&str> = axis.levels.iter().map(|level| level.name.as_str()).collect();
        let kind = if axis.sampled { "sampled" } else { "levels" };
        vec![axis.name.as_str().into(), kind.into(), axis.levels.len().to_string().into(), levels.join(", ").into()]
    };
    let head =
        [("axis", ""), ("kind", ""), ("number", "count"), ("levels, the first is what others are compared with", "")];
    Table::new("axes", "What varies between points", 4, &head).with(report.axes.iter().map(row))
}

fn keys(report: &SweepReport) -> Table {
    let row = |key: &super::KeySummary| {
        let more = key.values.len().saturating_sub(SPELLED_OUT);
        let mut values: Vec<String> = key.values.iter().take(SPELLED_OUT).map(ToString::to_string).collect();
        values.extend((more > 0).then(|| format!("{more} more")));
        vec![key.key.as_str().into(), values.join(", ").into()]
    };
    Table::new("keys", "Recipe keys in which points differ", 2, &[("recipe key", ""), ("values", "")])
        .with(report.keys.iter().map(row))
}
