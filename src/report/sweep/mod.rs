//! Renders the report of a sweep: points, factors and what is missing, from one [`SweepReport`].
//!
//! Comparing stored results is left to `stage`. How charts and pages look is shared with the report of one recipe.

mod effects;
mod parquet;
#[cfg(test)]
mod sample;
mod scatter;
mod schema;
mod tables;
mod verdict;
mod view;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::render::render;

pub use schema::*;
pub use tables::terminal_table;
pub use verdict::verdict;

/// Writes all renderings of `report` into `dir`, which is made if need be.
///
/// The files are `report.json`, `report.md`, `index.html`, the charts as `.svg`, `points.parquet` and `factors.parquet`.
/// Equal reports give equal bytes.
///
/// # Errors
/// A number is infinite or not a number; a file cannot be written.
pub fn write(report: &SweepReport, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    // Renderings are made from what the JSON says: JSON knows no NaN, so one would show here as a missing number.
    let report: SweepReport =
        serde_json::from_str(&json).context("expected finite numbers in the report, found one that is not")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder `{}`", dir.display()))?;
    let view = view::view(&report);
    let save = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    };
    save("report.json", &format!("{json}\n"))?;
    save("report.md", &render("sweep.md", &view)?)?;
    save("index.html", &render("sweep.html", &view)?)?;
    for chart in view.charts() {
        save(&chart.file, &chart.standalone)?;
    }
    super::write_tables(view.tables(), dir)?;
    parquet::write(&report, dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use polars::prelude::{DataFrame, ParquetReader, SerReader};

    use super::sample::report;
    use super::*;

    fn written(report: &SweepReport) -> BTreeMap<String, Vec<u8>> {
        // Named by a variable, the folder stays, for a look at the sample report in a browser.
        let (kept, temporary) = (std::env::var_os("RUNNER_SAMPLE_SWEEP"), tempfile::tempdir().unwrap());
        let dir = kept.map_or_else(|| temporary.path().join("nested/report"), Into::into);
        write(report, &dir).unwrap();
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
        entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
    }

    fn text(files: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
        String::from_utf8(files[name].clone()).unwrap()
    }

    #[test]
    fn equal_reports_give_equal_bytes_and_the_json_reads_back() {
        let (first, second) = (written(&report()), written(&report()));
        assert!(first == second);
        assert_eq!(serde_json::from_slice::<SweepReport>(&first["report.json"]).unwrap(), report());
    }

    #[test]
    fn every_chart_that_the_markdown_shows_is_written() {
        let files = written(&report());
        let text = text(&files, "report.md");
        let links: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert_eq!(links.len(), 4, "two kinds of one factor and of one trend: {links:?}");
        assert!(links.iter().all(|link| files.contains_key(*link)), "{links:?}");
    }

    #[test]
    fn what_is_not_there_is_said_with_its_reason() {
        let files = written(&report());
        for name in ["index.html", "report.md"] {
            let text = text(&files, name);
            for shown in ["loss is NaN at step 7", "1 stage has not run, first ", "missing"] {
                assert!(text.contains(shown), "{name} lacks `{shown}`");
            }
        }
        assert!(text(&files, "report.md").contains("1 failed, 1 missing"));
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let mut report = report();
        report.points[2].name = "<script>alert(1)</script>".to_owned();
        report.points[2].errors = vec!["<img src=x>".to_owned()];
        report.axes[1].name = "<b>|`".to_owned();
        let files = written(&report);
        let page = text(&files, "index.html");
        assert_eq!(page.matches("<script").count(), 2, "the page's own data and script");
        assert!(!page.contains("<img") && !page.contains("<b>"));
    }

    #[test]
    fn a_sweep_without_any_result_still_renders() {
        written(&SweepReport::default());
        let mut report = report();
        report.results.iter_mut().for_each(|result| result.status = Status::Missing);
        (report.best, report.trends) = (None, Vec::new());
        assert!(text(&written(&report), "index.html").contains("No result is there yet."));
    }

    #[test]
    fn the_points_have_a_typed_column_for_each_axis_and_a_row_for_each_seed() {
        let (report, dir) = (report(), tempfile::tempdir().unwrap());
        write(&report, dir.path()).unwrap();
        let read = |name: &str| -> DataFrame {
            ParquetReader::new(fs::File::open(dir.path().join(name)).unwrap()).finish().unwrap()
        };
        let points = read("points.parquet");
        assert_eq!(points.height(), 6 * 2 * 2);
        let column = |name: &str| points.column(name).unwrap();
        assert_eq!(column("gae_lambda").f64().unwrap().get(8), Some(0.9));
        assert_eq!(column("size").str().unwrap().get(4), Some("large"));
        assert_eq!(column("seed").u64().unwrap().get(1), Some(1));
        assert_eq!(column("axis_seed").f64().unwrap().get(0), Some(1e-4), "an axis gives way to a column of that name");
        assert_eq!(column("status").str().unwrap().get(12), Some("failed"));
        assert_eq!(column("win_rate").f64().unwrap().get(12), None);
        assert_eq!(column("reason").str().unwrap().get(0), None);
        assert_eq!(read("factors.parquet").height(), report.factors.len());
    }

    #[test]
    fn the_terminal_has_a_row_for_each_result_and_the_reasons_below() {
        insta::assert_snapshot!(terminal_table(&report()));
    }

    #[test]
    fn the_verdict_hedges() {
        insta::assert_snapshot!(report().verdict.join("\n"));
    }

    #[test]
    fn the_documents_name_every_field() {
        let json = serde_json::to_value(report()).unwrap();
        let documented = include_str!("../../../docs/REPORT.md");
        let sweep = &documented[documented.find("## The report of a sweep").expect("a section")..];
        let mut missing = Vec::new();
        crate::report::tests::fields(&json, &mut |key| {
            if !sweep.contains(&format!("`{key}`")) && !missing.contains(&key.to_owned()) {
                missing.push(key.to_owned());
            }
        });
        missing.retain(|key| key != "model.hidden_size");
        assert!(missing.is_empty(), "docs/REPORT.md does not describe {missing:?}");
    }
}
