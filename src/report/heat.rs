//! Token heat maps: rewards as colours on a scale that is symmetric about zero and shared by the whole report.
//!
//! Blue is above zero, orange below: the two differ in every common form of colour blindness. The page's markup is left
//! to the template.

use serde::Serialize;

use super::numbers::signed;
use super::samples::Heatmap;
use super::schema::Report;

/// One heat map, ready for a template.
#[derive(Serialize)]
pub struct View<'a> {
    prompt: &'a str,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    total: String,
    cells: Vec<Cell<'a>>,
}

#[derive(Serialize)]
struct Cell<'a> {
    token: &'a str,
    /// Whether a space stands before it.
    space: bool,
    title: String,
    colour: String,
    /// How the edit labelled the token; empty where it is unchanged or unknown.
    label: &'static str,
}

/// All heat maps of a report.
pub fn views(report: &Report) -> Vec<View<'_>> {
    let limit = limit(report);
    report.heatmaps.iter().map(|map| view(map, limit)).collect()
}

/// The largest token reward in absolute value: where the colour scale ends.
pub fn limit(report: &Report) -> f64 {
    let values = report.heatmaps.iter().flat_map(|map| &map.rows).flat_map(|row| &row.values);
    values.fold(0.0, |limit: f64, value| limit.max(value.abs()))
}

/// The background of a token: transparent at zero, full at `limit`.
pub fn colour(value: f64, limit: f64) -> String {
    let strength = if limit > 0.0 { 0.78 * (value.abs() / limit).min(1.0) } else { 0.0 };
    let hue = if value < 0.0 { "213,94,0" } else { "0,114,178" };
    format!("rgba({hue},{strength:.3})")
}

fn view(map: &Heatmap, limit: f64) -> View<'_> {
    let labels: Vec<char> = map.labels.chars().collect();
    let rows = map
        .rows
        .iter()
        .map(|row| Row {
            name: &row.name,
            total: signed(row.values.iter().sum(), 2),
            cells: (map.tokens.iter().zip(&row.values).enumerate())
                .map(|(at, (token, value))| cell(token, *value, labels.get(at).copied(), limit))
                .collect(),
        })
        .collect();
    View { prompt: &map.prompt, rows }
}

fn cell(token: &str, value: f64, label: Option<char>, limit: f64) -> Cell<'_> {
    let label = match label {
        Some('D') => "deleted",
        Some('S') => "substituted",
        Some('A') => "added",
        _ => "",
    };
    let note = if label.is_empty() { String::new() } else { format!(", {label} by the editor") };
    // The space is shown outside the coloured box: inside, it would be underlined, and doubled between words.
    let (token, space) = token.strip_prefix(' ').filter(|rest| !rest.is_empty()).map_or((token, false), |t| (t, true));
    Cell { token, space, title: format!("{}{note}", signed(value, 3)), colour: colour(value, limit), label }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn colours_are_symmetric_and_zero_is_transparent() {
        assert_eq!(colour(0.0, 2.0), "rgba(0,114,178,0.000)");
        assert_eq!(colour(2.0, 2.0), "rgba(0,114,178,0.780)");
        assert_eq!(colour(-2.0, 2.0), "rgba(213,94,0,0.780)");
        assert_eq!(colour(0.0, 0.0), "rgba(0,114,178,0.000)", "all rewards zero");
    }

    #[test]
    fn every_token_is_shown_with_its_value_and_label() {
        let report = report();
        let views = views(&report);
        let map = &report.heatmaps[0];
        assert_eq!(views[0].rows.len(), map.rows.len());
        for (row, found) in map.rows.iter().zip(&views[0].rows) {
            let text = |c: &Cell| format!("{}{}", if c.space { " " } else { "" }, c.token);
            assert_eq!(found.cells.iter().map(text).collect::<Vec<_>>(), map.tokens);
            assert!(found.cells[0].title.starts_with(&signed(row.values[0], 3)));
        }
        let labelled = views[0].rows[0].cells.iter().filter(|c| c.label == "deleted").count();
        assert_eq!(labelled, map.labels.matches('D').count());
    }
}
