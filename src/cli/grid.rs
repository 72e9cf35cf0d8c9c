//! Tables that can be read by people, spreadsheets and programs: aligned text, Markdown, CSV, JSON.
//!
//! A cell is a value and how a person reads it. Which rows there are is the commands'.

use clap::Args;
use serde_json::{Map, Value};

use super::output::{self, Failure, table};

/// How a table is written.
#[derive(Args)]
pub(super) struct FormatArgs {
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Write a Markdown table
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    md: bool,
}

impl FormatArgs {
    /// Whether nobody reads along.
    pub(super) const fn is_for_programs(&self) -> bool {
        self.json || self.csv || self.md
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// For programs.
    pub(super) value: Value,
    /// For people.
    pub(super) shown: String,
}

/// Rows under named columns.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// What stands for nothing.
const NOTHING: &str = "-";

impl Cell {
    /// A value shown as `shown`.
    pub(super) fn new(value: impl Into<Value>, shown: impl Into<String>) -> Self {
        Self { value: value.into(), shown: shown.into() }
    }

    /// A value shown as it is.
    pub(super) fn of(value: Value) -> Self {
        let shown = match &value {
            Value::Null => NOTHING.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self { value, shown }
    }

    /// A number with `digits` decimals, or nothing.
    pub(super) fn number(value: Option<f64>, digits: usize) -> Self {
        let shown = value.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.digits$}"));
        Self { value: value.map_or(Value::Null, Value::from), shown }
    }
}

impl Grid {
    pub(super) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Sorts by a column: numbers from the largest, texts by letters, what is nothing last.
    pub(super) fn sort(&mut self, column: &str, reverse: bool) -> Result<(), Failure> {
        let Some(index) = self.columns.iter().position(|name| name == column) else {
            let known: Vec<_> = self.columns.iter().map(|name| format!("`{name}`")).collect();
            return Err(Failure::usage(format!("no column `{column}`; there are {}", known.join(", "))));
        };
        self.rows.sort_by(|a, b| {
            let (a, b) = (&a[index], &b[index]);
            let order = match (a.value.as_f64(), b.value.as_f64()) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                _ => a.shown.cmp(&b.shown),
            };
            let order = if reverse { order.reverse() } else { order };
            a.value.is_null().cmp(&b.value.is_null()).then(order)
        });
        Ok(())
    }

    pub(super) fn print(&self, format: &FormatArgs) -> Result<(), Failure> {
        match format {
            FormatArgs { json: true, .. } => output::json(&self.as_json()),
            FormatArgs { csv: true, .. } => output::data(&self.as_csv()),
            FormatArgs { md: true, .. } => output::data(&self.as_markdown()),
            FormatArgs { .. } => output::data(&table(&self.columns, &self.shown())),
        }
    }

    fn shown(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.iter().map(|cell| cell.shown.clone()).collect()).collect()
    }

    fn as_json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let pairs = self.columns.iter().cloned().zip(row.iter().map(|cell| cell.value.clone()));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }

    fn as_csv(&self) -> String {
        let quoted = |text: &str| {
            let plain = !text.contains([',', '"', '\n', '\r']);
            if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
        };
        let value = |cell: &Cell| match &cell.value {
            Value::Null => String::new(),
            Value::String(text) => quoted(text),
            other => quoted(&other.to_string()),
        };
        let head = self.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
        let rows = self.rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join(","));
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }

    fn as_markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let rule = format!("|{}", "---|".repeat(self.columns.len()));
        let rows = self.shown();
        [line(&self.columns), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["run", "win_rate"]);
        grid.rows = vec![
            vec![Cell::of(json!("a, \"b\"")), Cell::number(Some(0.25), 1)],
            vec![Cell::of(json!("c|d")), Cell::number(None, 1)],
            vec![Cell::of(json!("e")), Cell::number(Some(0.75), 1)],
        ];
        grid
    }

    #[test]
    fn the_same_cells_in_every_format() {
        assert_eq!(grid().as_csv(), "run,win_rate\n\"a, \"\"b\"\"\",0.25\nc|d,\ne,0.75");
        assert_eq!(grid().as_markdown().lines().nth(3), Some("| c\\|d | - |"));
        assert_eq!(grid().as_json()[2], json!({ "run": "e", "win_rate": 0.75 }));
    }

    #[test]
    fn the_largest_number_comes_first_and_nothing_last() {
        let mut grid = grid();
        let order = |grid: &Grid| grid.rows.iter().map(|row| row[0].shown.clone()).collect::<Vec<_>>();
        grid.sort("win_rate", false).unwrap();
        assert_eq!(order(&grid), ["e", "a, \"b\"", "c|d"]);
        grid.sort("win_rate", true).unwrap();
        assert_eq!(order(&grid), ["a, \"b\"", "e", "c|d"]);
        assert!(grid.sort("length", false).is_err());
    }
}
