//! The sweep as tables for a notebook: `points` with one row a seed, `factors` with one row a level.
//!
//! An axis is a column: of integers or numbers where all its values are, else of level names. Columns are described in
//! `docs/REPORT.md`.

use std::path::Path;

use anyhow::Result;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use super::schema::{Effect, LevelSummary, Measures, PointResult, PointSummary, SeedResult, Status, SweepReport};
use super::tables::reason;
use crate::report::parquet::{counts, options, save, texts};

/// Writes `points.parquet` and `factors.parquet` into `dir`.
pub fn write(report: &SweepReport, dir: &Path) -> Result<()> {
    save(&mut points(report)?, &dir.join("points.parquet"))?;
    save(&mut factors(report)?, &dir.join("factors.parquet"))
}

type Row<'a> = (&'a PointSummary, &'a PointResult, &'a SeedResult);

fn points(report: &SweepReport) -> Result<DataFrame> {
    let mut rows: Vec<Row> = Vec::new();
    for result in &report.results {
        if let Some(point) = report.points.iter().find(|point| point.name == result.point) {
            rows.extend(result.seeds.iter().map(|seed| (point, result, seed)));
        }
    }
    let mut columns = vec![
        texts("variant", rows.iter().map(|(_, result, _)| result.variant.as_str())),
        counts("budget", rows.iter().map(|(_, result, _)| result.budget)),
        Series::new("seed".into(), rows.iter().map(|(.., seed)| seed.seed).collect::<Vec<_>>()).into(),
        texts("status", rows.iter().map(|(_, result, _)| result.status.name())),
        maybe_texts(
            "reason",
            rows.iter().map(|(point, result, _)| (result.status != Status::Done).then(|| reason(point))),
        ),
        options("kl_coef", rows.iter().map(|(_, result, _)| result.kl_coef)),
        counts("prompts", rows.iter().map(|(_, result, _)| result.prompts)),
    ];
    for (index, (name, _)) in Measures::default().named().into_iter().enumerate() {
        columns.push(options(name, rows.iter().map(|(.., seed)| seed.measures.named()[index].1)));
    }
    let mut all = vec![texts("point", rows.iter().map(|(point, ..)| point.name.as_str()))];
    for index in 0..report.axes.len() {
        let mut name = report.axes[index].name.clone();
        while columns.iter().chain(&all).any(|column| column.name().as_str() == name) {
            name = format!("axis_{name}");
        }
        all.push(axis(report, index, &name, &rows));
    }
    all.extend(columns);
    Ok(DataFrame::new_infer_height(all)?)
}

/// The level of the axis with that index in every row; null where the axis does not concern the point.
fn axis(report: &SweepReport, index: usize, name: &str, rows: &[Row]) -> Column {
    let levels = &report.axes[index].levels;
    let level = |point: &PointSummary| -> Option<&LevelSummary> {
        let name = point.levels.get(index)?.as_ref()?;
        levels.iter().find(|level| level.name == *name)
    };
    let at = || rows.iter().map(|(point, ..)| level(point));
    if levels.iter().all(|level| level.value.is_i64()) {
        return Series::new(name.into(), at().map(|level| level?.value.as_i64()).collect::<Vec<_>>()).into();
    }
    if levels.iter().all(|level| level.value.is_number()) {
        return options(name, at().map(|level| level?.value.as_f64()));
    }
    maybe_texts(name, at().map(|level| Some(level?.name.clone())))
}

fn maybe_texts(name: &str, values: impl Iterator<Item = Option<String>>) -> Column {
    Series::new(name.into(), values.collect::<Vec<_>>()).into()
}

fn factors(report: &SweepReport) -> Result<DataFrame> {
    let rows = || report.factors.iter();
    let budgets: Vec<Option<u64>> = rows().map(|level| level.quantity.budget.map(|budget| budget as u64)).collect();
    let effects = |of: fn(&Effect) -> Option<f64>| rows().map(move |level| of(level.effect.as_ref()?));
    let pairs = |of: fn(&Effect) -> usize| rows().map(move |level| level.effect.as_ref().map_or(0, of));
    Ok(DataFrame::new_infer_height(vec![
        texts("axis", rows().map(|level| level.axis.as_str())),
        texts("level", rows().map(|level| level.level.as_str())),
        texts("variant", rows().map(|level| level.quantity.variant.as_str())),
        maybe_texts("against", rows().map(|level| level.quantity.against.clone())),
        Series::new("budget".into(), budgets).into(),
        counts("points", rows().map(|level| level.points)),
        counts("missing", rows().map(|level| level.missing)),
        options("mean_points", rows().map(|level| level.mean_points)),
        options("difference_points", effects(|effect| Some(effect.difference_points))),
        options("ci_low", effects(|effect| Some(effect.ci[0]))),
        options("ci_high", effects(|effect| Some(effect.ci[1]))),
        options("p_value", effects(|effect| Some(effect.p_value))),
        options("p_holm", effects(|effect| effect.p_holm)),
        options("detectable_points", effects(|effect| Some(effect.power.as_ref()?.detectable_points))),
        counts("pairs", pairs(|effect| effect.pairs)),
        counts("partial", pairs(|effect| effect.partial)),
        counts("unpaired", pairs(|effect| effect.unpaired)),
    ])?)
}
