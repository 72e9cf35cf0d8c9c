//! Renders a finished experiment: terminal table, `report.md`, `index.html`, `report.json`, LaTeX tables, parquet.
//!
//! Everything is made from one [`Report`], so that all renderings say the same. Collecting a report from stored results is
//! left to `stage`, estimating its numbers to `eval`.

mod annotators;
mod browser;
mod costs;
mod curves;
mod distributions;
mod dots;
mod frame;
mod frontier;
mod heat;
mod judges;
mod learning;
mod lookup;
mod material;
mod numbers;
mod page;
mod parquet;
mod reliability;
mod render;
mod reward_models;
mod rounds;
#[cfg(test)]
mod sample;
mod samples;
mod schema;
mod sentence;
mod spark;
mod svg;
pub mod sweep;
mod tables;
mod terminal;
mod text;
mod timeline;
mod verdict;
mod view;
mod warnings;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub use annotators::{AnnotatorExample, AnnotatorResult};
pub use costs::*;
pub use judges::*;
pub use learning::*;
pub use material::*;
pub use render::render_own;
pub use reward_models::*;
pub use rounds::{Gain, RoundResult};
pub use samples::*;
pub use schema::*;
pub use terminal::terminal_table;
pub use verdict::verdict;
pub use warnings::Warning;

/// Writes all renderings of `report` into `dir`, which is made if need be.
///
/// The files are `report.json`, `report.md`, `index.html`, the charts as `.svg`, the tables as `tables/*.tex`, and
/// `variants.parquet`, `comparisons.parquet`, `curves.parquet`. Equal reports give equal bytes.
///
/// # Errors
/// A number is infinite or not a number; a file cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    // Renderings are made from what the JSON says: JSON knows no NaN, so one would show here as a missing number.
    let report: Report =
        serde_json::from_str(&json).context("expected finite numbers in the report, found one that is not")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder `{}`", dir.display()))?;
    let view = view::view(&report);
    let save = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    };
    save("report.json", &format!("{json}\n"))?;
    save("report.md", &render::render("report.md", &view)?)?;
    save("index.html", &render::render("report.html", &view)?)?;
    for chart in view.charts() {
        save(&chart.file, &chart.standalone)?;
    }
    write_tables(view.tables(), dir)?;
    parquet::write(&report, dir)
}

/// Writes every table as `tables/<id>.tex` below `dir`.
fn write_tables<'a>(all: impl Iterator<Item = &'a tables::Table>, dir: &Path) -> Result<()> {
    let folder = dir.join("tables");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    for table in all {
        let path = folder.join(format!("{}.tex", table.id));
        fs::write(&path, tables::tex(table)).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::sample::report;

    fn written(report: &Report) -> BTreeMap<String, Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        write(report, dir.path()).unwrap();
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        let entries = fs::read_dir(dir.path()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
        entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
    }

    #[test]
    fn a_folder_that_holds_an_older_report_is_overwritten() {
        // Named by a variable, the folder stays, for a look at the sample report in a browser.
        let (kept, temporary) = (std::env::var_os("RUNNER_SAMPLE_REPORT"), tempfile::tempdir().unwrap());
        let dir = kept.map_or_else(|| temporary.path().join("nested/report"), Into::into);
        write(&Report::default(), &dir).unwrap();
        write(&report(), &dir).unwrap();
        assert!(fs::read_to_string(dir.join("index.html")).unwrap().contains("sequence_edits"));
    }

    #[test]
    fn equal_reports_give_equal_bytes() {
        let (first, second) = (written(&report()), written(&report()));
        assert!(first == second);
        let names: Vec<&str> = first.keys().map(String::as_str).collect();
        for name in
            ["report.json", "report.md", "index.html", "win_rate.svg", "curve-kl_nats-1000.svg", "curves.parquet"]
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }

    #[test]
    fn every_chart_that_the_markdown_shows_is_written() {
        let files = written(&report());
        let text = String::from_utf8(files["report.md"].clone()).unwrap();
        let links: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() >= 9);
        assert!(links.iter().all(|link| files.contains_key(*link)), "{links:?}");
    }

    #[test]
    fn the_json_reads_back_as_the_report() {
        let files = written(&report());
        assert_eq!(serde_json::from_slice::<Report>(&files["report.json"]).unwrap(), report());
        let json: serde_json::Value = serde_json::from_slice(&files["report.json"]).unwrap();
        for key in ["name", "win_rate", "ci", "kl_nats", "mean_length", "seeds"] {
            assert!(!json["variants"][0][key].is_null(), "{key}");
        }
        for key in ["a", "b", "difference_points", "ci", "p_value"] {
            assert!(!json["comparisons"][0][key].is_null(), "{key}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        let (mut report, dir) = (report(), tempfile::tempdir().unwrap());
        report.variants[0].win_rate = f64::NAN;
        let error = write(&report, dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "expected finite numbers in the report, found one that is not");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing may be written");
    }

    #[test]
    fn the_documents_name_every_field() {
        let json = serde_json::to_value(report()).unwrap();
        let schema = include_str!("../../docs/REPORT.md");
        let mut missing = Vec::new();
        fields(&json, &mut |key| {
            if !schema.contains(&format!("`{key}`")) {
                missing.push(key.to_owned());
            }
        });
        let kinds = ["off_topic", "omitted", "repeated", "rude", "unsupported"];
        missing.retain(|key| !kinds.contains(&key.as_str()));
        assert!(missing.is_empty(), "docs/REPORT.md does not describe {missing:?}");
    }

    pub fn fields(value: &serde_json::Value, visit: &mut dyn FnMut(&str)) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| {
                visit(key);
                fields(value, visit);
            }),
            serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, visit)),
            _ => {}
        }
    }
}
