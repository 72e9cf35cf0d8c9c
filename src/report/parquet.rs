//! The report's tables as parquet: `variants`, `comparisons` and `curves`, in long form.
//!
//! Columns bear the names of `report.json`'s fields and are described in `docs/REPORT.md`. What does not fit a flat table
//! (texts, heat maps, provenance) is left to the JSON.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};

use super::schema::Report;

/// Writes `variants.parquet`, `comparisons.parquet` and `curves.parquet` into `dir`.
pub fn write(report: &Report, dir: &Path) -> Result<()> {
    save(&mut variants(report)?, &dir.join("variants.parquet"))?;
    save(&mut comparisons(report)?, &dir.join("comparisons.parquet"))?;
    save(&mut curves(report)?, &dir.join("curves.parquet"))
}

pub(super) fn save(table: &mut DataFrame, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    ParquetWriter::new(file).finish(table).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(())
}

pub(super) fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Column {
    Series::new(name.into(), values.collect::<Vec<_>>()).into()
}

pub(super) fn counts(name: &str, values: impl Iterator<Item = usize>) -> Column {
    Series::new(name.into(), values.map(|n| n as u64).collect::<Vec<_>>()).into()
}

pub(super) fn numbers(name: &str, values: impl Iterator<Item = f64>) -> Column {
    Series::new(name.into(), values.collect::<Vec<_>>()).into()
}

pub(super) fn options(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    Series::new(name.into(), values.collect::<Vec<_>>()).into()
}

fn variants(report: &Report) -> Result<DataFrame> {
    let rows = || report.variants.iter();
    Ok(DataFrame::new_infer_height(vec![
        texts("name", rows().map(|v| v.name.as_str())),
        counts("budget", rows().map(|v| v.budget)),
        numbers("win_rate", rows().map(|v| v.win_rate)),
        numbers("ci_low", rows().map(|v| v.ci[0])),
        numbers("ci_high", rows().map(|v| v.ci[1])),
        options("length_controlled_win_rate", rows().map(|v| v.length_controlled_win_rate)),
        options("iqm_win_rate", rows().map(|v| v.iqm_win_rate)),
        options("kl_coef", rows().map(|v| v.kl_coef)),
        options("kl_nats", rows().map(|v| v.kl_nats)),
        options("sequence_k3", rows().map(|v| Some(v.kl?.sequence_k3))),
        options("token_k1", rows().map(|v| Some(v.kl?.token_k1))),
        options("token_k3", rows().map(|v| Some(v.kl?.token_k3))),
        options("mean_reward", rows().map(|v| v.mean_reward)),
        options("mean_length", rows().map(|v| v.mean_length)),
        options("faults", rows().map(|v| v.faults)),
        counts("seeds", rows().map(|v| v.seeds.len())),
        options("validation_win_rate", rows().map(|v| v.validation_win_rate)),
    ])?)
}

fn comparisons(report: &Report) -> Result<DataFrame> {
    let rows = || report.comparisons.iter();
    Ok(DataFrame::new_infer_height(vec![
        texts("a", rows().map(|c| c.a.as_str())),
        texts("b", rows().map(|c| c.b.as_str())),
        counts("budget", rows().map(|c| c.budget)),
        numbers("difference_points", rows().map(|c| c.difference_points)),
        numbers("ci_low", rows().map(|c| c.ci[0])),
        numbers("ci_high", rows().map(|c| c.ci[1])),
        numbers("p_value", rows().map(|c| c.p_value)),
        options("p_holm", rows().map(|c| c.p_holm)),
        options("head_to_head", rows().map(|c| c.head_to_head)),
        counts("better_prompts", rows().map(|c| c.better_prompts)),
        counts("worse_prompts", rows().map(|c| c.worse_prompts)),
        options("sign_p", rows().map(|c| c.sign_p)),
        options("probability_of_improvement", rows().map(|c| c.probability_of_improvement)),
        options("detectable_points", rows().map(|c| Some(c.power.as_ref()?.detectable_points))),
    ])?)
}

fn curves(report: &Report) -> Result<DataFrame> {
    let rows = || {
        report.curves.iter().flat_map(|curve| {
            curve.seeds.iter().flat_map(move |seed| seed.points.iter().map(move |point| (curve, seed.seed, point)))
        })
    };
    let seeds: Vec<u64> = rows().map(|(_, seed, _)| seed).collect();
    Ok(DataFrame::new_infer_height(vec![
        texts("variant", rows().map(|(curve, ..)| curve.variant.as_str())),
        counts("budget", rows().map(|(curve, ..)| curve.budget)),
        Series::new("seed".into(), seeds).into(),
        counts("step", rows().map(|(.., point)| point.step)),
        options("win_rate", rows().map(|(.., point)| point.win_rate)),
        options("kl_nats", rows().map(|(.., point)| point.kl_nats)),
        options("mean_reward", rows().map(|(.., point)| point.mean_reward)),
        options("mean_length", rows().map(|(.., point)| point.mean_length)),
        options("mean_score", rows().map(|(.., point)| point.mean_score)),
    ])?)
}

#[cfg(test)]
mod tests {
    use polars::prelude::{ParquetReader, SerReader};

    use super::*;
    use crate::report::sample::report;

    fn read(path: &Path) -> DataFrame {
        ParquetReader::new(File::open(path).unwrap()).finish().unwrap()
    }

    #[test]
    fn tables_read_back_as_the_report_they_were_made_of() {
        let (mut report, dir) = (report(), tempfile::tempdir().unwrap());
        report.variants[1].mean_reward = None;
        write(&report, dir.path()).unwrap();
        let variants = read(&dir.path().join("variants.parquet"));
        assert_eq!(variants.height(), report.variants.len());
        for (row, variant) in report.variants.iter().enumerate() {
            assert_eq!(variants.column("name").unwrap().str().unwrap().get(row), Some(variant.name.as_str()));
            assert_eq!(variants.column("win_rate").unwrap().f64().unwrap().get(row), Some(variant.win_rate));
            assert_eq!(variants.column("mean_reward").unwrap().f64().unwrap().get(row), variant.mean_reward);
        }
        let curves = read(&dir.path().join("curves.parquet"));
        let points: usize = report.curves.iter().flat_map(|c| &c.seeds).map(|s| s.points.len()).sum();
        assert_eq!(curves.height(), points);
        let last = report.curves.last().unwrap().seeds.last().unwrap();
        assert_eq!(curves.column("seed").unwrap().u64().unwrap().get(points - 1), Some(last.seed));
        assert_eq!(
            curves.column("kl_nats").unwrap().f64().unwrap().get(points - 1),
            last.points.last().unwrap().kl_nats
        );
        let comparisons = read(&dir.path().join("comparisons.parquet"));
        let p_values = comparisons.column("p_holm").unwrap().f64().unwrap().get(0);
        assert_eq!(p_values, report.comparisons[0].p_holm);
    }

    #[test]
    fn a_report_without_results_makes_empty_tables() {
        let dir = tempfile::tempdir().unwrap();
        write(&Report::default(), dir.path()).unwrap();
        assert_eq!(read(&dir.path().join("comparisons.parquet")).height(), 0);
    }
}
