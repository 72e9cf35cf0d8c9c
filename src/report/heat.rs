//! Token heat maps: rewards and advantages as colours on a scale that is symmetric about zero and shared by the whole report.
//!
//! Blue is above zero, orange below: the two differ in every common form of colour blindness. The page's markup is left
//! to the template.

use serde::Serialize;

use super::numbers::{plural, signed};
use super::samples::{Heatmap, HeatmapRow};
use super::schema::Report;
use super::svg::{Anchor, Svg, shortened};
use super::view::Chart;

/// Share of the values that lie within the colour scale; the others have its end colours.
const WITHIN: f64 = 0.9;
/// Characters of tokens on a line.
const LINE: usize = 92;

/// One heat map, ready for a template.
#[derive(Serialize)]
pub struct View<'a> {
    number: usize,
    prompt: &'a str,
    /// Where the response comes from, in words.
    origin: String,
    edited: Option<&'a str>,
    lines: Vec<Line<'a>>,
    /// The same numbers as a table: a row a token.
    table: super::tables::Table,
    chart: Chart,
}

impl View<'_> {
    /// The map as a picture.
    pub const fn chart(&self) -> &Chart {
        &self.chart
    }
}

/// Tokens that stand on one line, with the rows below them.
#[derive(Serialize)]
struct Line<'a> {
    tokens: Vec<Token<'a>>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Token<'a> {
    text: &'a str,
    /// How the edit labelled the token; empty where it is unchanged or unknown.
    label: &'static str,
    /// The label's letter.
    letter: String,
}

#[derive(Serialize)]
struct Row {
    name: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    /// As `report.json` has it.
    value: f64,
    shown: String,
    title: String,
    colour: String,
}

/// All heat maps of a report.
pub fn views(report: &Report) -> Vec<View<'_>> {
    let limit = limit(report);
    report.heatmaps.iter().enumerate().map(|(i, map)| view(i + 1, map, limit)).collect()
}

/// Where the colour scale ends: beyond it lies one in ten of the values that are not zero.
pub fn limit(report: &Report) -> f64 {
    let rows = report.heatmaps.iter().flat_map(|map| &map.rows);
    let mut sizes: Vec<f64> = rows.flat_map(|row| &row.values).map(|value| value.abs()).filter(|v| *v > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    #[allow(clippy::cast_sign_loss, reason = "a share of a count")]
    let at = (WITHIN * sizes.len() as f64).ceil() as usize;
    sizes.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The background of a token: transparent at zero, full at `limit`.
pub fn colour(value: f64, limit: f64) -> String {
    let strength = if limit > 0.0 { 0.78 * (value.abs() / limit).min(1.0) } else { 0.0 };
    let hue = if value < 0.0 { "213,94,0" } else { "0,114,178" };
    format!("rgba({hue},{strength:.3})")
}

/// The colours of the scale from its lowest to its highest end.
pub fn scale() -> Vec<String> {
    (-5..=5).map(|i| colour(f64::from(i) / 5.0, 1.0)).collect()
}

fn view(number: usize, map: &Heatmap, limit: f64) -> View<'_> {
    let labels: Vec<char> = map.labels.chars().collect();
    let token = |at: usize| {
        let letter = labels.get(at).copied();
        Token { text: &map.tokens[at], label: label(letter), letter: letter.map(String::from).unwrap_or_default() }
    };
    let line = |range: &std::ops::Range<usize>| Line {
        tokens: range.clone().map(token).collect(),
        rows: map.rows.iter().map(|row| cells(map, row, range.clone(), limit)).collect(),
    };
    View {
        number,
        prompt: &map.prompt,
        origin: origin(map),
        edited: map.edited.as_deref(),
        lines: broken(&map.tokens).iter().map(line).collect(),
        table: table(number, map),
        chart: chart(number, map, limit),
    }
}

/// Where the response comes from, in words.
fn origin(map: &Heatmap) -> String {
    let from = match map.drawn_from.as_str() {
        "edit" => "held-out original that was edited",
        "win" => "drawn from the wins",
        "loss" => "drawn from the losses",
        _ => "drawn from all",
    };
    let outcome = map.outcome.map_or_else(String::new, |outcome| format!(", {} against the reference", word(outcome)));
    let by = map.variant.as_ref().map_or_else(String::new, |variant| format!("{variant}: "));
    format!("{by}{from}{outcome} ({}, seed {})", plural(map.budget, "annotation"), map.seed)
}

/// An outcome in a word.
pub fn word(outcome: f64) -> &'static str {
    match outcome {
        outcome if outcome > 0.75 => "wins",
        outcome if outcome > 0.25 => "draws",
        _ => "loses",
    }
}

fn label(letter: Option<char>) -> &'static str {
    match letter {
        Some('D') => "deleted",
        Some('S') => "substituted",
        Some('A') => "added",
        _ => "",
    }
}

/// What a row shows, in words.
fn row_name(row: &HeatmapRow) -> String {
    match row.kind.as_str() {
        "advantage" => format!("advantage, {}", row.name),
        "token" => format!("token RM, {}", row.name),
        "sequence" => format!("sequence RM, {}", row.name),
        _ => row.name.clone(),
    }
}

fn cells(map: &Heatmap, row: &HeatmapRow, range: std::ops::Range<usize>, limit: f64) -> Row {
    let name = row_name(row);
    let cell = |at: usize| {
        let value = *row.values.get(at)?;
        let title = format!("{} {}: {}", name, map.tokens[at].trim(), signed(value, 3));
        Some(Cell { value, shown: signed(value, 2), title, colour: colour(value, limit) })
    };
    Row { cells: range.filter_map(cell).collect(), name }
}

/// Ranges of tokens that fit on a line.
fn broken(tokens: &[String]) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (at, token) in tokens.iter().enumerate() {
        let width = width(token);
        if at > start && length + width > LINE {
            lines.push(start..at);
            (start, length) = (at, 0);
        }
        length += width;
    }
    lines.extend((start < tokens.len()).then_some(start..tokens.len()));
    lines
}

/// Characters that a token's column takes.
fn width(token: &str) -> usize {
    token.trim().chars().count().max(3) + 2
}

fn table(number: usize, map: &Heatmap) -> super::tables::Table {
    let caption = format!("Response {number} token by token");
    let head = [("token", ""), ("edit", "")];
    let mut table = super::tables::Table::new(format!("tokens-{number}"), caption, 2, &head);
    table.head.extend(map.rows.iter().map(|row| super::tables::Head { title: row_name(row), metric: "token_reward" }));
    let labels: Vec<char> = map.labels.chars().collect();
    let row = |at: usize| -> Vec<super::tables::Cell> {
        let letter = labels.get(at).map(ToString::to_string).unwrap_or_default();
        let values = map.rows.iter().map(|row| row.values.get(at).map_or_else(String::new, |x| signed(*x, 3)).into());
        [map.tokens[at].trim().into(), letter.into()].into_iter().chain(values).collect()
    };
    table.with((0..map.tokens.len()).map(row))
}

/// The heat map as a picture.
fn chart(number: usize, map: &Heatmap, limit: f64) -> Chart {
    const CHARACTER: f64 = 6.6;
    const NAME: f64 = 176.0;
    const ROW: f64 = 16.0;
    let lines = broken(&map.tokens);
    let labels: Vec<char> = map.labels.chars().collect();
    let block = ROW * (map.rows.len() + 1) as f64 + 18.0;
    let (size, title) = ([NAME + CHARACTER * (LINE + 4) as f64, 30.0 + block * lines.len() as f64], origin(map));
    let mut svg =
        Svg::new(size[0], size[1], &title, &format!("Prompt: {}. Every token's numbers stand below.", map.prompt));
    svg.text("head", [6.0, 16.0], Anchor::Start, &shortened(&title, 110));
    for (i, line) in lines.iter().enumerate() {
        let top = 34.0 + block * i as f64;
        for (row, of) in map.rows.iter().enumerate() {
            let y = top + ROW * (row + 1) as f64;
            svg.text("row", [NAME - 8.0, y + 10.0], Anchor::End, &shortened(&row_name(of), 28));
        }
        let mut x = NAME;
        for at in line.clone() {
            let wide = CHARACTER * width(&map.tokens[at]) as f64;
            let class = match labels.get(at) {
                Some('D') => "row deleted",
                Some('S' | 'A') => "row changed",
                _ => "row",
            };
            svg.text(class, [x + wide / 2.0, top + 10.0], Anchor::Middle, map.tokens[at].trim());
            for (row, of) in map.rows.iter().enumerate() {
                let y = top + ROW * (row + 1) as f64 - 1.0;
                if let Some(value) = of.values.get(at) {
                    svg.cell([x + 0.5, y], [wide - 1.0, ROW - 1.0], &colour(*value, limit));
                }
            }
            x += wide;
        }
    }
    Chart::new(format!("heatmap-{number}.svg"), format!("Heat map {number}: {title}"), &["token_reward"], &svg)
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
    fn the_scale_ends_where_few_values_lie_beyond() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let rows = vec![HeatmapRow { values, ..HeatmapRow::default() }];
        let map = Heatmap { rows, ..Heatmap::default() };
        let report = Report { heatmaps: vec![map], ..Report::default() };
        assert_eq!((limit(&report), limit(&Report::default())), (90.0, 0.0));
    }

    #[test]
    fn every_token_is_shown_with_its_value_and_label() {
        let report = report();
        let views = views(&report);
        let map = &report.heatmaps[0];
        let found: Vec<&str> = views[0].lines.iter().flat_map(|line| &line.tokens).map(|token| token.text).collect();
        assert_eq!(found, map.tokens);
        for (i, row) in map.rows.iter().enumerate() {
            let values: Vec<f64> =
                views[0].lines.iter().flat_map(|line| &line.rows[i].cells).map(|c| c.value).collect();
            assert_eq!(values, row.values);
        }
        let labelled = views[0].lines.iter().flat_map(|line| &line.tokens).filter(|token| token.label == "deleted");
        assert_eq!(labelled.count(), map.labels.matches('D').count());
    }

    #[test]
    fn lines_are_as_long_as_fits() {
        let tokens: Vec<String> = (0..40).map(|i| "x".repeat(1 + i % 9)).collect();
        let lines = broken(&tokens);
        assert!(lines.len() > 1 && lines.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((lines[0].start, lines[lines.len() - 1].end), (0, 40));
        assert!(lines.iter().all(|line| tokens[line.clone()].iter().map(|t| width(t)).sum::<usize>() <= LINE));
        assert!(broken(&[]).is_empty());
    }
}
