//! The report's tables, made once for page, Markdown and LaTeX.
//!
//! How a cell is marked up is left to the templates. A column knows the number's definition in `docs/METRICS.md`.

mod annotators;
mod material;
mod models;
mod results;
mod tex;
mod training;

use serde::Serialize;

pub use annotators::{annotators, answers, rejections};
pub use material::{cost, data, edits, facts, kind, lengths, missing, skipped, stages};
pub use models::{best_of, detections, groups, kinds, mean, rewards};
pub use results::{direct, faults, headline, judges, matrices, pairs, reference, views, win_rates};
pub use tex::tex;
pub use training::{differences, grid, rounds, variants};

use super::numbers::UNKNOWN;
use super::spark::spark;

/// A table, ready for every rendering.
#[derive(Clone, Default, Serialize)]
pub struct Table {
    /// Its name in anchors and files.
    pub id: String,
    /// What it shows; for screen readers and LaTeX.
    pub caption: String,
    pub head: Vec<Head>,
    /// How many columns are names; the others are numbers.
    pub names: usize,
    pub rows: Vec<Vec<Cell>>,
    /// Rows that have a rule above them.
    pub ruled: Vec<usize>,
}

/// The head of a column.
#[derive(Clone, Default, Serialize)]
pub struct Head {
    pub title: String,
    /// The name of its numbers in `docs/METRICS.md`; empty where they need no definition.
    pub metric: &'static str,
}

/// One cell.
#[derive(Clone, Default, Serialize)]
pub struct Cell {
    pub text: String,
    /// What stands below it, smaller.
    pub note: String,
    pub strong: bool,
    /// Its background in the page, where it has one.
    pub shade: Option<String>,
    /// The definition of its number, where its column has several.
    pub metric: &'static str,
    /// A small curve in its place, in the page.
    pub spark: Option<String>,
}

impl Cell {
    /// A small curve; in text, bars.
    pub fn spark(values: &[f64], low: f64, high: f64) -> Self {
        let (text, svg) = spark(values, low, high);
        Self { text, spark: svg, ..Self::default() }
    }

    pub fn strong(self, strong: bool) -> Self {
        Self { strong, ..self }
    }

    pub fn note(self, note: String) -> Self {
        Self { note, ..self }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Table {
    /// A table without rows; the first `names` of the (title, metric) columns are names.
    pub fn new(id: impl Into<String>, caption: impl Into<String>, names: usize, head: &[(&str, &'static str)]) -> Self {
        let head = head.iter().map(|&(title, metric)| Head { title: title.to_owned(), metric });
        Self { id: id.into(), caption: caption.into(), names, head: head.collect(), ..Self::default() }
    }

    /// The same table with `rows`; a rule stands above each row whose second cell differs from the one before.
    pub fn with(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows = rows.into_iter().collect();
        self
    }

    /// Rules above rows at which the text of the cell `column` changes.
    pub fn ruled_by(mut self, column: usize) -> Self {
        let text = |row: &Vec<Cell>| row.get(column).map(|cell| cell.text.clone());
        self.ruled = (1..self.rows.len()).filter(|&i| text(&self.rows[i]) != text(&self.rows[i - 1])).collect();
        self
    }

    /// The table, unless it has no rows.
    pub fn some(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }

    /// Without the columns in which no row says anything; names stay.
    pub fn without_empty_columns(mut self) -> Self {
        let says = |cell: &Cell| !cell.text.is_empty() && cell.text != UNKNOWN || cell.spark.is_some();
        for column in (self.names..self.head.len()).rev() {
            if !self.rows.iter().any(|row| row.get(column).is_some_and(says)) {
                self.head.remove(column);
                self.rows.iter_mut().filter(|row| column < row.len()).for_each(|row| drop(row.remove(column)));
            }
        }
        self
    }
}

/// `12.3 to 45.6` from two texts.
pub fn interval([low, high]: [String; 2]) -> String {
    format!("{low} to {high}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_a_number_go_and_names_stay() {
        let table = Table::new("t", "", 1, &[("name", ""), ("a", ""), ("b", "")]);
        let table = table.with([vec!["".into(), UNKNOWN.into(), "1".into()]]).without_empty_columns();
        assert_eq!(table.head.iter().map(|head| head.title.as_str()).collect::<Vec<_>>(), ["name", "b"]);
        assert_eq!(table.rows[0].len(), 2);
    }
}
